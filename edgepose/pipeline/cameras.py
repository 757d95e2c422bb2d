"""The camera threads, one a camera: exchanged when they hang, or when their configuration changes."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from edgepose.config.diff import Changes
from edgepose.config.schema import CameraConfig
from edgepose.messages.camera_state import CameraState
from edgepose.pipeline.camera_thread import CameraThread
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.stages import Preprocessor
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_LEAVING_S = 2.0
_ABANDONED_LIMIT = 8  # threads that hang and were replaced; each holds memory, a socket, a decoder


class Cameras:
    """All camera threads. Belongs to the main thread, but for `threads` and `done`."""

    def __init__(
        self,
        cameras: Mapping[str, CameraConfig],
        inputs: Callable[[], Preprocessor],
        slots: LatestFrameSlots,
        metrics: Metrics,
        changed: Callable[[CameraState], None],
        *,
        forever: bool,
    ) -> None:
        """
        Args:
            inputs: makes what lays out one camera's frames for the network in use.
            slots: where the frames are left.
            changed: told each change of a camera's state, from that camera's thread.
            forever: whether a source that cannot be opened is tried again.
        """
        self._inputs = inputs
        self._slots = slots
        self._metrics = metrics
        self._changed = changed
        self._forever = forever
        self._threads = {name: self._thread(name, camera) for name, camera in cameras.items()}
        self._abandoned: list[CameraThread] = []
        self._former_restarts: Counter[str] = Counter()  # of threads that were replaced
        self._changing = threading.Event()  # set while there may be no camera for a moment

    def __getitem__(self, name: str) -> CameraThread:
        return self._threads[name]

    def threads(self) -> list[CameraThread]:
        """Those in use now."""
        return list(self._threads.values())

    def done(self) -> bool:
        """Whether no frame will come any more."""
        return not self._changing.is_set() and not any(thread.is_alive() for thread in self.threads())

    def start(self) -> None:
        """Begins to open and read."""
        for thread in self.threads():
            thread.start()

    def stop(self) -> None:
        """Ends all of them soon."""
        for thread in self.threads():
            thread.stop()

    def restarts(self) -> Counter[str]:
        """Times that each thread, by its name, died and was begun again, or hung and was replaced."""
        return self._former_restarts + Counter({thread.name: thread.restarts for thread in self.threads()})

    def lay_out(self) -> None:
        """Lays out frames for another network from the next ones on."""
        for thread in self.threads():
            thread.lay_out(self._inputs())

    def replace_stuck(self, now_s: float) -> list[str]:
        """Leaves threads that hang to themselves and starts others in their place, as long as there are not too many.

        Returns:
            Names of the threads that were replaced.
        """
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        replaced = []
        for name, thread in list(self._threads.items()):
            if not thread.heartbeat.stuck(now_s) or len(self._abandoned) >= _ABANDONED_LIMIT:
                continue
            _log.error("%s hangs at %s; it is left alone and another takes its place", thread.name, thread.where())
            self._abandoned.append(thread)
            self._exchange(name, thread.camera)
            self._former_restarts[thread.name] += 1
            replaced.append(thread.name)
        return replaced

    def change(self, changes: Changes, cameras: Mapping[str, CameraConfig]) -> None:
        """Goes over to another configuration; cameras that did not change go on untouched."""
        self._changing.set()
        try:
            self._end([*changes.removed, *changes.changed])
            for name in changes.removed:
                self._former_restarts[self._threads[name].name] += self._threads.pop(name).restarts
            for name in changes.changed:
                self._exchange(name, cameras[name])
            for name in changes.added:
                self._threads[name] = self._thread(name, cameras[name])
                self._threads[name].start()
        finally:
            self._changing.clear()

    def _thread(self, name: str, camera: CameraConfig, after: CameraThread | None = None, *, paused: bool = False) -> CameraThread:
        return CameraThread(
            name,
            camera,
            self._inputs(),
            self._slots,
            self._metrics,
            self._changed,
            forever=self._forever,
            after=after,
            paused=paused,
        )

    def _exchange(self, name: str, camera: CameraConfig) -> None:
        """Puts a new thread in the place of a camera's old one."""
        before = self._threads[name]
        paused = before.paused
        before.abandon()
        self._former_restarts[before.name] += before.restarts
        self._threads[name] = self._thread(name, camera, before, paused=paused)
        self._threads[name].start()

    def _end(self, names: list[str]) -> None:
        """Ends threads, and waits a little: many a device can be opened once only."""
        deadline = time.monotonic() + _LEAVING_S
        for name in names:
            self._threads[name].stop()
        for name in names:
            self._threads[name].join(max(0.0, deadline - time.monotonic()))
            if self._threads[name].is_alive():
                self._abandoned.append(self._threads[name])
                self._threads[name].abandon()
