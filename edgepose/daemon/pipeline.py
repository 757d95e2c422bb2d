"""The way of a frame: camera threads, newest-wins slots, the engine, the people, and out.

::

    camera thread ──▶ slot ──▶ engine thread ──▶ people thread ──▶ deliver
    read, letterbox            run                decode, track, look again, smooth, check
    (one a camera)

The engine computes without Python's lock, so the people of one frame are worked out while the engine looks at the next.
Frames only move forward; between two threads there is room for one, and every wait ends.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2

from edgepose.config import Config
from edgepose.daemon.camera import CameraState, CameraThread
from edgepose.daemon.metrics import Metrics
from edgepose.daemon.second_look import SecondLook
from edgepose.daemon.slots import Slots, Waiting
from edgepose.daemon.stages import InputStage, PeopleStage
from edgepose.engine.backend import Backend
from edgepose.errors import EdgeposeError
from edgepose.frame import Frame
from edgepose.model import ModelInfo
from edgepose.person import Candidates, Person

_log = logging.getLogger(__name__)

_TURN_S = 0.2  # how often a waiting thread looks whether it shall stop
_FAILURES_BEFORE_REOPENING = 3

Deliver = Callable[[Frame, list[Person], bool], None]
"""Takes a frame, its people, and whether the frame is live; it must not block for live ones."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A frame that the engine has looked at."""

    waiting: Waiting
    candidates: Candidates


class Pipeline:
    """Runs all cameras of a configuration through one engine.

    Attributes:
        failure: the error that ended the work, where one did.
    """

    def __init__(
        self,
        config: Config,
        info: ModelInfo,
        open_engine: Callable[[], Backend],
        metrics: Metrics,
        deliver: Deliver,
        camera_changed: Callable[[CameraState], None],
        *,
        second_look: SecondLook | None = None,
        forever: bool = True,
    ) -> None:
        """
        Args:
            info: what the model says of itself.
            open_engine: opens the backend; called by `open`, and again after it has failed several times in a row.
            deliver: takes the people of each frame.
            camera_changed: is told each change of a camera's state, from that camera's thread.
            second_look: the refiner, opened by `open` and used by the people thread; None where nobody is looked at again.
            forever: whether a source that cannot be opened is tried again; otherwise it ends the pipeline with a failure.
        """
        self._config = config
        self._info = info
        self._open_engine = open_engine
        self._metrics = metrics
        self._deliver = deliver
        self._slots = Slots(config.mqtt.pose_expiry_s, metrics.dropped)
        self._seen: queue.Queue[_Seen | None] = queue.Queue(maxsize=1)
        self._cameras = [
            CameraThread(
                name,
                camera,
                InputStage(info, config.model.input_size, metrics.took),
                self._slots,
                metrics,
                camera_changed,
                forever=forever,
            )
            for name, camera in config.cameras.items()
        ]
        self._abandon = threading.Event()
        self._beats = {"engine": 0, "people": 0}
        self._engine_thread = threading.Thread(target=self._run_engine, name="engine", daemon=True)
        self._people_thread = threading.Thread(target=self._run_people, name="people", daemon=True)
        self._backend: Backend | None = None
        self._second_look = second_look
        self.failure: EdgeposeError | None = None

    def open(self) -> Backend:
        """Opens the engine and returns it, so that one can say which it is, and the refiner; EngineError where one cannot be opened."""
        # OpenCV would resize with as many threads as there are cores, the very ones that the engine computes on: slower (measured).
        cv2.setNumThreads(1)
        self._backend = self._open_engine()
        if self._second_look is not None:
            try:
                self._second_look.open()
            except EdgeposeError:
                self._backend.close()
                raise
        return self._backend

    def start(self) -> None:
        """Begins the work, with the engine open."""
        for camera in self._cameras:  # first: the engine's work is over when no camera is alive
            camera.start()
        self._people_thread.start()
        self._engine_thread.start()

    def beats(self) -> Mapping[str, int]:
        """Turns of each work loop so far: a loop whose number stands still hangs."""
        return dict(self._beats)

    def states(self) -> list[CameraState]:
        """What is known of each camera now."""
        return [camera.state for camera in self._cameras]

    def finished(self) -> bool:
        """Whether all frames of all cameras are through, or the work has failed."""
        return not self._people_thread.is_alive()

    def stop(self, timeout_s: float) -> bool:
        """Ends the cameras and lets what they left pass through; False when that took too long and was abandoned."""
        deadline = time.monotonic() + timeout_s
        for camera in self._cameras:
            camera.stop()
        threads: list[threading.Thread] = [*self._cameras, self._engine_thread, self._people_thread]
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        clean = not any(thread.is_alive() for thread in threads)
        self._abandon.set()
        if clean and self._backend is not None:
            self._backend.close()
        if clean and self._second_look is not None:
            self._second_look.close()
        return clean

    def _run_engine(self) -> None:
        failures = 0
        while not self._abandon.is_set():
            self._beats["engine"] += 1
            cameras_done = not any(camera.is_alive() for camera in self._cameras)  # asked first, or a last frame may be missed
            waiting = self._slots.take(_TURN_S)
            if waiting is None:
                if cameras_done:
                    break
                continue
            frame = waiting.prepared.frame
            try:
                seen = self._look(waiting)
            except Exception as error:
                failures += 1
                self._metrics.dropped(frame.camera, "engine_failed")
                if failures == 1:
                    _tell(f"frame {frame.sequence} of camera {frame.camera} could not be looked at", error)
                if failures % _FAILURES_BEFORE_REOPENING == 0 and not self._reopen_engine():
                    break
                continue
            if failures:
                _log.info("the engine works again after %d frames", failures)
                failures = 0
            self._hand_over(seen)
        self._hand_over(None)
        for camera in self._cameras:
            self.failure = self.failure or camera.failure

    def _look(self, waiting: Waiting) -> _Seen:
        assert self._backend is not None
        self._metrics.took("slot", (time.monotonic_ns() - waiting.since_ns) / 1e9)
        with self._metrics.timed("engine"):
            return _Seen(waiting, self._backend.run(waiting.prepared.images))

    def _reopen_engine(self) -> bool:
        assert self._backend is not None
        _log.warning("opening the engine again after %d failures in a row", _FAILURES_BEFORE_REOPENING)
        try:
            self._backend.close()
            self._backend = self._open_engine()
        except EdgeposeError as error:
            self._fail(error)
            return False
        return True

    def _hand_over(self, seen: _Seen | None) -> None:
        while not self._abandon.is_set():
            try:
                self._seen.put(seen, timeout=_TURN_S)
            except queue.Full:
                continue
            return

    def _run_people(self) -> None:
        stages: dict[str, PeopleStage] = {}
        failing = False
        while not self._abandon.is_set():
            self._beats["people"] += 1
            try:
                seen = self._seen.get(timeout=_TURN_S)
            except queue.Empty:
                continue
            if seen is None:
                break
            frame = seen.waiting.prepared.frame
            stage = stages.setdefault(frame.camera, PeopleStage(self._config, self._metrics, self._second_look))
            try:
                people = stage.people(seen.waiting.prepared, seen.candidates)
                with self._metrics.timed("publish"):
                    self._deliver(frame, people, seen.waiting.live)
            except Exception as error:
                if not failing:
                    _tell(f"the people of frame {frame.sequence} of camera {frame.camera} could not be worked out", error)
                failing = True
                self._metrics.dropped(frame.camera, "pose_failed")
                stage.reset()
                continue
            failing = False
            age_s = (time.time_ns() - frame.captured_at) / 1e9 if seen.waiting.live else None
            self._metrics.published(frame.camera, len(people), age_s)

    def _fail(self, error: EdgeposeError) -> None:
        _log.error("%s", error)
        self.failure = error
        for camera in self._cameras:
            camera.stop()


def _tell(what: str, error: Exception) -> None:
    """One line; the traceback only where somebody debugs."""
    _log.error("%s: %s: %s", what, type(error).__name__, error, exc_info=_log.isEnabledFor(logging.DEBUG))
