"""The camera threads, one per camera: replaced when they hang, or when their configuration changes."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from edgepose.config.diff import Changes
from edgepose.config.schema import CameraConfig
from edgepose.messages.camera_state import CameraState
from edgepose.pipeline.camera_thread import CameraThread, OpenCamera
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.stages import Preprocessor
from edgepose.pose.image_quality import ImageQuality
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_LEAVING_S = 2.0
_ABANDONED_LIMIT = 8  # threads that hang and were replaced; each holds memory, a socket, a decoder


class CameraStats(msgspec.Struct, frozen=True):
    """One camera at one moment.

    Attributes:
        state: what is known of it.
        reconnects: times that the stream came back after it was lost.
        image_quality: measured on a frame of the last second or so; None where none was measured.
    """

    state: CameraState
    reconnects: int = 0
    image_quality: ImageQuality | None = None


class Cameras:
    """All camera threads. Belongs to the main thread, except `threads`, `stats` and `done`."""

    def __init__(
        self,
        cameras: Mapping[str, CameraConfig],
        preprocessor: Callable[[], Preprocessor],
        slots: LatestFrameSlots,
        metrics: Metrics,
        changed: Callable[[CameraState], None],
        *,
        forever: bool,
        open_camera: OpenCamera | None = None,
    ) -> None:
        """
        Args:
            preprocessor: makes the preprocessor of one camera, for the network in use.
            slots: receive the frames.
            changed: called with each change of a camera's state, from that camera's thread.
            forever: whether a source that cannot be opened is tried again.
            open_camera: opens a camera's source; None opens what the configuration names.
        """
        self._open_camera = open_camera
        self._preprocessor = preprocessor
        self._slots = slots
        self._metrics = metrics
        self._changed = changed
        self._forever = forever
        self._lock = threading.Lock()  # guards the two below
        self._threads = {name: self._thread(name, camera) for name, camera in cameras.items()}
        self._past_restarts: Counter[str] = Counter()  # of threads that were replaced
        self._abandoned: list[CameraThread] = []
        self._changing = threading.Event()  # set while there may be no camera for a moment

    def __getitem__(self, name: str) -> CameraThread:
        return self._threads[name]

    def threads(self) -> list[CameraThread]:
        """Return the threads in use now."""
        with self._lock:
            return list(self._threads.values())

    def stats(self) -> tuple[dict[str, CameraStats], Counter[str]]:
        """Return the cameras by name, and the restarts of each thread by its name: it died and was restarted, or hung and was replaced."""
        with self._lock:
            threads = list(self._threads.values())
            cameras = {thread.state.camera: CameraStats(thread.state, thread.reconnects, thread.image_quality) for thread in threads}
            return cameras, self._past_restarts + Counter({thread.name: thread.restarts for thread in threads})

    def done(self) -> bool:
        """Return whether no further frame can arrive."""
        return not self._changing.is_set() and not any(thread.is_alive() for thread in self.threads())

    def start(self) -> None:
        """Start all threads."""
        for thread in self.threads():
            thread.start()

    def stop(self) -> None:
        """Make all threads end soon."""
        for thread in self.threads():
            thread.stop()

    def exchange_preprocessors(self) -> None:
        """Prepare frames for another network, from the next ones on."""
        for thread in self.threads():
            thread.exchange_preprocessor(self._preprocessor())

    def replace_stuck(self, now_s: float) -> list[str]:
        """Abandon threads that hang and start replacements, as long as there are not too many.

        Returns:
            Names of the threads that were replaced.
        """
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        replaced = []
        for name, thread in list(self._threads.items()):
            if not thread.heartbeat.stuck(now_s) or len(self._abandoned) >= _ABANDONED_LIMIT:
                continue
            _log.error("%s hangs at %s; it is abandoned and replaced", thread.name, thread.where())
            self._abandoned.append(thread)
            self._exchange(name, thread.camera)
            with self._lock:
                self._past_restarts[thread.name] += 1
            replaced.append(thread.name)
        return replaced

    def change(self, changes: Changes, cameras: Mapping[str, CameraConfig]) -> None:
        """Apply another configuration; cameras that did not change are not touched."""
        self._changing.set()
        try:
            self._end([*changes.removed, *changes.changed])
            for name in changes.removed:
                with self._lock:
                    thread = self._threads.pop(name)
                    self._past_restarts[thread.name] += thread.restarts
            for name in changes.changed:
                self._exchange(name, cameras[name])
            for name in changes.added:
                self._begin(name, self._thread(name, cameras[name]))
        finally:
            self._changing.clear()

    def _thread(self, name: str, camera: CameraConfig, after: CameraThread | None = None, *, paused: bool = False) -> CameraThread:
        return CameraThread(
            name,
            camera,
            self._preprocessor(),
            self._slots,
            self._metrics,
            self._changed,
            forever=self._forever,
            open_camera=self._open_camera,
            after=after,
            paused=paused,
        )

    def _exchange(self, name: str, camera: CameraConfig) -> None:
        """Replace the thread of a camera."""
        before = self._threads[name]
        paused = before.paused
        before.abandon()
        self._begin(name, self._thread(name, camera, before, paused=paused), before.restarts)

    def _begin(self, name: str, thread: CameraThread, past_restarts: int = 0) -> None:
        thread.start()  # first: a registered thread that is not alive looks like the end of all cameras
        with self._lock:
            self._threads[name] = thread
            self._past_restarts[thread.name] += past_restarts

    def _end(self, names: list[str]) -> None:
        """End threads, and wait a little: some devices can be opened only once."""
        deadline_s = time.monotonic() + _LEAVING_S
        for name in names:
            self._threads[name].stop()
        for name in names:
            self._threads[name].join(max(0.0, deadline_s - time.monotonic()))
            if self._threads[name].is_alive():
                self._abandoned.append(self._threads[name])
                self._threads[name].abandon()
