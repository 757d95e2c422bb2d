"""Cards of shipped models are what their files say."""

from pathlib import Path

import pytest

from edgepose_export.make_model.card import card, files_by_model
from edgepose_export.network.checkpoint import load_deployed
from edgepose_export.network.to_onnx import Card, to_onnx
from edgepose_export.onnx_file import write_model
from testing.export.tiny import TINY, TINY_REFINER, lively
from tools.write_cards import ASSETS, CHECKPOINTS

MODELS = files_by_model(ASSETS)


@pytest.mark.parametrize("name", MODELS)
def test_each_model_has_the_card_that_it_asks_for(name: str) -> None:
    """Else: python -m tools.write_cards."""
    assert (ASSETS / f"{name}.md").read_text(encoding="utf-8") == card(name, MODELS[name], load_deployed(CHECKPOINTS / f"{name}.pt"))


def test_no_card_and_no_checkpoint_is_left_without_its_model() -> None:
    assert {path.stem for path in ASSETS.glob("*.md")} == set(MODELS)
    assert {path.stem for path in CHECKPOINTS.glob("*.pt")} == set(MODELS)
    assert {file.path.name for files in MODELS.values() for file in files} == {path.name for path in ASSETS.glob("*.onnx")}


def test_a_card_describes_all_files_of_a_model(tmp_path: Path) -> None:
    network = lively()
    for name, ap in (("tiny", 0.5), ("tiny-int8", 0.25)):
        accuracy = {"data": "dots", "images": 3, "people": 4, "AP": ap}
        write_model(to_onnx(network, Card("tiny", 96, "pictures of dots", accuracy)), tmp_path / f"{name}.onnx")
    write_model(to_onnx(lively(0, TINY_REFINER), Card("again", 64)), tmp_path / "again.onnx")
    models = files_by_model(tmp_path)
    assert {name: [file.path.name for file in files] for name, files in models.items()} == {
        "again": ["again.onnx"],
        "tiny": ["tiny.onnx", "tiny-int8.onnx"],
    }
    text = card("tiny", models["tiny"], network)
    assert "| Trained on | pictures of dots |" in text
    assert f"{len(TINY.ghost)} Ghost modules" in text
    assert "RTMDet-nano by OpenMMLab" in text
    assert "On `dots`, 3 pictures with 4 people" in text
    assert "| AP | 0.500 | 0.250 |" in text
    assert all(file.sha256 in text for file in models["tiny"])
    text = card("again", models["again"], lively(0, TINY_REFINER))
    assert "| Input | 32x64 pixels, crop of 1.25 x the box grown to the crop's aspect |" in text
    assert "Not measured." in text
