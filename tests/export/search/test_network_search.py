"""The search for a network: variants keep what the trained one knows, and each point is measured and can be trained on."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from msgspec.structs import replace
from torch import Tensor

from edgepose.errors import ConfigError, UsageError
from edgepose.model.file import read_model
from edgepose_export.cli.main import run
from edgepose_export.network.checkpoint import load_deployed, save_network
from edgepose_export.network.layers import count_multiply_adds
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.search import network_search
from edgepose_export.search.front import Point, front_of
from edgepose_export.search.network_search import NetworkSearchOptions, search_network
from edgepose_export.search.variants import Structure, make_variant
from edgepose_export.training.pose_losses import unexplained
from edgepose_export.training.recipe import load_recipe
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, lively

SPEC = replace(TINY, widths=(16, 16, 32, 48, 64), blocks=(1, 2, 2, 1), neck=32, keypoint_width=32, ghost=())
PHASE = {"name": "short", "pictures": 8, "learning_rate": 0.01, "train": ["trunk", "neck", "head"], "sizes": [64], "batch": 8}


def features(network: PoseNetwork, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return network.levels(network.trunk.early(x))


@pytest.mark.parametrize(
    ("structure", "error"),
    [
        (Structure((2, 2)), 1e-6),
        (Structure((1, 1), ghost=2, keep=0.7), 0.8),
    ],
)
def test_a_variant_keeps_what_the_network_knows(structure: Structure, error: float) -> None:
    full = lively(1, SPEC).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    x, other = (torch.rand((count, 3, 96, 96), generator=generator) * 4 - 2 for count in (16, 4))
    made = make_variant(full, structure, x.split(8))
    assert float(unexplained(features(made, other), features(full, other))) <= error
    assert float(unexplained(features(lively(2, made.spec), other), features(full, other))) > 1  # fresh weights
    assert made.spec.blocks == (1, *structure.blocks, 1)
    assert len(made.spec.ghost) == structure.ghost
    picture = torch.zeros(1, 3, 320, 320)
    assert count_multiply_adds(made, picture) <= structure.keep * count_multiply_adds(full, picture)


def test_a_structure_that_the_network_does_not_have_is_refused() -> None:
    full = lively(1, SPEC)
    with pytest.raises(ConfigError, match=r"\(3, 2\) blocks would stay of \(2, 2\)"):
        make_variant(full, Structure((3, 2)), [torch.zeros(1, 3, 64, 64)])


def test_the_front_holds_what_no_point_beats() -> None:
    figures = {
        "start": (0.4, 1.0),
        "faster": (0.4, 0.8),
        "better": (0.5, 1.5),
        "worse": (0.3, 0.9),
        "equal": (0.4, 0.8),
        "fast": (0.1, 0.2),
    }
    points = [Point(name, name, 320, ap, 0.0, 1.0, time, 1, 1, 1) for name, (ap, time) in figures.items()]
    assert [point.name for point in front_of(points)] == ["fast", "faster", "better"]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetworkSearchOptions:
    """A search small enough for a test."""
    monkeypatch.setattr(network_search, "_FIT_PICTURES", 6)
    monkeypatch.setattr(network_search, "_FIT_SIZE_PX", 128)
    save_network(tmp_path / "full.pt", lively(1, SPEC))
    data = write_dotted(tmp_path / "mine", sizes=((300, 220),) * 6)
    (tmp_path / "short.yaml").write_text(yaml.safe_dump({"name": "short", "phases": [PHASE]}))
    return NetworkSearchOptions(
        str(tmp_path / "full.pt"), [str(data)], data, tmp_path / "tune", trials=2, pictures=8, sizes=(96, 128), limit=2, rounds=2,
        recipe=str(tmp_path / "short.yaml"),
    )  # fmt: skip


def test_a_search_measures_the_start_and_variants(options: NetworkSearchOptions, capfd: pytest.CaptureFixture[str]) -> None:
    folder = options.output
    arguments = ["tune", options.start, "--data", options.data[0], "--evaluate", options.data[0], "--output", str(folder)]
    arguments += ["--sizes", "96", "128", "--limit", "2", "--rounds", "2", "--recipe", options.recipe, "--pictures", "8", "--trials", "2"]
    assert run(arguments) == 0
    assert "front of 2 points" in capfd.readouterr().out
    found = json.loads((folder / "trials.json").read_text())
    start, other = (Point(**point) for point in found["points"])
    assert (start.structure, start.size) == ("blocks-2-2-ghost-0-keep-1.00", 128)
    assert not list(folder.glob(f"variants/{start.structure}/**/last.pt"))  # it is as it was
    assert other.multiply_adds < start.multiply_adds
    assert other.time_ms > 0
    assert (folder / "front.png").stat().st_size > 1000
    for point in found["front"]:
        recipe = load_recipe(folder / "front" / f"{point['name']}.yaml")
        file = next(folder.glob(f"variants/{point['structure']}/train-8/{point['size']}.onnx"))
        assert read_model(file).info.input_size == point["size"]
        made = folder / "variants" / point["structure"] / "start.pt"
        assert recipe.network == load_deployed(made if made.exists() else Path(options.start)).spec
    with pytest.raises(UsageError, match="a smaller and a larger multiple of 32"):
        search_network(dataclasses.replace(options, sizes=(100, 128)))


def test_a_search_goes_on_and_compares_short_with_long(options: NetworkSearchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are neither made nor measured here: a longer training turns the order of the variants around."""
    measured: list[tuple[str, int]] = []

    def measure(self: object, structure: Structure, size: int, pictures: int) -> Point:
        measured.append((structure.name, pictures))
        ap = structure.keep / 2 + structure.ghost / 100 + sum(structure.blocks) / 1000
        short = pictures == options.pictures
        return Point(
            f"{structure.name}-{size}", structure.name, size, ap if short else 1 - ap, 0.0, 1.0, size / 128 * structure.keep, 1, 1, 1
        )

    monkeypatch.setattr(network_search._Space, "measure", measure)
    monkeypatch.setattr(network_search._Space, "write_recipe", lambda self, point, path: None)
    first = search_network(dataclasses.replace(options, trials=4))
    assert first.confirmation is None
    again = search_network(dataclasses.replace(options, trials=12, confirm=5))
    assert again.points[: len(first.points)] == first.points
    assert len([name for name, pictures in measured if pictures == options.pictures]) == 12
    assert again.confirmation is not None
    assert len(again.confirmation.points) == 5
    assert again.confirmation.spearman == pytest.approx(-1)
    assert {pictures for _, pictures in measured} == {8, 48}
    assert again.points[0].structure not in [name.rpartition("-")[0] for name in again.confirmation.points]
    best = max(point.box_ap for point in again.points)
    assert again.front[-1].box_ap == best


def test_data_or_a_network_that_cannot_be_searched_is_refused_at_once(options: NetworkSearchOptions) -> None:
    with pytest.raises(ConfigError, match="data nix cannot be read"):
        search_network(dataclasses.replace(options, data=["nix"]))
    assert not options.output.exists()
    save_network(Path(options.start), lively(1))
    with pytest.raises(ConfigError, match=r"full\.pt is a refiner, has Ghost modules or is pruned; expected a plain pose network"):
        search_network(options)
