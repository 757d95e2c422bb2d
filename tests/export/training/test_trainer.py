"""Training from end to end on a handful of pictures: it learns, stops, goes on where it stopped, and works in company."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import pytest
import torch
import yaml
from msgspec.structs import replace

from edgepose.errors import ConfigError
from edgepose_export.data.device_batches import DevicePictures
from edgepose_export.data.mix import MixedFolder
from edgepose_export.network.checkpoint import load_network, read_checkpoint, save_network
from edgepose_export.network.layers import add_norms
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.training.callbacks import TrainingCallbacks, TrainingProgress
from edgepose_export.training.pose_losses import unexplained
from edgepose_export.training.processes import choose_device
from edgepose_export.training.recipe import Phase, PoseWeights, Recipe, load_recipe
from edgepose_export.training.refiner_losses import RefinerWeights
from edgepose_export.training.schedule import learning_rate_factor
from edgepose_export.training.trainer import Trainer
from testing.export.annotations import write
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, TINY_REFINER, lively

EARLY = ["trunk.stem", "trunk.stages.0"]
LATE = ["trunk.stages.1", "trunk.stages.2", "trunk.stages.3", "neck"]
NOTHING = PoseWeights(score=0, box=0, keypoints=0, refined=0, hold_score=0, hold_box=0)


def recipe(pictures: int = 24) -> Recipe:
    """The phases of the shipped recipe, shortened: the early stages after the teacher, then everything."""
    return Recipe(
        name="tiny",
        network=TINY,
        phases=[
            Phase("early", pictures, 0.02, EARLY, losses=replace(NOTHING, hold_early=1.0), sizes=(64,), batch=4),
            Phase(
                "pose", 8, 0.01, [*LATE, "refinement"], gentle=["head"], frozen_early=True,
                losses=PoseWeights(hold_features=0.5), augmentation="full", sizes=(64,), batch=4,
            ),
        ],
    )  # fmt: skip


def refiner_recipe(pictures: int = 160) -> Recipe:
    losses = RefinerWeights(teacher=0.5)
    return Recipe(
        "tiny-refine", TINY_REFINER, [Phase("crops", pictures, 0.02, ["trunk", "heat"], losses=losses, augmentation="crops", batch=8)]
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dotted(tmp_path / "data")


@pytest.fixture
def sources(data: Path) -> list[MixedFolder]:
    return [MixedFolder(data)]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A student whose first stages differ from its teacher's."""
    teacher, student = lively(0), lively(0)
    for name, parameter in student.named_parameters():
        if name.startswith(tuple(EARLY)) and name.endswith("weight"):
            torch.nn.init.normal_(parameter, 0, 0.2)
    path = tmp_path / "start.pt"
    save_network(path, student, teacher={"spec": msgspec.to_builtins(TINY), "state": teacher.state_dict()})
    return path


@pytest.fixture
def refiner_start(tmp_path: Path) -> Path:
    path = tmp_path / "refiner.pt"
    student, teacher = lively(0, TINY_REFINER), lively(1, TINY_REFINER)
    save_network(path, student, teacher={"spec": msgspec.to_builtins(TINY_REFINER), "state": teacher.state_dict()})
    return path


@torch.no_grad()
def strangeness(trainer: Trainer) -> float:
    """How much of the teacher's first features the network does not explain, on the pictures that it trains on."""
    assert isinstance(trainer.network, PoseNetwork)
    assert isinstance(trainer.teacher, PoseNetwork)
    x = trainer.network.normalize(torch.from_numpy(trainer.data.image(0)[None, :192, :288]))
    return float(unexplained([trainer.network.trunk.early(x)], [trainer.teacher.trunk.early(x)]))


class Recorder(TrainingCallbacks):
    """Keeps the losses of every step."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def on_step(self, progress: TrainingProgress) -> None:
        self.losses.append(progress.losses)


def test_a_student_comes_nearer_to_its_teacher(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    trainer = Trainer(recipe(160), sources, start, tmp_path / "run", resume=False, measure=lambda network: 0.125)
    before = strangeness(trainer)
    assert trainer.run()
    assert strangeness(trainer) < 0.7 * before
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["steps"], row["AP"]) for row in rows] == [
        ("early", "0", "0.125"),  # before training
        ("early", "40", "0.125"),
        ("pose", "42", "0.125"),
    ]
    names = {pair.split("=")[0] for pair in rows[-1]["losses"].split()}
    assert names == {"score", "box", "keypoints", "refined", "hold_features", "hold_score", "hold_box"}
    assert {row["skipped"] for row in rows} == {"0.0"}
    assert (tmp_path / "run" / "curve.png").stat().st_size > 1000
    sheet = cv2.imread(str(tmp_path / "run" / "pictures-pose.png"))
    assert sheet is not None
    assert sheet.shape[:2] == (4 * (2 * 64 + 6) + 6, 6 * (2 * 64 + 6) + 6)


def test_labels_and_a_teacher_improve_every_loss(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    phase = Phase("pose", 240, 0.01, [*EARLY, *LATE, "head", "refinement"], augmentation="none", sizes=(96,), batch=3, turn=0.0)
    recorder = Recorder()
    Trainer(replace(recipe(), phases=[phase]), sources, start, tmp_path / "run", resume=False, callbacks=[recorder]).run()
    first, last = recorder.losses[0], recorder.losses[-1]
    assert set(first) == {"score", "box", "keypoints", "refined", "hold_score", "hold_box", "skipped"}
    assert sum(last.values()) < 0.8 * sum(first.values())


def test_a_refiner_learns_from_labels_and_its_teacher(sources: list[MixedFolder], refiner_start: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = Trainer(
        refiner_recipe(), sources, refiner_start, tmp_path / "run", resume=False, measure=lambda network: 0.5, callbacks=[recorder]
    )
    assert trainer.run()
    losses = recorder.losses
    assert set(losses[0]) == {"labels", "teacher", "skipped"}
    assert losses[-1]["labels"] + losses[-1]["teacher"] < 0.8 * (losses[0]["labels"] + losses[0]["teacher"])
    assert trainer.averaged().spec == TINY_REFINER
    sheet = cv2.imread(str(tmp_path / "run" / "pictures-crops.png"))
    assert sheet is not None
    assert sheet.shape[:2] == (4 * (2 * 64 + 6) + 6, 6 * (2 * 32 + 6) + 6)


def test_pictures_painted_on_the_device_teach_as_well(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    """As on CUDA, with the CPU as the device."""
    trainer = Trainer(recipe(160), sources, start, tmp_path / "run", resume=False)
    trainer.pictures = DevicePictures(trainer.data, trainer.device)
    before = strangeness(trainer)
    assert trainer.run()
    assert strangeness(trainer) < 0.7 * before


def test_norms_keep_their_statistics_unless_the_phase_lets_them_follow(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    network = load_network(start).eval()
    add_norms(network, lambda: network(torch.randn(4, 3, 64, 64)))
    save_network(tmp_path / "normed.pt", network)
    for follow in (False, True):
        phase = replace(recipe().phases[1], batch_statistics=follow)
        trainer = Trainer(replace(recipe(), phases=[phase]), sources, tmp_path / "normed.pt", tmp_path / str(follow), resume=False)
        before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        trainer.run()
        after = trainer.network.state_dict()
        moved = {name for name, value in before.items() if name.endswith("running_mean") and not torch.equal(value, after[name])}
        assert bool(moved) == follow
        assert not any(name.startswith(tuple(EARLY)) for name in moved)


def test_a_batch_with_broken_gradients_is_skipped(
    sources: list[MixedFolder], start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    trainer = Trainer(recipe(8), sources, start, tmp_path / "run", resume=False, callbacks=[recorder])
    normalize, calls = trainer.network.normalize, []

    def broken(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return normalize(images) * (float("nan") if len(calls) == 1 else 1.0)

    monkeypatch.setattr(trainer.network, "normalize", broken)
    trainer.run()
    assert len(calls) == 4
    assert recorder.losses[0]["skipped"] == 1
    assert recorder.losses[1]["skipped"] < 1
    assert all(torch.isfinite(value).all() for value in trainer.network.state_dict().values())


def test_each_process_has_a_gpu_of_its_own() -> None:
    assert choose_device(0, 0) == choose_device(3, 0) == torch.device("cpu")
    assert [choose_device(rank, 2) for rank in range(2)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    with pytest.raises(ConfigError, match="process 3 of this machine"):
        choose_device(2, 2)


def test_what_stands_still_does_not_move(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    phase = replace(recipe().phases[1], train=["trunk.stages.3", "refinement"], gentle=["neck"])
    trainer = Trainer(replace(recipe(), phases=[phase]), sources, start, tmp_path / "run", resume=False)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    after = trainer.network.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert all(name.startswith(("trunk.stages.3.", "refinement.", "neck.")) for name in moved)
    assert {name.split(".")[0] for name in moved} == {"trunk", "refinement", "neck"}


def test_a_run_in_two_parts_is_the_run_in_one(
    sources: list[MixedFolder], start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *, parts: bool) -> dict[str, torch.Tensor]:
        torch.set_num_threads(1)
        if parts:
            first = Trainer(recipe(), sources, start, tmp_path / name, resume=True)
            assert not first.run(1e-9)  # time is over after one step
            assert first.state.pictures == 4
            # Learning rates stay relative to the phase's first weights, even where a tensor has grown meanwhile.
            saved = read_checkpoint(tmp_path / name / "last.pt")["training"]["sizes"]
            assert saved == pytest.approx(first.state.sizes)
            assert set(saved) > {"trunk.stages.0.csp.join.conv.weight"}
        last = Trainer(recipe(), sources, start, tmp_path / name, resume=True)
        assert last.run()
        state: dict[str, torch.Tensor] = read_checkpoint(tmp_path / name / "last.pt")["state"]
        return state

    whole, joined = run("whole", parts=False), run("joined", parts=True)
    for name, value in whole.items():
        assert torch.allclose(value.float(), joined[name].float(), atol=1e-5), name


def test_labels_alone_need_no_teacher(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    save_network(tmp_path / "trained.pt", load_network(start), half=True)
    alone = replace(recipe(), phases=[replace(recipe().phases[1], losses=PoseWeights(hold_score=0, hold_box=0))])
    trainer = Trainer(alone, sources, tmp_path / "trained.pt", tmp_path / "run", resume=False)
    assert trainer.teacher is None
    assert trainer.run()


def test_a_start_without_a_teacher_is_its_own(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    save_network(tmp_path / "trained.pt", load_network(start), half=True)
    trainer = Trainer(recipe(), sources, tmp_path / "trained.pt", tmp_path / "run", resume=False)
    assert trainer.teacher is not None
    own, theirs = trainer.network.state_dict(), trainer.teacher.state_dict()
    assert all(torch.equal(own[name], value) for name, value in theirs.items())
    assert not any(parameter.requires_grad for parameter in trainer.teacher.parameters())


def test_a_phase_without_people_in_a_batch_goes_on(start: Path, tmp_path: Path) -> None:
    sources = [MixedFolder(write(tmp_path / "nobody"), 0.7), MixedFolder(write_dotted(tmp_path / "data"))]
    losses = PoseWeights(score=0, hold_score=0, hold_box=0)
    alone = replace(recipe(), phases=[replace(recipe().phases[1], losses=losses, batch=1)])
    assert Trainer(alone, sources, start, tmp_path / "run", resume=False).run()


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
        (lambda r: msgspec.structs.replace(r, network=msgspec.structs.replace(TINY, neck=24)), "another network"),
        (lambda r: msgspec.structs.replace(r, phases=[msgspec.structs.replace(r.phases[0], train=["nowhere"])]), "nowhere"),
        (
            lambda r: msgspec.structs.replace(r, phases=[msgspec.structs.replace(r.phases[0], losses=RefinerWeights())]),
            "phase early of recipe tiny has losses for another task; expected `task: pose` in them",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    sources: list[MixedFolder], start: Path, tmp_path: Path, change: Callable[[Recipe], Recipe], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Trainer(change(recipe()), sources, start, tmp_path / "run", resume=False).run()


@pytest.mark.parametrize("text", ["name: [", "name: a\nnetwork: {task: pose, stem: 8}", "name: a"])
def test_a_bad_recipe_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_recipe(tmp_path / "bad.yaml")


def test_the_learning_rate_rises_and_falls() -> None:
    values = [learning_rate_factor(done, 0.1, 0.05) for done in (0, 0.05, 0.1, 0.55, 1.0)]
    assert values == pytest.approx([0.01, 0.5, 1.0, 0.525, 0.05])
