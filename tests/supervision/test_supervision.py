"""Who turns, who hangs, who died: with clocks and faults of our own."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgepose.config.schema import Config, HealthConfig
from edgepose.errors import EngineError, OutputError, SourceError
from edgepose.frame import Frame
from edgepose.messages.structs import PosesMessage
from edgepose.person import Person
from edgepose.pipeline.file_writer import FileWriter, Sink
from edgepose.supervision.hang_detector import HangDetector
from edgepose.supervision.heartbeat import Heartbeat, all_progressed
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import TileLook
from testing.pipeline import Backend, Run, Script, file, frame
from testing.waiting import wait_for


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_loop_is_stuck_when_its_next_beat_is_overdue() -> None:
    clock = Clock()
    heartbeat = Heartbeat(2.0, clock)
    assert not heartbeat.stuck(1e9)  # not begun: nothing is due
    heartbeat.beat()
    assert not heartbeat.stuck(102.0)
    assert heartbeat.stuck(102.1)
    clock.now_s = 103.0
    heartbeat.beat(within_s=60.0)
    assert not heartbeat.stuck(162.0)
    assert heartbeat.stuck(163.1)
    heartbeat.end()
    assert not heartbeat.stuck(1e9)


def test_the_watchdog_is_fed_only_when_every_loop_has_turned() -> None:
    clock = Clock()
    heartbeats = {name: Heartbeat(10.0, clock) for name in ("engine", "people")}
    for heartbeat in heartbeats.values():
        heartbeat.beat()
    assert all_progressed(heartbeats, 100.0)
    heartbeats["people"].beat()
    assert not all_progressed(heartbeats, 100.0)  # the engine stands still, long before its bound
    heartbeats["engine"].beat()
    assert all_progressed(heartbeats, 100.0)  # what the other had turned meanwhile is not forgotten
    heartbeats["engine"].beat(within_s=30.0)
    heartbeats["people"].beat()
    assert all_progressed(heartbeats, 100.0)
    heartbeats["people"].beat()
    assert all_progressed(heartbeats, 129.0)  # the engine had asked for time
    heartbeats["people"].beat()
    assert not all_progressed(heartbeats, 131.0)


def test_a_loop_that_hangs_is_told_once_and_given_up_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    heartbeats = {"engine": Heartbeat(5.0, clock), "writer": Heartbeat(5.0, clock)}
    hang_detector = HangDetector(5.0, lambda name: f"{name}.py:1")
    for heartbeat in heartbeats.values():
        heartbeat.beat()
    for now_s in (104.0, 106.0, 107.0):
        hang_detector.check(heartbeats, now_s)
    assert sorted(hang_detector.stuck) == ["engine", "writer"]
    assert caplog.text.count("engine is stuck") == 1
    working = {"engine": heartbeats["engine"]}
    assert not hang_detector.all_is_well(working, 107.0)
    assert hang_detector.hopeless({}, 200.0) is None  # a disk that hangs does not end the work
    assert hang_detector.hopeless(working, 111.0) is None
    hopeless = hang_detector.hopeless(working, 111.1)
    assert hopeless is not None
    assert hopeless.exit_code == 70
    clock.now_s = 112.0
    heartbeats["engine"].beat()
    hang_detector.check(heartbeats, 112.0)
    assert hang_detector.stuck == ["writer"]
    assert "engine turns again after 6.0 s" in caplog.text


class Dying(SupervisedThread):
    def __init__(self, deaths: int, *, restart: bool = True) -> None:
        super().__init__("dying", 5.0, restart=restart)
        self.deaths = deaths
        self.finished = 0

    def work(self) -> None:
        if self.deaths:
            self.deaths -= 1
            raise RuntimeError("a fault of ours")

    def finish(self) -> None:
        self.finished += 1


def test_a_thread_that_dies_is_begun_again_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    thread = Dying(3)
    thread.start()
    thread.join(20)
    assert (thread.restarts, thread.finished, thread.failure) == (3, 1, None)
    assert caplog.text.count("dying died of an unexpected RuntimeError: a fault of ours") == 1
    assert not thread.heartbeat.stuck(1e12)


def test_a_thread_for_one_run_fails_with_what_it_died_of() -> None:
    thread = Dying(1, restart=False)
    thread.start()
    thread.join(10)
    assert str(thread.failure) == "dying died of an unexpected RuntimeError: a fault of ours"
    assert (thread.restarts, thread.finished) == (0, 1)


def test_a_dead_stage_of_a_daemon_is_begun_again_and_nothing_else_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 200, SourceError("", "never"))])
    wait_for(lambda: len(run.delivered) > 2)
    people = run.pipeline._postprocess_thread
    assert people is not None
    taken, people._inferred = people._inferred, None  # type: ignore[assignment]
    wait_for(lambda: run.pipeline.stats().restarts.get("postprocess", 0) >= 1)
    people._inferred = taken
    inferred = len(run.delivered)
    wait_for(lambda: len(run.delivered) > inferred, within_s=20)
    assert run.pipeline.failure is None
    assert run.pipeline.stop(2)


class Hanging(Script):
    """Hangs in a read that nothing ends, as a driver does."""

    def __init__(self, camera: str, epoch: int, released: threading.Event) -> None:
        super().__init__(camera, epoch, [(64, 64)], SourceError("", "never"))
        self._released = released

    def read(self):
        if not self._frames:
            self._released.wait(60)
        return super().read()


def test_a_camera_that_hangs_is_replaced_but_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edgepose.pipeline.camera_thread._GRACE_S", 0.05)
    monkeypatch.setattr("edgepose.pipeline.camera_thread._FILE_PATIENCE_S", 0.05)
    monkeypatch.setattr("edgepose.pipeline.cameras._ABANDONED_LIMIT", 2)
    released = threading.Event()
    run = Run(tmp_path, monkeypatch, [lambda epoch: Hanging("a", epoch, released)] * 9)
    for replaced in (1, 2):
        wait_for(lambda: len(run.delivered) == replaced)  # noqa: B023
        wait_for(lambda: run.pipeline.replace_stuck(time.monotonic()) == ["camera-a"])
    wait_for(lambda: len(run.delivered) == 3)
    wait_for(lambda: run.pipeline.heartbeats()["camera-a"].stuck(time.monotonic()))
    assert run.pipeline.replace_stuck(time.monotonic()) == []  # enough: now it is the watchdog's turn
    assert run.pipeline.stats().restarts == {"camera-a": 2}
    assert [frame.epoch for frame, _ in run.delivered] == [0, 1, 2]
    assert "camera-a hangs at threading.py" in caplog.text
    released.set()
    run.pipeline.stop(2)
    assert len(run.delivered) == 3  # nobody hears of what the old ones do when they come to


def test_an_engine_that_hangs_is_seen_and_the_others_are_not_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    class Stuck(Backend):
        def run(self, images):
            released.wait(60)
            return super().run(images)

    monkeypatch.setattr("testing.pipeline.Config", lambda **sections: Config(**sections, health=HealthConfig(stuck_after_s=0.6)))
    run = Run(tmp_path, monkeypatch, [file([(64, 64)], SourceError("", "never"))], backends=[Stuck([])])
    stuck = wait_for(lambda: [name for name, heartbeat in run.pipeline.heartbeats().items() if heartbeat.stuck(time.monotonic())])
    assert stuck == ["inference"]
    assert run.pipeline.where("inference").startswith("threading.py")
    released.set()
    assert run.pipeline.stop(5)


class Disk:
    """Files on a disk that is full until it is not."""

    def __init__(self) -> None:
        self.full = True
        self.written: list[int] = []
        self.opened = 0

    def open(self) -> list[Sink]:
        if self.full:
            raise OutputError("disk full")
        self.opened += 1
        return [self]

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook] = ()) -> None:
        if self.full:
            raise OutputError("disk full")
        self.written.append(frame.sequence)

    def close(self) -> None:
        pass


def test_files_are_written_again_when_the_disk_has_room(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("edgepose.pipeline.file_writer._FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("edgepose.pipeline.file_writer._LONGEST_WAIT_S", 0.05)
    disk, metrics = Disk(), Metrics()
    writer = FileWriter([disk], metrics, disk.open)
    writer.start()
    writer.take(frame(0), [], None, live=True)  # type: ignore[arg-type]
    wait_for(lambda: writer.error)
    writer.take(frame(1), [], None, live=True)  # type: ignore[arg-type]
    assert metrics.camera("a").dropped == {"writer_failed": 1}
    disk.full = False
    wait_for(lambda: writer.error is None)
    writer.take(frame(2), [], None, live=True)  # type: ignore[arg-type]
    writer.close(5)
    assert disk.written == [2]
    assert (disk.opened, writer.restarts) == (1, 1)
    assert caplog.text.count("disk full") == 1
    assert "files are written again" in caplog.text


def test_what_is_over_in_order_is_not_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 2)]).wait()
    assert not any(heartbeat.stuck(time.monotonic() + 1e6) for heartbeat in run.pipeline.heartbeats().values())


def test_an_engine_that_was_opened_again_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, fresh = Backend([EngineError("lost the device")] * 99), Backend([])
    run = Run(tmp_path, monkeypatch, [file([(64, 64)] * 5)], backends=[broken, fresh]).wait()
    assert run.pipeline.stats().restarts == {"inference": 1}
