"""The way of a frame: camera threads, newest-wins slots, the engine, the people, and out.

::

    camera thread ──▶ slot ──▶ engine thread ──▶ people thread ──▶ deliver
    read, letterbox            run                decode, track, look again, smooth, check
    (one a camera)

The engine computes without Python's lock, so the people of one frame are worked out while the engine looks at the next.
Frames only move forward; between two threads there is room for one, and every wait ends. A thread that dies is begun again, and
a camera's thread that hangs is left to itself and replaced.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping

import cv2

from edgepose.config.diff import Changes
from edgepose.config.schema import Config
from edgepose.engine.backend import Backend
from edgepose.errors import EdgeposeError
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState
from edgepose.model.file import ModelInfo
from edgepose.pipeline.cameras import Cameras
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.inference_thread import Engine, InferenceThread
from edgepose.pipeline.postprocess_thread import Deliver, PostprocessThread
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.pose.image_quality import ImageQuality
from edgepose.recorder.black_box import BlackBox
from edgepose.supervision.heartbeat import Heartbeat
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics

__all__ = ["Deliver", "Pipeline"]


class Pipeline:
    """Runs all cameras of a configuration through one engine.

    All but `states`, `heartbeats` and the counters belongs to the main thread.
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
        refiner: Refiner | None = None,
        forever: bool = True,
        box: BlackBox | None = None,
    ) -> None:
        """
        Args:
            info: what the model says of itself.
            open_engine: opens the backend; called by `open`, and again after it has failed several times in a row.
            deliver: takes the people of each frame.
            camera_changed: is told each change of a camera's state, from that camera's thread.
            refiner: the refiner, opened by `open` and used by the people thread; None where nobody is looked at again.
            forever: whether a source that cannot be opened is tried again; otherwise it ends the pipeline with a failure.
        """
        self._config = config
        self._info = info
        self._open_engine = open_engine
        self._metrics = metrics
        self._deliver = deliver
        self._refiner = refiner
        self._forever = forever
        self._box = box
        self._slots = LatestFrameSlots(config.mqtt.pose_expiry_s, metrics.dropped)
        self._cameras = Cameras(config.cameras, self._inputs, self._slots, metrics, camera_changed, forever=forever)
        self._engine: InferenceThread | None = None
        self._people: PostprocessThread | None = None

    @property
    def failure(self) -> EdgeposeError | None:
        """The error that ended the work, where one did."""
        stages = [*self._loops(), *self._cameras.threads()]
        return next((stage.failure for stage in stages if stage.failure is not None), None)

    @property
    def backend(self) -> Backend:
        """The engine in use, once it is open."""
        assert self._engine is not None
        return self._engine.engine.backend

    def open(self) -> Backend:
        """Opens the engine and returns it, so that one can say which it is, and the refiner; EngineError where one cannot be opened."""
        # OpenCV would resize with as many threads as there are cores, the very ones that the engine computes on: slower (measured).
        cv2.setNumThreads(1)
        backend = self._open_engine()
        if self._refiner is not None:
            try:
                self._refiner.open()
            except EdgeposeError:
                backend.close()
                raise
        stuck_after_s = self._config.health.stuck_after_s
        self._engine = InferenceThread(
            Engine(backend, self._open_engine, self._inputs()),
            self._slots,
            self._metrics,
            self._cameras.done,
            self._fail,
            stuck_after_s=stuck_after_s,
            forever=self._forever,
        )
        self._people = PostprocessThread(
            self._config,
            self._engine.inferred,
            self._metrics,
            self._deliver,
            self._refiner,
            stuck_after_s=stuck_after_s,
            forever=self._forever,
            box=self._box,
        )
        return backend

    def start(self) -> None:
        """Begins the work, with the engine open."""
        assert self._engine is not None
        assert self._people is not None
        self._cameras.start()  # first: the engine's work is over when no camera is alive
        self._people.start()
        self._engine.start()

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """By stage: whether its loop turns."""
        return {stage.name: stage.heartbeat for stage in self._stages()}

    def restarts(self) -> dict[str, int]:
        """Times that a stage died and was begun again, or hung and was replaced; those that never did are left out."""
        restarts = self._cameras.restarts() + Counter({loop.name: loop.restarts for loop in self._loops()})
        return {name: count for name, count in restarts.items() if count}

    def reconnects(self) -> dict[str, int]:
        """Times that each camera came back after it was lost."""
        return {camera.state.camera: camera.reconnects for camera in self._cameras.threads()}

    def image_qualities(self) -> dict[str, ImageQuality]:
        """What was measured of each camera's pictures last; those without a picture are left out."""
        measured = {camera.state.camera: camera.visibility for camera in self._cameras.threads()}
        return {name: visibility for name, visibility in measured.items() if visibility is not None}

    def where(self, stage: str) -> str:
        """The line of code that a stage is at."""
        return next((thread.where() for thread in self._stages() if thread.name == stage), "nowhere")

    def states(self) -> list[CameraState]:
        """What is known of each camera now."""
        return [camera.state for camera in self._cameras.threads()]

    def finished(self) -> bool:
        """Whether all frames of all cameras are through, or the work has failed."""
        return self._people is not None and not self._people.is_alive()

    def replace_stuck(self, now_s: float) -> list[str]:
        """Leaves camera threads that hang to themselves and starts others in their place, as long as there are not too many.

        Returns:
            Names of the stages that were replaced.
        """
        return self._cameras.replace_stuck(now_s)

    def change(self, config: Config, info: ModelInfo, backend: Backend | None, refiner: Refiner | None) -> None:
        """Goes over to another configuration; what did not change goes on untouched.

        Args:
            info: of the model from now on.
            backend: open, in place of the one in use; None where that stays.
            refiner: open, or the one in use; None where nobody is looked at again.
        """
        assert self._engine is not None
        assert self._people is not None
        old, self._config = self._config, config
        changes = Changes.between(old, config)
        self._slots.stale_after(config.mqtt.pose_expiry_s)
        for loop in (self._engine, self._people):
            loop.heartbeat.bound_s = config.health.stuck_after_s
        if backend is not None:
            self._info = info
            self._engine.exchange(Engine(backend, self._open_engine, self._inputs()))
            self._cameras.lay_out()
        self._refiner = refiner
        self._people.configure(config, refiner)
        self._cameras.change(changes, config.cameras)

    def pause(self, camera: str) -> None:
        """Closes a camera's source until `resume`."""
        self._cameras[camera].pause()

    def resume(self, camera: str) -> None:
        """Opens a camera's source again."""
        self._cameras[camera].resume()

    def tap(self, camera: str, take: Callable[[Frame], None]) -> None:
        """Gives the next frame of a camera to `take`, from its thread."""
        self._cameras[camera].tap(take)

    def stop(self, timeout_s: float) -> bool:
        """Ends the cameras and lets what they left pass through; False when that took too long and was abandoned."""
        deadline = time.monotonic() + timeout_s
        self._cameras.stop()
        threads = list(self._stages())
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        clean = not any(thread.is_alive() for thread in threads)
        for loop in (self._engine, self._people):
            if loop is not None:
                loop.ending.set()
                if clean:
                    loop.close()
        return clean

    def _stages(self) -> list[SupervisedThread]:
        return [*self._cameras.threads(), *self._loops()]

    def _loops(self) -> list[SupervisedThread]:
        return [loop for loop in (self._engine, self._people) if loop is not None]

    def _inputs(self) -> Preprocessor:
        return Preprocessor(self._info, self._config.model.input_size, self._metrics.took)

    def _fail(self, error: EdgeposeError) -> None:
        self._cameras.stop()
