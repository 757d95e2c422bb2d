"""The threads of the pipeline with a scripted source and backend, which fail on request."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.config.schema import Config
from edgepose.errors import EngineError, ModelError, OutputError, SourceError
from edgepose.frame import Frame
from edgepose.messages.structs import EventMessage, PosesMessage
from edgepose.model.file import read_model
from edgepose.person import Candidates, Person
from edgepose.pipeline.delivery import Delivery
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.inference_thread import Engine, InferenceThread
from edgepose.pipeline.offline.people import people_in
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import FrameResult, PreparedFrame, Preprocessor
from edgepose.supervision.heartbeat import all_progressed
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import TileLook
from testing.onnx_files import write_edgepose, write_refiner
from testing.pipeline import Backend, Opening, RefinerBackend, Run, Script, file, frame, opening
from testing.sample import sample_event
from testing.waiting import wait_for


def test_every_frame_of_a_file_goes_through_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend([])
    run = Run(tmp_path, monkeypatch, [file([(640, 480)] * 40)], backends=[backend]).wait()
    assert [frame.sequence for frame, _ in run.delivered] == list(range(40))
    assert all(len(people) >= 5 and people[0].track is not None for _, people in run.delivered)
    assert run.metrics.camera("a").dropped == {}
    assert [state.state for state in run.states] == ["connecting", "streaming", "paused"]
    assert run.states[-1].cause == "end_of_stream"
    assert backend.closed


def test_the_letterbox_follows_the_size_of_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend([])
    run = Run(tmp_path, monkeypatch, [file([(640, 480), (480, 640), (480, 640)])], backends=[backend]).wait()
    assert backend.shapes == [(1, 192, 256, 3), (1, 256, 192, 3), (1, 256, 192, 3)]
    assert [(state.width, state.height) for state in run.states if state.state == "streaming"] == [(640, 480), (480, 640)]


def test_a_step_of_the_hosts_clock_makes_no_frame_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.time_ns

    class Stepping(Backend):
        def run(self, images: np.ndarray) -> Candidates:
            if not self.shapes:  # the first frame's time was taken before
                monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 3600 * 10**9)
            return super().run(images)

    began = now_ns()
    run = Run(tmp_path, monkeypatch, [file([(640, 480)] * 8)], backends=[Stepping([])]).wait()
    assert 0 <= run.finished_at[0] - began < 60 * 10**9
    assert 3600 * 10**9 <= run.finished_at[-1] - began < 3660 * 10**9


class Slow(Backend):
    """Takes longer than a pose may be old, as where the whole process was stopped meanwhile."""

    def run(self, images: np.ndarray) -> Candidates:
        time.sleep(1.3)
        return super().run(images)


@pytest.mark.parametrize(("live", "sequences", "dropped"), [(True, [], {"stale": 1}), (False, [0], {})])
def test_a_frame_that_becomes_stale_in_inference_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: bool, sequences: list[int], dropped: dict[str, int]
) -> None:
    run = Run(tmp_path, monkeypatch, [file([(640, 480)], live=live)], backends=[Slow([])], pose_expiry_s=1.0).wait()
    assert [frame.sequence for frame, _ in run.delivered] == sequences
    assert run.metrics.camera("a").dropped == dropped


def test_a_frame_that_becomes_stale_in_postprocessing_is_marked_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = Postprocessor.people

    def slowly(*arguments: Any, **options: Any) -> list[Person]:
        time.sleep(1.3)
        return people(*arguments, **options)

    monkeypatch.setattr(Postprocessor, "people", slowly)
    run = Run(tmp_path, monkeypatch, [file([(640, 480)], live=True)], pose_expiry_s=1.0).wait()
    assert run.stale == [True]
    assert run.metrics.camera("a").dropped == {"stale": 1}
    assert run.metrics.camera("a").published == 0


def test_of_a_stale_frame_only_events_are_published() -> None:
    said: list[str] = []

    class Recorder:
        def publish_poses(self, camera: str, payload: object) -> None:
            said.append(f"poses of {camera}")

        def publish(self, address: str, payload: EventMessage, qos: int) -> None:
            said.append(f"{payload.kind} on {address}")

    event = sample_event()
    frame = Frame(np.zeros((48, 64, 3), np.uint8), 0, "stream", 0, "front", 0)
    delivery = Delivery(Recorder(), [], Metrics())
    delivery.deliver(FrameResult(frame, [], [event], 0, True, stale=True))
    assert said == [f"{event.kind} on cameras/front/events"]
    delivery.deliver(FrameResult(frame, [], [event], 0, True))
    assert said[1:] == ["poses of front", f"{event.kind} on cameras/front/events"]


def test_a_new_epoch_starts_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openings: list[Opening] = [file([(640, 480)] * 3, SourceError("cut", "ended")), SourceError("no", "refused"), file([(640, 480)] * 3)]
    run = Run(tmp_path, monkeypatch, openings).wait()
    assert [frame.epoch for frame, _ in run.delivered] == [0, 0, 0, 1, 1, 1]
    tracks = [{person.track for person in people} for _, people in run.delivered]
    assert tracks[0] == tracks[1] == tracks[2]
    assert tracks[3] == tracks[4] == tracks[5]
    assert not tracks[2] & tracks[3]
    assert [(state.state, state.cause, state.epoch) for state in run.states] == [
        ("connecting", None, 0),
        ("streaming", None, 0),
        ("failed", "ended", 0),
        ("failed", "refused", 1),
        ("streaming", None, 1),
        ("paused", "end_of_stream", 1),
    ]


@pytest.mark.parametrize("resumed_s", [0.0, 0.3], ids=["immediately", "later"])
def test_a_pause_however_short_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, resumed_s: float
) -> None:
    openings = [file([(640, 480)] * 2, SourceError("a is closed", "never")), file([(640, 480)] * 2)]
    run = Run(tmp_path, monkeypatch, openings)
    wait_for(lambda: len(run.delivered) == 2)
    run.pipeline.pause("a")
    time.sleep(resumed_s)
    run.pipeline.resume("a")
    run.wait()
    assert [frame.epoch for frame, _ in run.delivered] == [0, 0, 1, 1]
    published = [state.state for state in run.states if (state.state, state.cause) != ("paused", "command")]
    assert published == ["connecting", "streaming", "connecting", "streaming", "paused"]
    assert "closed" not in caplog.text
    assert {name: camera.reconnects for name, camera in run.pipeline.stats().cameras.items()} == {"a": 0}


def test_a_file_that_loops_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 2), file([(64, 64)] * 2, SourceError("", "never"))], loop=True)
    wait_for(lambda: len(run.delivered) == 4)
    assert run.pipeline.stop(2)
    assert [frame.epoch for frame, _ in run.delivered] == [0, 0, 1, 1]


def test_a_source_for_one_run_ends_it_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = SourceError("it is not there", "not_found")
    run = Run(tmp_path, monkeypatch, [error], forever=False).wait()
    assert (str(run.pipeline.failure), type(run.pipeline.failure)) == ("it is not there", SourceError)
    assert [(state.state, state.cause) for state in run.states] == [("connecting", None), ("failed", "not_found")]


def raise_(error: Exception) -> Any:
    raise error


def test_a_frame_that_the_engine_fails_on_is_counted_and_the_next_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Backend([None, EngineError("out of memory"), None])
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 4)], backends=[failing]).wait()
    assert [frame.sequence for frame, _ in run.delivered] == [0, 2, 3]
    assert run.metrics.camera("a").dropped == {"engine_failed": 1}
    assert run.pipeline.failure is None


def test_an_engine_that_keeps_failing_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, fresh = Backend([EngineError("lost the device")] * 99), Backend([])
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 5)], backends=[broken, fresh]).wait()
    assert [frame.sequence for frame, _ in run.delivered] == [3, 4]
    assert run.metrics.camera("a").dropped == {"engine_failed": 3}
    assert broken.closed


def test_an_engine_that_stays_broken_is_opened_again_less_and_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames come as fast as the thread takes them, and the clock of the waits stands still."""
    monkeypatch.setattr("edgepose.pipeline.inference_thread._FIRST_WAIT_S", 1000.0)
    backends = [Backend([EngineError("lost the device")] * 99) for _ in range(10)]
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 60)], backends=backends).wait()
    assert run.metrics.camera("a").dropped == {"engine_failed": 60}
    assert [len(backend.shapes) for backend in backends] == [3, 57] + [0] * 8


def test_a_file_that_turns_out_broken_when_opened_again_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ModelError("it does not work")
    openings = [file([(64, 64)] * 5, SourceError("", "never"))]
    run = Run(tmp_path, monkeypatch, openings, backends=[Backend([EngineError("NaN")] * 99), error])
    wait_for(run.pipeline.finished)
    assert run.pipeline.failure is error
    assert error.exit_code == 78


def test_an_engine_that_cannot_be_opened_again_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = EngineError("no such device")
    openings = [file([(64, 64)] * 5, SourceError("", "never"))]
    run = Run(tmp_path, monkeypatch, openings, backends=[Backend([EngineError("lost the device")] * 99), error])
    wait_for(run.pipeline.finished)
    assert run.pipeline.failure is error


def test_live_frames_are_dropped_by_cause_when_the_engine_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Backend):
        def run(self, images: np.ndarray) -> Candidates:
            time.sleep(0.02)  # the work of a slow engine
            return super().run(images)

    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 50, live=True)], backends=[Slow([])]).wait()
    counts = run.metrics.camera("a")
    assert counts.received == 50
    assert counts.published == len(run.delivered)
    assert counts.published + counts.dropped["superseded"] == 50
    assert run.delivered[-1][0].sequence == 49


def test_a_failure_in_postprocessing_is_counted_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 3, SourceError("", "never"))], fault=RuntimeError("a fault of ours"))
    wait_for(lambda: run.metrics.camera("a").dropped.get("pose_failed", 0) >= 1)
    assert run.pipeline.stop(2)
    assert "a fault of ours" in caplog.text


def test_a_failure_is_logged_once_until_a_frame_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    people = Postprocessor.people

    def failing(postprocessor: Postprocessor, prepared: PreparedFrame, candidates: Candidates, **options: Any) -> list[Person]:
        if prepared.frame.sequence in (1, 2, 4):
            raise RuntimeError(f"fault {prepared.frame.sequence}")
        return people(postprocessor, prepared, candidates, **options)

    monkeypatch.setattr(Postprocessor, "people", failing)
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 6)]).wait()
    assert [frame.sequence for frame, _ in run.delivered] == [0, 3, 5]
    assert run.metrics.camera("a").dropped == {"pose_failed": 3}
    assert [record.message.rpartition(": ")[2] for record in caplog.records if record.levelname == "ERROR"] == ["fault 1", "fault 4"]


def test_a_refiner_that_fails_loses_no_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(write_refiner(tmp_path / "refiner.onnx"))
    refiner, metrics = RefinerBackend([None, EngineError("out of memory"), None]), Metrics()
    wrapped = Refiner(model, opening(refiner), metrics)
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 4)], refiner=wrapped).wait()
    assert [frame.sequence for frame, _ in run.delivered] == [0, 1, 2, 3]
    assert run.metrics.camera("a").dropped == {}
    counts = metrics.refinement()
    assert counts is not None
    assert (counts.accepted + counts.disagreed, counts.failed) == (6, {"refiner_failed": 2})
    assert refiner.crops == [2, 2, 2, 2]
    assert refiner.closed
    assert "refine" in run.metrics.latencies()


def test_a_refiner_that_cannot_be_opened_is_an_error_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, engine = read_model(write_refiner(tmp_path / "refiner.onnx")), Backend([])
    refiner = Refiner(model, opening(EngineError("no such device")), Metrics())
    with pytest.raises(EngineError, match="no such device"):
        Run(tmp_path, monkeypatch, [file([(64, 64)])], backends=[engine], refiner=refiner)
    assert engine.closed


def test_all_threads_progress_without_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, [file([], SourceError("", "never"))])
    heartbeats = run.pipeline.heartbeats()
    assert list(heartbeats) == ["camera-a", "inference", "postprocess"]
    for _ in range(3):
        wait_for(lambda: all_progressed(heartbeats, time.monotonic()))
    assert run.pipeline.stop(2)


def test_offline_gives_every_frame_and_the_sources_error(tmp_path: Path) -> None:
    info = read_model(write_edgepose(tmp_path / "tiny.onnx")).info
    source = Script("a", 0, [(64, 64)] * 10, SourceError("cut", "ended"))
    inferred: list[int] = []
    with pytest.raises(SourceError, match="cut"):
        inferred.extend(frame.sequence for frame, _, _ in people_in(source, Backend([]), info, Config(), Metrics(), None))
    assert inferred == list(range(10))
    assert source._closed.is_set()


class Sink:
    def __init__(self, error: OutputError | None = None) -> None:
        self.written: list[int] = []
        self.closed = False
        self.free = threading.Event()
        self._error = error

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook] = ()) -> None:
        assert self.free.wait(10)
        if self._error is not None:
            raise self._error
        self.written.append(frame.sequence)

    def close(self) -> None:
        self.closed = True


def test_a_slow_disk_loses_live_frames_to_files_only_and_counts_them() -> None:
    metrics, sink = Metrics(), Sink()
    delivery = Delivery(None, [sink], metrics)
    for sequence in range(20):
        delivery.deliver(FrameResult(frame(sequence), [], [], 0, True))
    sink.free.set()
    delivery.close(5)
    lost = metrics.camera("a").dropped["writer_busy"]
    assert len(sink.written) + lost == 20
    assert 0 < lost < 20
    assert sink.closed


def test_frames_of_files_wait_for_the_disk() -> None:
    metrics, sink = Metrics(), Sink()
    delivery = Delivery(None, [sink], metrics)
    threading.Timer(0.1, sink.free.set).start()
    for sequence in range(20):
        delivery.deliver(FrameResult(frame(sequence), [], [], 0, False))
    delivery.close(5)
    assert sink.written == list(range(20))
    assert metrics.camera("a").dropped == {}


def test_a_full_disk_ends_the_files_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    metrics, sink = Metrics(), Sink(OutputError("disk full"))
    sink.free.set()
    delivery = Delivery(None, [sink], metrics)
    delivery.deliver(FrameResult(frame(0), [], [], 0, False))
    writer = delivery.writer
    assert writer is not None
    wait_for(lambda: delivery.failure)
    wait_for(lambda: not writer.is_alive())
    delivery.deliver(FrameResult(frame(1), [], [], 0, True))
    assert metrics.camera("a").dropped == {"writer_failed": 1}
    assert "disk full" in caplog.text
    delivery.close(1)
    assert sink.closed


class Asking(Backend):
    """Asks, while it infers, whether a live frame waits."""

    thread: InferenceThread
    waits: bool | None = None

    def run(self, images: np.ndarray) -> Candidates:
        self.waits = self.thread.live_frame_waits()
        return super().run(images)


def test_a_live_frame_waits_in_the_slot_in_the_network_and_before_postprocessing(tmp_path: Path) -> None:
    slots = LatestFrameSlots(60, lambda camera, cause: None)
    info, metrics = read_model(write_edgepose(tmp_path / "tiny.onnx")).info, Metrics()
    preprocessor = Preprocessor(info, 0, metrics.took)
    backend = Asking([])
    engine = Engine(backend, lambda: Backend([]), preprocessor)
    backend.thread = thread = InferenceThread(engine, slots, metrics, lambda: True, lambda error: None, stuck_after_s=10, forever=False)
    for live in (True, False):
        assert not thread.live_frame_waits()
        prepared = preprocessor.prepare(frame(0))
        if live:
            slots.put(prepared)
        else:
            assert slots.put_when_free(prepared, 1)
        assert thread.live_frame_waits() == live
        worker = threading.Thread(target=thread.work)  # ends as there is no further frame, once the result is taken
        worker.start()
        wait_for(thread.inferred.full)
        assert (backend.waits, thread.live_frame_waits()) == (live, live)
        assert thread.inferred.get_nowait() is not None
        worker.join(30)
        assert not worker.is_alive()
    thread.finish()
    assert not thread.live_frame_waits()  # the end is no frame


@pytest.mark.parametrize("live", [True, False])
def test_only_live_frames_end_a_refinement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    wrapped = Refiner(read_model(write_refiner(tmp_path / "refiner.onnx")), opening(RefinerBackend()), metrics := Metrics())
    monkeypatch.setattr(InferenceThread, "live_frame_waits", lambda thread: live)
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 12)], refiner=wrapped).wait()
    assert len(run.delivered) == 12
    counts = metrics.refinement()
    assert counts is not None
    refined = counts.accepted + counts.disagreed
    assert refined + counts.skipped == 12 * 6
    assert (0 < refined <= 12) if live else (refined == 24)
