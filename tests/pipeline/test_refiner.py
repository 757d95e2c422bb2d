"""The refiner in use, with a backend that fails on request."""

import logging
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from edgepose.config.schema import Config, ModelConfig, RefineConfig
from edgepose.errors import EngineError, ModelError
from edgepose.frame import Frame
from edgepose.model.file import ModelFile, read_model
from edgepose.person import Candidates, Person
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.pose.refine.schedule import RefineSchedule
from edgepose.telemetry.metrics import Metrics
from testing.bodies import standing_person
from testing.onnx_files import answers, write_edgepose, write_refiner
from testing.pipeline import RefinerBackend, opening

FRAME = Frame(np.full((480, 640, 3), 255, np.uint8), 0, "stream", 0, "a")
PEOPLE = [standing_person(100 * number, 50, score=0.6, track=number + 1) for number in range(3)]


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    return read_model(write_refiner(tmp_path / "refiner.onnx"))


class Run:
    """The same three people refined, frame by frame."""

    def __init__(self, model: ModelFile, *refiners: RefinerBackend | EngineError, people: int = 3) -> None:
        self.metrics = Metrics()
        self.refiner = Refiner(model, opening(*refiners), self.metrics)
        self.refiner.open()
        self._schedule = RefineSchedule(RefineConfig(people=people))

    def frames(self, count: int = 1) -> list[Person]:
        """The people of the last of so many frames."""
        for _ in range(count):
            people = self.refiner.people(FRAME, PEOPLE, self._schedule)
            assert [person.track for person in people] == [1, 2, 3]  # nobody is lost, whatever happens
        return people


def test_all_refined_people_are_counted(model: ModelFile) -> None:
    run = Run(model, RefinerBackend(), people=2)
    run.frames(3)
    counts = run.metrics.refinement()
    assert counts is not None
    assert (counts.accepted, counts.disagreed, counts.skipped, counts.failed) == (0, 6, 3, {})
    assert counts.cost_ms > 0


class Clock:
    """A clock that a refiner's work moves on, and a stream whose frames come at a fixed interval."""

    def __init__(self, interval_s: float, crop_s: float) -> None:
        self.now_s = 0.0
        self._interval_s, self._crop_s = interval_s, crop_s
        self._frame = 0

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.now_s += self._crop_s * len(crops)
        return np.ones((len(crops), 17, 3), np.float32)

    def next_frame(self) -> float:
        """Wait for the next frame and return its delay in seconds."""
        self._frame += 1
        due_s = self._frame * self._interval_s
        self.now_s = max(self.now_s, due_s)
        return self.now_s - due_s

    def frame_waits(self) -> bool:
        return self.now_s >= (self._frame + 1) * self._interval_s


@pytest.mark.parametrize(
    ("crop_ms", "count", "per_frame"),
    [
        (1, 6, 6),  # there is time for everybody
        (5, 6, 6),
        (15, 6, 2.5),  # for some: what is idle is used
        (30, 6, 1.2),
        (30, 3, 1.2),
        (100, 2, 0.2),  # one costs three frames, but each has a right to every tenth
    ],
)
def test_refinement_takes_the_time_until_the_next_frame_and_no_more(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, crop_ms: float, count: int, per_frame: float
) -> None:
    clock, metrics = Clock(0.04, crop_ms / 1e3), Metrics()
    monkeypatch.setattr("edgepose.pipeline.refiner.time.perf_counter", lambda: clock.now_s)
    network = RefinerBackend()
    monkeypatch.setattr(network, "run", clock.run)
    refiner = Refiner(model, opening(network), metrics)
    refiner.open()
    clock.now_s = 0.0
    people = [standing_person(100 * number, 50, score=0.6, track=number + 1) for number in range(count)]
    schedule = RefineSchedule(RefineConfig())
    last, gaps, delays = dict.fromkeys(range(count), 0), [], []
    for frame in range(1, 301):
        delays.append(clock.next_frame())
        for index, person in enumerate(refiner.people(FRAME, people, schedule, clock.frame_waits)):
            if person.score != 0.6:
                gaps.append(frame - last[index])
                last[index] = frame
    assert max(gaps) <= 10
    # A call that has begun is finished, so a frame waits for one person or for 10 ms, or for those who are due.
    assert max(delays) <= max(crop_ms, 10) / 1e3 + 1e-9
    counts = metrics.refinement()
    assert counts is not None
    refined = counts.accepted + counts.disagreed
    assert refined / 300 >= per_frame
    assert refined + counts.skipped == 300 * count


def test_nobody_waits_for_a_frame_of_a_file_or_in_one_call_too_many(model: ModelFile) -> None:
    run = Run(model, network := RefinerBackend())
    run.refiner.cost_ms = 1000.0
    run.frames()
    assert network.crops == [3]  # without anything that waits, all people are refined in one call


def test_the_cost_follows_what_is_measured(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(model, RefinerBackend())
    times_s = iter([0.0, 0.03, 1.0, 1.03])  # 10 ms a person
    monkeypatch.setattr("edgepose.pipeline.refiner.time.perf_counter", lambda: next(times_s))
    before_ms = run.refiner.cost_ms
    run.frames(2)
    assert run.refiner.cost_ms == pytest.approx(before_ms * 0.81 + 10 * 0.19)


def test_a_failure_costs_no_frame_and_is_counted(model: ModelFile, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(model, RefinerBackend([EngineError("out of memory"), ValueError("a fault of ours"), None]))
    with caplog.at_level(logging.INFO):
        assert [person.score for person in run.frames(2)] == [person.score for person in PEOPLE]
        assert all(person.score != 0.6 for person in run.frames())
    counts = run.metrics.refinement()
    assert counts is not None
    assert counts.failed == {"refiner_failed": 3, "internal": 3}
    assert counts.disagreed == 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]  # on change only
    assert "unrefined poses are published: EngineError: out of memory" in caplog.text
    assert "works again after 2 frames" in caplog.text


def test_a_refiner_that_keeps_failing_is_opened_again(model: ModelFile) -> None:
    broken, fresh = RefinerBackend([EngineError("lost the device")] * 99), RefinerBackend()
    run = Run(model, broken, fresh)
    run.frames(4)
    assert broken.closed
    assert len(broken.crops) == 3
    assert len(fresh.crops) == 1
    counts = run.metrics.refinement()
    assert counts is not None
    assert (counts.failed, counts.disagreed) == ({"refiner_failed": 9}, 3)


def test_a_refiner_that_cannot_be_opened_again_is_tried_less_and_less_often(model: ModelFile, caplog: pytest.LogCaptureFixture) -> None:
    gone = EngineError("no such device")
    broken, fresh = RefinerBackend([EngineError("lost the device")] * 99), RefinerBackend()
    run = Run(model, broken, gone, gone, fresh)
    run.frames(3 + 6 + 12)
    counts = run.metrics.refinement()
    assert counts is not None
    assert (counts.failed, counts.disagreed) == ({"refiner_failed": 9, "unavailable": 3 * 18}, 0)
    run.frames()
    assert fresh.crops == [3]
    assert [record.message.split(":")[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "refinement fails, unrefined poses are published",
        "the refiner cannot be reopened",
    ]


def test_a_refiner_that_opens_but_does_not_run_is_not_open(model: ModelFile) -> None:
    class Broken(RefinerBackend):
        def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise EngineError("no kernel")

    broken = Broken()
    with pytest.raises(EngineError, match="no kernel"):
        Run(model, broken)
    assert broken.closed


def test_off_reads_and_opens_nothing(tmp_path: Path) -> None:
    metrics = Metrics()
    assert Refiner.configured(Config(refine=RefineConfig(path=str(tmp_path / "not there"), people=0)), metrics) is None
    assert metrics.refinement() is None


def test_on_needs_a_refiner(tmp_path: Path) -> None:
    config = Config(model=ModelConfig(threads=1), refine=RefineConfig(path=str(write_refiner(tmp_path / "again.onnx")), people=1))
    refiner = Refiner.configured(config, Metrics())
    assert refiner is not None
    assert refiner.open().name.startswith("onnxruntime")
    refiner.close()
    wrong = str(write_edgepose(tmp_path / "tiny.onnx"))
    with pytest.raises(ModelError, match="expected a refiner"):
        Refiner.configured(replace(config, refine=RefineConfig(path=wrong, people=1)), Metrics())


class Stage:
    """One camera's people in a white frame, refined with given score weights."""

    def __init__(self, folder: Path, weights: str, *, tracked: bool) -> None:
        self.metrics = Metrics()
        model = read_model(write_refiner(folder / "weighted.onnx", metadata={"edgepose.score_weights": weights}))
        refiner = Refiner(model, opening(RefinerBackend()), self.metrics)
        refiner.open()
        config = Config(refine=RefineConfig(people=50))
        config = replace(config, track=replace(config.track, enabled=tracked, min_hits=2))
        self._stage = Postprocessor("a", config, self.metrics, refiner)
        info = read_model(write_edgepose(folder / "tiny.onnx")).info
        self._prepared = Preprocessor(info, 0, self.metrics.took).prepare(FRAME)

    def people(self) -> list[Person]:
        boxes, scores, keypoints = answers()
        return self._stage.people(self._prepared, Candidates(boxes[None], scores[None], keypoints[None]))


@pytest.mark.parametrize("tracked", [True, False])
def test_people_are_published_by_their_new_scores(tmp_path: Path, tracked: bool) -> None:
    stage = Stage(tmp_path, "[0, -1, 0]", tracked=tracked)  # reverses the order
    people = stage.people()
    scores = [person.score for person in people]
    assert scores == sorted(scores, reverse=True)
    assert all(score >= 0.3 for score in scores)
    counts = stage.metrics.refinement()
    assert counts is not None
    assert counts.dismissed == counts.disagreed - len(people) > 0
    assert {"decode", "refine", "track"} <= set(stage.metrics.latencies())


def test_tracked_people_stay_down_to_the_low_score_threshold(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "[-1.2, 0, 0]", tracked=True)  # everybody gets 0.23
    assert stage.people() == []  # nobody has a number yet
    assert len(stage.people()) > 0


def test_without_a_refiner_no_refinement_is_timed(tmp_path: Path) -> None:
    metrics = Metrics()
    info = read_model(write_edgepose(tmp_path / "tiny.onnx")).info
    boxes, scores, keypoints = answers()
    prepared = Preprocessor(info, 0, metrics.took).prepare(FRAME)
    Postprocessor("a", Config(), metrics).people(prepared, Candidates(boxes[None], scores[None], keypoints[None]))
    assert set(metrics.latencies()) == {"letterbox", "decode", "motion", "track", "events"}
