"""Training for other people's pictures: its length, its measurements, its checkpoints, and what it tells a program."""

import csv
import itertools
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch
from msgspec.structs import replace

from edgepose.errors import ConfigError
from edgepose_export.data.mix import MixedFolder
from edgepose_export.network.checkpoint import NetworkSpec, load_averaged, load_deployed, read_checkpoint, save_network
from edgepose_export.network.pose_network import PoseSpec
from edgepose_export.shipped import find_recipe
from edgepose_export.training import curve, trainer
from edgepose_export.training.callbacks import TrainingCallbacks, TrainingProgress
from edgepose_export.training.norms import has_norms
from edgepose_export.training.recipe import Phase, PoseWeights, Recipe, load_recipe, with_length, without_teacher
from edgepose_export.training.refiner_losses import RefinerWeights
from edgepose_export.training.trainer import Trainer
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, TINY_REFINER, lively

PHASE = Phase("fine-tuning", 24, 0.01, ["trunk.stages.1", "neck", "head"], frozen_early=True, sizes=(64,), batch=4, floor=0.0)


class Diary(TrainingCallbacks):
    """Writes down every call; raises after a number of steps."""

    def __init__(self, last_step: int = 1 << 30) -> None:
        self.calls: list[str] = []
        self.progress: list[TrainingProgress] = []
        self.last_step = last_step

    def on_start(self, progress: TrainingProgress) -> None:
        self.calls.append(f"start {progress.steps}")

    def on_step(self, progress: TrainingProgress) -> None:
        self.calls.append("step")
        self.progress.append(progress)
        if progress.steps >= self.last_step:
            raise KeyboardInterrupt

    def on_measure(self, progress: TrainingProgress, ap: float, best: bool) -> None:
        self.calls.append(f"measure {ap} {best}")

    def on_phase_end(self, progress: TrainingProgress) -> None:
        self.calls.append(f"end of {progress.phase} {progress.done}")

    def on_end(self, complete: bool) -> None:
        self.calls.append(f"end {complete}")


@pytest.fixture
def sources(tmp_path: Path) -> list[MixedFolder]:
    return [MixedFolder(write_dotted(tmp_path / "data"))]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "start.pt"
    save_network(path, lively(0), half=True)
    return path


def recipe(*phases: Phase) -> Recipe:
    return Recipe("tiny", TINY, list(phases or (PHASE,)))


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_program_hears_everything_in_its_order(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    diary = Diary()
    values = iter((0.25, 0.5, 0.125))
    plan = recipe(replace(PHASE, name="one", pictures=8), replace(PHASE, name="two", pictures=4))
    run = Trainer(plan, sources, start, tmp_path / "run", resume=False, measure=lambda network: next(values), callbacks=[diary])
    assert run.run()
    assert diary.calls == [
        "start 0", "measure 0.25 True", "step", "step", "measure 0.5 True", "end of one 1.0",
        "step", "measure 0.125 False", "end of two 1.0", "end True",
    ]  # fmt: skip
    assert [progress.done for progress in diary.progress] == [0.5, 1.0, 1.0]
    assert [progress.total for progress in diary.progress] == [8, 8, 4]
    assert [row["AP"] for row in rows_of(tmp_path / "run")] == ["0.25", "0.5", "0.125"]


def test_the_best_measurement_has_a_checkpoint_of_its_own(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    measured: list[dict[str, torch.Tensor]] = []

    def measure(network: torch.nn.Module) -> float:
        measured.append({name: value.clone() for name, value in network.state_dict().items()})
        return (0.25, 0.5, 0.125, 0.375)[len(measured) - 1]

    plan = recipe(replace(PHASE, name="one", pictures=16), replace(PHASE, name="two", pictures=16))
    run = tmp_path / "run"
    Trainer(plan, sources, start, run, resume=False, measure=measure).run()
    best = read_checkpoint(run / "best.pt")
    assert best["AP"] == 0.5
    assert all(torch.equal(value, measured[1][name]) for name, value in best["state"].items())
    assert load_deployed(run / "best.pt").spec == TINY  # what `onnx` reads
    third = replace(PHASE, name="three", pictures=16)
    plan = msgspec.structs.replace(plan, phases=[*plan.phases, third])
    assert Trainer(plan, sources, start, run, resume=True, measure=measure).run()  # a resumed run knows the best one
    assert read_checkpoint(run / "best.pt")["AP"] == 0.5
    assert [row["AP"] for row in rows_of(run)] == ["0.25", "0.5", "0.125", "0.375"]


@pytest.fixture
def steps_of_100_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: 0.1 * next(ticks)))


@pytest.mark.usefixtures("steps_of_100_ms")
@pytest.mark.parametrize("lengths", [(24,), (16, 8)])
def test_the_learning_rate_ends_where_the_minutes_end(
    sources: list[MixedFolder], start: Path, tmp_path: Path, lengths: tuple[int, ...]
) -> None:
    diary = Diary()
    plan = recipe(*(replace(PHASE, name=str(number), pictures=pictures) for number, pictures in enumerate(lengths)))
    run = Trainer(plan, sources, start, tmp_path / "run", resume=False, length_minutes=3.01 / 60, callbacks=[diary])
    assert run.run()
    for phase in plan.phases:
        mine = [progress for progress in diary.progress if progress.phase == phase.name]
        assert len(mine) == pytest.approx(31 * phase.pictures / 24, abs=1)
        assert (mine[-1].done, mine[-1].learning_rate) == (1, 0)
        assert mine[len(mine) // 2].learning_rate == pytest.approx(0.5 * PHASE.learning_rate, rel=0.35)
        assert mine[len(mine) // 2].total == pytest.approx(mine[-1].pictures, rel=0.1)  # estimated by the speed
    assert run.state.phase == len(lengths)


@pytest.mark.usefixtures("steps_of_100_ms")
def test_a_run_of_minutes_that_stops_goes_on_to_its_length(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    def make() -> Trainer:
        return Trainer(recipe(), sources, start, tmp_path / "run", resume=True, length_minutes=1.75 / 60)

    assert not make().run(1e-9)
    again = make()
    assert again.state.phase_seconds == pytest.approx(0.1)
    assert again.run()
    assert read_checkpoint(tmp_path / "run" / "last.pt")["training"]["seconds"] == pytest.approx(1.8)


def test_a_run_that_is_killed_goes_on_as_if_it_were_not(
    sources: list[MixedFolder], start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_CHECKPOINT_EVERY_S", 0.0)  # a checkpoint after every step, except the one that was killed
    torch.set_num_threads(1)

    def run(name: str, diary: Diary) -> None:
        Trainer(recipe(), sources, start, tmp_path / name, resume=True, callbacks=[diary]).run()

    run("whole", Diary())
    whole = read_checkpoint(tmp_path / "whole" / "last.pt")
    for killed_after in (1, 4, 5):
        folder = tmp_path / f"killed {killed_after}"
        with pytest.raises(KeyboardInterrupt):
            run(folder.name, Diary(killed_after))
        with (folder / "log.csv").open("a") as file:
            file.write("fine-tuning,24,9,0.01\nfine-tun")  # rows of lost steps, and one that is torn
        run(folder.name, Diary())
        killed = read_checkpoint(folder / "last.pt")
        assert whole["training"]["steps"] == killed["training"]["steps"] == 6
        for name, value in whole["state"].items():
            assert torch.allclose(value.float(), killed["state"][name].float(), atol=1e-5), (killed_after, name)
        assert [row["steps"] for row in rows_of(folder)] == [row["steps"] for row in rows_of(tmp_path / "whole")]


def test_rows_of_steps_that_are_lost_leave_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    curve.keep_until(path, 3)
    assert not path.exists()
    for steps in (0, 2, 4):
        curve.append(path, {"phase": "one", "steps": steps, "minutes": steps, "losses": {"score": 0.5}})
    curve.keep_until(path, 3)
    curve.append(path, {"phase": "one", "steps": 3})
    assert [(row["steps"], row["losses"]) for row in curve.read(path)] == [("0", "score=0.5"), ("2", "score=0.5"), ("3", "")]


def test_further_training_begins_with_averaged_weights(sources: list[MixedFolder], start: Path, tmp_path: Path) -> None:
    network = lively(0)
    average = {name: value * 0.9 if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_network(tmp_path / "last.pt", network, average=average)
    begun = Trainer(recipe(), sources, tmp_path / "last.pt", tmp_path / "run", resume=False)
    assert begun.teacher is not None
    expected = load_averaged(tmp_path / "last.pt").state_dict()
    for state in (begun.network.state_dict(), begun.teacher.state_dict()):
        assert all(torch.equal(state[name], value) for name, value in expected.items())


@pytest.mark.parametrize("spec", [TINY, TINY_REFINER], ids=["pose", "refiner"])
def test_a_start_with_folded_norms_trains_with_norms_that_change_nothing(
    spec: NetworkSpec, sources: list[MixedFolder], tmp_path: Path
) -> None:
    save_network(tmp_path / "start.pt", lively(0, spec))
    losses = PoseWeights() if isinstance(spec, PoseSpec) else RefinerWeights()
    train = ["neck"] if isinstance(spec, PoseSpec) else ["heat"]
    phase = replace(PHASE, train=train, losses=losses)
    begun = Trainer(Recipe("tiny", spec, [phase]), sources, tmp_path / "start.pt", tmp_path / "run", resume=False)
    assert has_norms(begun.network)
    assert not has_norms(lively(0, spec))
    x = torch.rand(1, 3, 64, 32)
    torch.testing.assert_close(begun.network.eval()(x), lively(0, spec)(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spec", [TINY, replace(TINY, refinements=0), TINY_REFINER], ids=["pose", "without refinement", "refiner"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_shipped_recipe_trains_any_network_further(sources: list[MixedFolder], tmp_path: Path, spec: NetworkSpec, alone: bool) -> None:
    name = "finetune-refiner" if spec is TINY_REFINER else "finetune-pose"
    plan = with_length(load_recipe(find_recipe(name), spec), 16)
    if alone:
        plan = without_teacher(plan)
    assert [phase.pictures for phase in plan.phases] == [16]
    save_network(tmp_path / "start.pt", lively(0, spec))
    diary = Diary()
    run = Trainer(plan, sources, tmp_path / "start.pt", tmp_path / "run", resume=False, callbacks=[diary])
    assert (run.teacher is None) == alone
    assert run.run()
    assert (any(name.startswith(("hold", "teacher")) for name in diary.progress[-1].losses)) == (not alone)


def test_a_recipe_without_a_network_needs_one() -> None:
    with pytest.raises(ConfigError, match=r"finetune-pose\.yaml.*network"):
        load_recipe(find_recipe("finetune-pose"))
    assert load_recipe(find_recipe("ghost-n"), TINY).network != TINY  # its own one counts


def test_a_length_is_shared_by_the_phases() -> None:
    plan = recipe(replace(PHASE, pictures=300), replace(PHASE, pictures=100))
    assert [phase.pictures for phase in with_length(plan, 80).phases] == [60, 20]
    assert [phase.pictures for phase in with_length(plan, 8).phases] == [6, 4]  # at least one batch


def test_a_phase_that_learns_from_its_teacher_alone_cannot_do_without() -> None:
    alone = replace(PHASE, losses=PoseWeights(score=0, box=0, keypoints=0, refined=0, hold_early=1))
    with pytest.raises(ConfigError, match=r"phase fine-tuning of recipe tiny learns from its teacher alone; expected a weight of labels"):
        without_teacher(recipe(alone))
