"""Cards of shipped models are what their files say."""

from pathlib import Path

import pytest

from edgepose.model.file import read_model
from tools.write_cards import ASSETS, CHECKPOINTS, card

MODELS = sorted(ASSETS.glob("*.onnx"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_each_model_has_the_card_that_it_asks_for(path: Path) -> None:
    """Else: python -m tools.write_cards."""
    assert path.with_suffix(".md").read_text() == card(read_model(path))


def test_no_card_and_no_checkpoint_is_left_without_its_model() -> None:
    assert {path.stem for path in ASSETS.glob("*.md")} == {path.stem for path in MODELS}
    assert {path.stem for path in CHECKPOINTS.glob("*.pt")} == {read_model(path).info.name for path in MODELS}
