"""The commands as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import numpy as np
import pytest
import torch
import yaml
from msgspec.structs import replace

import edgepose
from edgepose.model.file import read_model
from edgepose_export.cli.main import COMMANDS, NEEDS_TORCH, cli
from edgepose_export.network.checkpoint import load_deployed, load_network, read_checkpoint, save_network
from edgepose_export.network.ghost import GhostModule
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import RTMDET_NANO, PoseNetwork, PoseSpec
from edgepose_export.network.refiner import RefinerNetwork
from edgepose_export.training.recipe import Phase, Recipe
from edgepose_export.training.refiner_losses import RefinerWeights
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, TINY_REFINER, lively
from testing.onnx_files import CANDIDATES, write_edgepose, write_refiner
from testing.shared import SHARED


def edgepose_export(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgepose_export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    network = lively()
    average = {name: value * 0.9 if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_network(folder / "last.pt", network, average=average)
    save_network(folder / "refiner.pt", lively(0, TINY_REFINER))
    write_dotted(folder / "data", sizes=((300, 220), (300, 420)) * 17)
    return folder


def test_the_list_of_commands_loads_none_of_them() -> None:
    program = "import sys; from edgepose_export.cli.main import run; run(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_list_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name


def without_torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = "import sys; sys.modules['torch'] = None; from edgepose_export.__main__ import main; main()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_the_version_is_that_of_edgepose() -> None:
    assert edgepose_export("--version").stdout == f"edgepose-export, version {edgepose.__version__}\n"


@pytest.mark.parametrize("name", NEEDS_TORCH)
def test_without_torch_it_says_what_to_install(name: str) -> None:
    done = without_torch(name, "--help")
    assert done.returncode == 69
    expected = "edgepose-export needs the library torch, which is not installed here: in a checkout of edgepose, run "
    assert done.stderr == expected + "`pip install './export[train]'` or `make setup`\n"


def test_what_runs_model_files_needs_no_torch(folder: Path) -> None:
    assert edgepose_export("onnx", folder / "last.pt", "--output", folder / "float.onnx", "--size", 96).returncode == 0
    arguments = ("--data", folder / "data", "--pictures", 32)
    refiner = write_refiner(folder / "alone.onnx")
    printed = []
    for command in (
        ("quantize", folder / "float.onnx", *arguments, "--output", folder / "small.onnx"),
        ("sensitivity", folder / "float.onnx", *arguments),
        ("evaluate", folder / "small.onnx", folder / "data", "--json", "--limit", 2),
        ("evaluate", folder / "small.onnx", folder / "data", "--boxes", "--json", "--limit", 2),
        ("evaluate", refiner, folder / "data", "--true-boxes", "--json", "--limit", 2),
        ("evaluate", folder / "small.onnx", folder / "data", "--robustness", "--json", "--limit", 2),
        (
            "pseudo-label",
            folder / "data",
            "--model",
            folder / "small.onnx",
            *("--refiner", refiner, "--size", 96),
            "--output",
            folder / "labeled",
        ),
    ):
        done = without_torch(*command)
        assert done.returncode == 0, done.stderr
        if command[0] == "evaluate":
            printed.append(json.loads(done.stdout))
    poses, boxes, alone, robustness = printed
    assert poses["images"] == boxes["images"] == alone["images"] == 2
    keys = {"box_AP", "box_AP50", "recall_lt24", "recall_24_48", "recall_gt48", "false_per_image"}
    assert boxes.keys() == keys | {"images", "boxes", "precision"}
    assert alone.keys() == {"OKS", "AP", "PCK", "confident_right", "images", "people", "precision"}
    assert robustness["turned by a quarter"].keys() == {*poses, "AP_of_clean"}
    assert read_model(folder / "small.onnx").info.precision == "int8"
    assert (folder / "labeled" / "annotations.json").exists()


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(NEEDS_TORCH)))
def test_other_commands_show_their_help_without_torch(name: str) -> None:
    assert without_torch(name, "--help").returncode == 0


def test_from_a_checkpoint_to_figures_of_an_int8_file(folder: Path) -> None:
    made = edgepose_export("onnx", folder / "last.pt", "--output", folder / "tiny.onnx", "--size", 96, "--trained-on", "dots")
    assert made.returncode == 0, made.stderr
    info = read_model(folder / "tiny.onnx").info
    assert (info.name, info.input_size, info.trained_on) == ("tiny", 96, "dots")
    arguments = ("--data", folder / "data", "--pictures", 32, "--method", "minmax", "--float", "head.*.out")
    made = edgepose_export("quantize", folder / "tiny.onnx", *arguments, "--output", folder / "int8.onnx")
    assert made.returncode == 0, made.stderr
    measured = edgepose_export("evaluate", folder / "int8.onnx", folder / "data", "--json", "--limit", 4, "--record")
    assert measured.returncode == 0, measured.stderr
    figures = json.loads(measured.stdout)
    assert set(figures) == {
        "AP", "AP50", "AP75", "APm", "APl", "AR", "PCK", "images", "people", "precision", "right", "found", "confident_right",
    }  # fmt: skip
    assert (figures["images"], figures["people"], figures["precision"]) == (4, 4, "int8")
    assert read_model(folder / "int8.onnx").info.accuracy == {"data": "data", **figures}


def test_figures_of_a_pair_are_written_into_the_refiner(folder: Path) -> None:
    first = write_edgepose(folder / "first.onnx", scores=np.full(CANDIDATES, 20, np.float32))  # dots on black are dark
    refiner = write_refiner(folder / "again.onnx")
    before = first.read_bytes()
    arguments = ("--refiner", refiner, "--refine-people", 3, "--score", 0.02, "--json", "--limit", 4, "--record")
    measured = edgepose_export("evaluate", first, folder / "data", *arguments)
    assert measured.returncode == 0, measured.stderr
    figures = json.loads(measured.stdout)
    assert figures["refiner"] == "again.onnx"
    assert 0 < figures["refined"] <= 3
    assert first.read_bytes() == before
    info = read_model(refiner).info
    assert info.accuracy == {"data": "data", **figures, "model": "first.onnx"}
    assert info.score_weights == (-1, 0.5, 2)


def test_averaged_weights_are_another_file_than_the_last_ones(folder: Path) -> None:
    for choice in ("--average", "--weights"):
        assert edgepose_export("onnx", folder / "last.pt", "--output", folder / f"{choice}.onnx", "--size", 96, choice).returncode == 0
    assert read_model(folder / "--average.onnx").sha256 != read_model(folder / "--weights.onnx").sha256


def test_a_refiner_file_has_the_sides_of_its_crop(folder: Path) -> None:
    made = edgepose_export("onnx", folder / "refiner.pt", "--output", folder / "refiner.onnx")
    assert made.returncode == 0, made.stderr
    assert "input 32x64 px" in made.stderr
    info = read_model(folder / "refiner.onnx").info
    assert (info.task, info.input_size, info.input_height, info.input_width, info.crop_margin) == ("refine", 64, 64, 32, 1.25)


@pytest.mark.parametrize(
    ("start", "recipe"),
    [
        ("last.pt", Recipe("tiny", TINY, [Phase("pose", 8, 0.01, ["neck", "head", "refinement"], sizes=(64,), batch=4)])),
        (
            "refiner.pt",
            Recipe(
                "tiny", TINY_REFINER, [Phase("crops", 8, 0.01, ["trunk"], losses=RefinerWeights(teacher=1), augmentation="crops", batch=4)]
            ),
        ),
    ],
    ids=["pose", "refiner"],
)
def test_training_writes_a_checkpoint_that_can_be_exported(folder: Path, tmp_path: Path, start: str, recipe: Recipe) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(recipe)))
    run, data = tmp_path / "run", folder / "data"
    arguments = ("--data", data, "--warm-start", folder / start, "--output", run, "--evaluate", data, "--size", 64, "--threads", 1)
    done = edgepose_export("train", tmp_path / "tiny.yaml", *arguments)
    assert done.returncode == 0, done.stderr
    assert {path.suffix for path in run.iterdir()} == {".pt", ".csv", ".png"}
    header, *rows = (run / "log.csv").read_text().splitlines()
    assert all(row.split(",")[header.split(",").index("AP")] != "" for row in (rows[0], rows[-1]))  # before training and at the end
    made = edgepose_export("onnx", run / "last.pt", "--output", tmp_path / "trained.onnx", "--size", 64)
    assert made.returncode == 0, made.stderr
    assert read_model(tmp_path / "trained.onnx").info.name == "trained"


def test_a_calibrated_pose_network_has_another_score_alone(folder: Path, tmp_path: Path) -> None:
    done = edgepose_export(
        "calibrate-score", folder / "last.pt", "--data", folder / "data", "--size", 96, "--output", tmp_path / "final.pt"
    )
    if "does not rank" in done.stderr:  # a network that knows nothing may rank its finds either way
        assert done.returncode == 78
        return
    assert done.returncode == 0, done.stderr
    before, after = load_deployed(folder / "last.pt"), load_network(tmp_path / "final.pt")
    assert isinstance(before, PoseNetwork)
    assert isinstance(after, PoseNetwork)
    assert float(after.score_slope) > 0
    assert float(after.score_bias) != 0
    others = {name: value for name, value in before.state_dict().items() if not name.startswith("score_")}
    assert all(torch.allclose(after.state_dict()[name], value, rtol=1e-3, atol=1e-3) for name, value in others.items())


def test_a_calibrated_refiner_weighs_both_poses(folder: Path, tmp_path: Path) -> None:
    first = write_edgepose(tmp_path / "first.onnx", scores=np.linspace(10, 30, CANDIDATES, dtype=np.float32))
    arguments = ("--data", folder / "data", "--data", folder / "data", "--first", first, "--output", tmp_path / "final.pt")
    done = edgepose_export("calibrate-score", folder / "refiner.pt", *arguments)
    assert done.returncode == 0, done.stderr
    network = load_network(tmp_path / "final.pt")
    assert isinstance(network, RefinerNetwork)
    assert network.score_weights.tolist() != [0, 1, 0]


@pytest.mark.skipif(SHARED is None, reason="the teachers' files are not part of the project")
def test_ghostify_makes_a_student_with_norms_and_keeps_the_teacher(folder: Path, tmp_path: Path) -> None:
    assert SHARED is not None
    spec = replace(RTMDET_NANO, ghost=("trunk.stages.3.csp.join", "neck.reduce32"), early_activation="relu", refinements=1)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(Recipe("tiny", spec))))
    arguments = ("--data", folder / "data", "--pictures", 4, "--size", 96, "--output", tmp_path / "start.pt")
    done = edgepose_export("ghostify", tmp_path / "tiny.yaml", "--teacher", SHARED / "models" / "rtmdet-nano-person.onnx", *arguments)
    assert done.returncode == 0, done.stderr
    assert "neck.reduce32" in done.stderr
    said = done.stderr.splitlines()
    for line in ("pictures: 4 of 4", "layers: 0 of 2", "layers: 2 of 2", "statistics of norms: 1 of 1"):  # never long without a line
        assert line in said
    network = load_network(tmp_path / "start.pt")
    assert network.spec == spec
    assert {name for name, module in network.named_modules() if isinstance(module, GhostModule)} == set(spec.ghost)
    plain = {name for name, module in network.named_modules() if isinstance(module, ConvNorm) and module.norm is None}
    assert plain == {"refinement.narrow"}  # which no teacher has
    teacher = msgspec.convert(read_checkpoint(tmp_path / "start.pt")["teacher"]["spec"], PoseSpec)
    assert (teacher.ghost, teacher.early_activation) == ((), "silu")


@pytest.mark.skipif(SHARED is None, reason="the teachers' files are not part of the project")
def test_ghostify_starts_a_refiner_from_its_teacher(folder: Path, tmp_path: Path) -> None:
    assert SHARED is not None
    arguments = ("--data", folder / "data", "--pictures", 4, "--output", tmp_path / "start.pt")
    done = edgepose_export("ghostify", "refine-n", "--teacher", SHARED / "models" / "tinypose-128x96.onnx", *arguments)
    assert done.returncode == 0, done.stderr
    network, checkpoint = load_network(tmp_path / "start.pt"), read_checkpoint(tmp_path / "start.pt")
    assert isinstance(network, RefinerNetwork)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in checkpoint["teacher"]["state"].items())
    assert all(module.norm is not None for module in network.modules() if isinstance(module, ConvNorm))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["onnx", "nowhere.pt", "--output", "x.onnx"], 78, "checkpoint nowhere.pt does not exist"),
        (["onnx", "ghost-x", "--output", "x.onnx"], 78, "a shipped checkpoint: ghost-n, "),
        (
            ["train", "ghost-x", "--data", "data", "--warm-start", "ghost-n", "--output", "run"],
            78,
            "a shipped recipe: finetune-boxes, finetune-pose",
        ),
        (
            ["train", "ghost-n", "--data", "data", "--warm-start", "last.pt", "--output", "run"],
            78,
            "for another network than recipe ghost-n",
        ),
        (["train", "ghost-n", "--data", "data@2", "--warm-start", "last.pt", "--output", "run"], 78, "a number between 0 and 1"),
        (["ghostify", "ghost-n", "--teacher", "nowhere.onnx", "--data", "data", "--output", "x.onnx"], 78, "expected RTMDet-nano as ONNX"),
        (["ghostify", "refine-n", "--teacher", "nowhere.onnx", "--data", "data", "--output", "x.onnx"], 78, "nowhere.onnx does not exist"),
        (["calibrate-score", "refiner.pt", "--data", "data", "--output", "x.onnx"], 78, "is a refiner; --first is required for refiners"),
        (["calibrate-score", "last.pt", "--first", "ghost-n", "--data", "data", "--output", "x.onnx"], 78, "is a pose network; --first"),
        (["onnx", "refiner.pt", "--output", "x.onnx", "--height", "96", "--width", "96"], 78, "expected the refiner's own 32x64"),
        (["onnx", "last.pt", "--output", "x.onnx", "--size", "100"], 78, "multiple of 32"),
        (["quantize", "tiny.onnx", "--output", "x.onnx"], 78, "--data"),
        (["quantize", "tiny.onnx", "--output", "x.onnx", "--data", "data", "--pictures", "8"], 78, "at least 32"),
        (["quantize", "last.pt", "--output", "x.onnx", "--data", "data"], 78, "is not an ONNX file"),
        (["evaluate", "nowhere.onnx", "data"], 78, "no model 'nowhere.onnx'"),
        (["evaluate", "default", "data", "--refiner", "default"], 78, "expected a refiner (task 'refine')"),
        (["evaluate", "default", "data", "--refine-people", "3"], 64, "expected --refiner too"),
        (["evaluate", "default", "data", "--boxes", "--true-boxes"], 64, "expected one of them"),
        (["evaluate", "default", "data", "--boxes", "--record"], 64, "expected it without --boxes"),
        (["evaluate", "refine-n", "data", "--true-boxes", "--size", "320"], 64, "expected it without --size"),
        (["evaluate", "default", "data", "--true-boxes"], 78, "expected a refiner (task 'refine')"),
        (["evaluate", "default", "data", "--boxes", "--set", "night"], 78, "no picture of the set 'night'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(folder: Path, arguments: list[str], status: int, message: str) -> None:
    named = [
        str(folder / part) if part.partition("@")[0] in ("last.pt", "refiner.pt", "data", "tiny.onnx", "x.onnx", "run") else part
        for part in arguments
    ]
    result = edgepose_export(*named)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "x.onnx").exists()


@pytest.mark.skipif(SHARED is None, reason="the pictures of ../shared/data are not here")
def test_the_shipped_models_find_people_in_photographs() -> None:
    assert SHARED is not None
    coco = SHARED / "data" / "coco-dev"
    measured = edgepose_export("evaluate", "default", coco, "--refiner", "refine-n", "--json", "--limit", 20)
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["AP"] > 0.4
    measured = edgepose_export("evaluate", "default", coco, "--boxes", "--json", "--limit", 40)
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["box_AP"] > 0.35
