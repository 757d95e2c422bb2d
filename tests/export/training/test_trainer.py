"""Training from end to end on a handful of pictures: it learns, stops, goes on where it stopped, and works in company."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
import yaml
from msgspec.structs import replace

from edgepose.errors import ConfigError
from edgepose_export.data.device_batches import DevicePictures
from edgepose_export.network.model import GhostPose, load_network, read_checkpoint, save_network
from edgepose_export.training.processes import choose_device
from edgepose_export.training.recipe import DistillationWeights, LabelWeights, Phase, Recipe, load_recipe
from edgepose_export.training.schedule import learning_rate_factor
from edgepose_export.training.trainer import Trainer, TrainingProgress
from testing.export.folders import write_dotted
from testing.export.tiny import TINY

TRAINED = ["backbone.blocks.2", "backbone.blocks.3", "backbone.blocks.4", "backbone.blocks.5", "backbone.context", "neck"]


def recipe(pictures: int = 24) -> Recipe:
    return Recipe(
        name="tiny",
        network=TINY,
        phases=[
            Phase("distill", pictures, 0.02, TRAINED, frozen_blocks=2, distillation=DistillationWeights(1, 1, 0), sizes=(64,), batch=4),
            Phase(
                "labels", 8, 0.01, TRAINED, gentle=["head"], frozen_blocks=2, distillation=DistillationWeights(0, 0, 0.5),
                labels=LabelWeights(1, 1, 1, 1, 1, 1), augmentation="full", sizes=(64,), batch=4,
            ),
        ],
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dotted(tmp_path / "data")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    teacher, student = GhostPose(TINY), GhostPose(TINY)
    student.load_state_dict(teacher.state_dict())
    for block in list(student.backbone.blocks)[2:]:
        for parameter in block.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
    path = tmp_path / "start.pt"
    save_network(path, student, teacher={"spec": msgspec.to_builtins(TINY), "state": teacher.state_dict()})
    return path


def silent(progress: TrainingProgress) -> None:
    """Report nothing."""


def test_a_student_comes_nearer_to_its_teacher(data: Path, start: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    trainer = Trainer(recipe(160), [data], start, tmp_path / "run", resume=False, measure=lambda network: 0.125)
    assert trainer.run(0, lambda progress: losses.append(progress.losses.get("distill_blocks", 0.0)))
    assert losses[39] < 0.7 * losses[0]
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["distill", "labels"]
    assert rows[-1]["AP"] == "0.125"
    assert "refined=" in rows[-1]["losses"]
    assert (tmp_path / "run" / "curve.png").stat().st_size > 1000


def test_pictures_painted_on_the_device_teach_as_well(data: Path, start: Path, tmp_path: Path) -> None:
    """As on CUDA, with the CPU as the device."""
    losses: list[float] = []
    trainer = Trainer(recipe(160), [data], start, tmp_path / "run", resume=False)
    trainer.pictures = DevicePictures(trainer.data, trainer.device)
    assert trainer.run(0, lambda progress: losses.append(progress.losses.get("distill_blocks", 0.0)))
    assert losses[39] < 0.7 * losses[0]


def test_each_process_has_a_gpu_of_its_own() -> None:
    assert choose_device(0, 0) == choose_device(3, 0) == torch.device("cpu")
    assert [choose_device(rank, 2) for rank in range(2)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    with pytest.raises(ConfigError, match="process 3 of this machine"):
        choose_device(2, 2)


def test_what_stands_still_does_not_move(data: Path, start: Path, tmp_path: Path) -> None:
    trainer = Trainer(recipe(), [data], start, tmp_path / "run", resume=False)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run(0, silent)
    after = trainer.network.state_dict()
    for name, value in before.items():
        moved = not torch.equal(value, after[name])
        assert moved == name.startswith((*TRAINED, "head")), name


def test_a_run_in_two_parts_is_the_run_in_one(data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str, *, parts: bool) -> dict[str, torch.Tensor]:
        torch.set_num_threads(1)
        if parts:
            first = Trainer(recipe(), [data], start, tmp_path / name, resume=True)
            assert not first.run(1e-9, silent)  # time is over after one step
            assert first.state.pictures == 4
            # Learning rates stay relative to the phase's first weights, even where a tensor has grown meanwhile.
            saved = read_checkpoint(tmp_path / name / "last.pt")["training"]["sizes"]
            assert saved == pytest.approx(first.state.sizes)
            assert set(saved) > {"backbone.context.primary.conv.weight"}
        last = Trainer(recipe(), [data], start, tmp_path / name, resume=True)
        assert last.run(0, silent)
        state: dict[str, torch.Tensor] = read_checkpoint(tmp_path / name / "last.pt")["state"]
        return state

    whole, joined = run("whole", parts=False), run("joined", parts=True)
    for name, value in whole.items():
        assert torch.allclose(value.float(), joined[name].float(), atol=1e-5), name


def test_labels_alone_need_no_teacher(data: Path, start: Path, tmp_path: Path) -> None:
    save_network(tmp_path / "trained.pt", load_network(start), half=True)
    alone = replace(recipe(), phases=[replace(recipe().phases[1], distillation=DistillationWeights())])
    assert Trainer(alone, [data], tmp_path / "trained.pt", tmp_path / "run", resume=False).run(0, silent)
    with pytest.raises(ConfigError, match="holds no teacher, and phase distill of recipe tiny distills from one"):
        Trainer(recipe(), [data], tmp_path / "trained.pt", tmp_path / "run", resume=False)


def test_two_processes_share_a_run(data: Path, start: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(msgspec.to_builtins(recipe())))
    program = "from edgepose_export.__main__ import main; main()"
    script = tmp_path / "train.py"
    script.write_text(program)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), "train", str(path),
        "--data", str(data), "--warm-start", str(start), "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    training = read_checkpoint(tmp_path / "run" / "last.pt")["training"]
    assert training["phase"] == 2
    assert training["steps"] == 24 // 8 + 8 // 8


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda r: msgspec.structs.replace(r, phases=[]), "no phases"),
        (lambda r: msgspec.structs.replace(r, network=msgspec.structs.replace(TINY, head=24)), "another network"),
        (lambda r: msgspec.structs.replace(r, phases=[msgspec.structs.replace(r.phases[0], train=["nowhere"])]), "nowhere"),
    ],
)
def test_what_does_not_fit_is_refused(data: Path, start: Path, tmp_path: Path, change: Callable[[Recipe], Recipe], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Trainer(change(recipe()), [data], start, tmp_path / "run", resume=False).run(0, silent)


@pytest.mark.parametrize("text", ["name: [", "name: a\nnetwork: {blocks: []}\nspeed: 3", "name: a"])
def test_a_bad_recipe_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_recipe(tmp_path / "bad.yaml")


def test_the_learning_rate_rises_and_falls() -> None:
    values = [learning_rate_factor(done, 0.1, 0.05) for done in (0, 0.05, 0.1, 0.55, 1.0)]
    assert values == pytest.approx([0.01, 0.5, 1.0, 0.525, 0.05])
