"""The command `prune` from a checkpoint to a smaller file that runs, and `train --sparsity` before it."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend
from edgepose.errors import UsageError
from edgepose.model.file import read_model
from edgepose_export.cli.main import run
from edgepose_export.network.checkpoint import load_deployed, load_network, save_network
from edgepose_export.network.layers import ConvNorm
from edgepose_export.prune_runs import PruneOptions, prune
from edgepose_export.training.curve import read
from testing.export.folders import write_dotted
from testing.export.tiny import PRUNABLE, TINY_REFINER, lively


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prune")
    save_network(folder / "full.pt", lively(1, PRUNABLE))
    write_dotted(folder / "mine")
    phase = {"name": "short", "pictures": 8, "learning_rate": 0.05, "train": ["trunk", "neck", "head"], "sizes": [64], "batch": 8}
    (folder / "short.yaml").write_text(yaml.safe_dump({"name": "short", "phases": [phase]}))
    return folder


def scale(path: Path) -> float:
    """Return the mean scale in the trained batch-norms, each over its layer's deviation, which it starts as."""
    norms = [unit.norm for name, unit in load_network(path).named_modules() if isinstance(unit, ConvNorm) and name.startswith("neck")]
    shares = [norm.weight.detach().abs() / norm.running_var.sqrt() for norm in norms if norm is not None and norm.running_var is not None]
    return float(np.mean([float(share.mean()) for share in shares]))


def test_the_command_writes_a_smaller_file_that_runs(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    arguments = ["prune", str(folder / "full.pt"), "--data", str(folder / "mine"), "--size", "96", "--keep", "0.7", "--output", str(output)]
    arguments += ["--method", "activation", "--pictures", "8", "--recipe", str(folder / "short.yaml")]
    assert run(arguments) == 0
    printed = " ".join(capfd.readouterr().err.split())
    assert "multiply-adds" in printed
    full, pruned = load_deployed(folder / "full.pt"), load_deployed(output / "pruned.pt")
    assert pruned.spec != full.spec
    assert [row["steps"] for row in read(output / "round-1" / "log.csv")] == ["0", "1"]
    file = read_model(output / "pruned.onnx")
    assert run(["onnx", str(folder / "full.pt"), "--output", str(tmp_path / "full.onnx")]) == 0
    assert (output / "pruned.onnx").stat().st_size < 0.9 * (tmp_path / "full.onnx").stat().st_size
    backend = open_backend(file, ModelConfig(backend="cpu"))
    found = backend.run(np.zeros((1, 96, 64, 3), np.uint8))
    backend.close()
    assert found.boxes.shape == (1, PRUNABLE.candidates, 4)
    times = {path: path.stat().st_mtime_ns for path in output.rglob("start.pt")}
    options = PruneOptions(
        str(folder / "full.pt"), [str(folder / "mine")], output, "activation", 0.7, pictures=8, size=96,
        recipe=str(folder / "short.yaml"), resume=True,
    )  # fmt: skip
    prune(options)  # nothing is left to do
    assert times == {path: path.stat().st_mtime_ns for path in output.rglob("start.pt")}
    assert load_deployed(output / "pruned.pt").spec == pruned.spec


def test_sparsity_takes_scales_away_and_prune_reads_them(folder: Path, tmp_path: Path) -> None:
    arguments = ["--warm-start", str(folder / "full.pt"), "--data", str(folder / "mine"), "--pictures", "32", "--sparsity", "0.5"]
    assert run(["train", str(folder / "short.yaml"), *arguments, "--output", str(tmp_path / "sparse")]) == 0
    assert scale(tmp_path / "sparse" / "last.pt") < 0.99  # 1 at the start
    options = PruneOptions(
        str(tmp_path / "sparse" / "last.pt"), [str(folder / "mine")], tmp_path / "run", "norm", keep=0.85, rounds=2, size=96
    )
    result = prune(options)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["pruned.pt", "round-1", "round-2"]
    assert result.multiply_adds <= 0.85 * result.full_multiply_adds
    assert result.parameters < result.full_parameters


def test_what_cannot_be_pruned_is_refused(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_network(tmp_path / "refiner.pt", lively(0, TINY_REFINER))
    assert run(["prune", str(tmp_path / "refiner.pt"), "--data", str(folder / "mine"), "--output", str(tmp_path / "run")]) == 78
    assert "is a refiner" in capfd.readouterr().err
    with pytest.raises(UsageError, match="expected a share between 0 and 1"):
        prune(PruneOptions("ghost-n", [str(folder / "mine")], tmp_path, keep=1.5))
