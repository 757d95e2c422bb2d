"""The way of a frame: camera threads, newest-wins slots, inference, postprocessing, and delivery.

::

    camera thread ──▶ slot ──▶ inference thread ──▶ postprocess thread ──▶ deliver
    read, letterbox            run                   decode, track, refine, smooth, check
    (one per camera)

The engine computes without Python's lock, so one frame is postprocessed while the engine runs the next. Frames only move forward; between
two threads there is room for one frame, and every wait has a deadline. A thread that dies is restarted, and a camera's thread that hangs is
abandoned and replaced.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import cv2
import msgspec

from edgepose.config.diff import Changes
from edgepose.config.schema import Config
from edgepose.engine.backend import Backend, Network
from edgepose.errors import EdgeposeError
from edgepose.flight.service import FlightService
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState
from edgepose.model.file import ModelInfo
from edgepose.pipeline.camera_thread import OpenCamera
from edgepose.pipeline.cameras import Cameras, CameraStats
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.inference_thread import Engine, InferenceThread
from edgepose.pipeline.postprocess_thread import Deliver, PostprocessThread, TakePeople
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.pipeline.tiles import TileVisitor
from edgepose.supervision.heartbeat import Heartbeat
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from edgepose.recorder.black_box import BlackBox

__all__ = ["CameraStats", "Deliver", "Pipeline", "PipelineStats"]


class PipelineStats(msgspec.Struct, frozen=True):
    """The pipeline at one moment.

    Attributes:
        cameras: by name.
        stages: names of all threads: `camera-<name>`, `inference`, `postprocess`.
        restarts: times that a stage died and was restarted, or hung and was replaced; stages that never did are absent.
        cpu_fallback: whether a network runs on the CPU because the accelerator does not work.
        server_states: states of inference servers that do not work, such as `unreachable`; empty where they work, or networks run here.
        images_sent_to: inference servers to which images leave this device.
    """

    cameras: Mapping[str, CameraStats] = msgspec.field(default_factory=dict)
    stages: tuple[str, ...] = ()
    restarts: Mapping[str, int] = msgspec.field(default_factory=dict)
    cpu_fallback: bool = False
    server_states: tuple[str, ...] = ()
    images_sent_to: tuple[str, ...] = ()


class Pipeline:
    """All cameras of a configuration, run through one engine.

    All methods except `stats` and `heartbeats` belong to the main thread.
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
        box: "BlackBox | None" = None,
        flight: FlightService | None = None,
        open_camera: OpenCamera | None = None,
    ) -> None:
        """
        Args:
            info: the metadata of the model.
            open_engine: opens the backend; called by `open`, and again after several failures in a row.
            deliver: receives the result of each frame.
            camera_changed: called with each change of a camera's state, from that camera's thread.
            refiner: opened by `open` and used by the postprocess thread; None where nobody is refined.
            forever: whether a source that cannot be opened is tried again; otherwise it ends the pipeline with a failure.
            box: the black box, where there is one.
            flight: places people on the ground, where there is telemetry.
            open_camera: opens a camera's source, in its thread; None opens what the configuration names.
        """
        self._config = config
        self._info = info
        self._open_engine = open_engine
        self._metrics = metrics
        self._deliver = deliver
        self._refiner = refiner
        self._forever = forever
        self._box = box
        self._flight = flight
        self._slots = LatestFrameSlots(config.mqtt.pose_expiry_s, metrics.dropped, _priorities(config))
        self._cameras = Cameras(
            config.cameras, self._preprocessor, self._slots, metrics, camera_changed, forever=forever, open_camera=open_camera
        )
        self._tile_visitors: dict[str, TileVisitor] = {}  # by camera; replaced with the configuration
        self._inference_thread: InferenceThread | None = None
        self._postprocess_thread: PostprocessThread | None = None

    @property
    def failure(self) -> EdgeposeError | None:
        """The error that ended the work, or None."""
        stages = [*self._loops(), *self._cameras.threads()]
        return next((stage.failure for stage in stages if stage.failure is not None), None)

    @property
    def backend(self) -> Backend:
        """The backend in use, once it is open."""
        assert self._inference_thread is not None
        return self._inference_thread.engine.backend

    def networks(self) -> list[Network]:
        """Return the open networks: the pose network, and the refiner where there is one."""
        thread, refiner = self._inference_thread, self._refiner
        both = (thread.engine.backend if thread is not None else None, refiner.network if refiner is not None else None)
        return [network for network in both if network is not None]

    def fallback_reasons(self) -> tuple[str, ...]:
        """Return why networks run on the CPU because the accelerator does not work, each reason once."""
        return tuple(dict.fromkeys(network.reason for network in self.networks() if getattr(network, "fallback", False)))

    def open(self) -> Backend:
        """Open the engine and the refiner; return the engine. EngineError where one of them cannot be opened."""
        # OpenCV would resize with as many threads as there are cores, the same that the engine computes on: slower (measured).
        cv2.setNumThreads(1)
        backend = self._open_engine()
        if self._refiner is not None:
            try:
                self._refiner.open()
            except EdgeposeError:
                backend.close()
                raise
        stuck_after_s = self._config.health.stuck_after_s
        self._inference_thread = InferenceThread(
            Engine(backend, self._open_engine, self._preprocessor()),
            self._slots,
            self._metrics,
            self._cameras.done,
            self._fail,
            stuck_after_s=stuck_after_s,
            forever=self._forever,
        )
        self._postprocess_thread = PostprocessThread(
            self._config,
            self._inference_thread.inferred,
            self._metrics,
            self._deliver,
            self._refiner,
            stuck_after_s=stuck_after_s,
            forever=self._forever,
            box=self._box,
            frame_waits=self._inference_thread.live_frame_waits,
            flight=self._flight,
        )
        self._inference_thread.known_people = self._postprocess_thread.known_people
        self._inference_thread.tiles_of = self._tiles_of
        return backend

    def start(self) -> None:
        """Start the work, with the engine open."""
        assert self._inference_thread is not None
        assert self._postprocess_thread is not None
        self._cameras.start()  # first: the inference thread ends when no camera thread is alive
        self._postprocess_thread.start()
        self._inference_thread.start()

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Return the heartbeat of each stage, by its name."""
        return {stage.name: stage.heartbeat for stage in self._stages()}

    def stats(self) -> PipelineStats:
        """Return the state and the counts of this moment."""
        cameras, restarts = self._cameras.stats()
        restarts += Counter({loop.name: loop.restarts for loop in self._loops()})
        return PipelineStats(
            cameras=cameras,
            stages=tuple(stage.name for stage in self._stages()),
            restarts=dict(restarts),
            cpu_fallback=bool(self.fallback_reasons()),
            server_states=self._of_servers("state"),
            images_sent_to=self._of_servers("sends_to"),
        )

    def _of_servers(self, attribute: str) -> tuple[str, ...]:
        """Return what the networks on servers have as an attribute, each value once; backends of this machine lack it."""
        return tuple(dict.fromkeys(str(value) for network in self.networks() if (value := getattr(network, attribute, None))))

    def where(self, stage: str) -> str:
        """Return the line of code that a stage is at."""
        return next((thread.where() for thread in self._stages() if thread.name == stage), "nowhere")

    def finished(self) -> bool:
        """Return whether all frames of all cameras are processed, or the work has failed."""
        return self._postprocess_thread is not None and not self._postprocess_thread.is_alive()

    def replace_stuck(self, now_s: float) -> list[str]:
        """Abandon camera threads that hang and start replacements, as long as there are not too many.

        Returns:
            Names of the stages that were replaced.
        """
        return self._cameras.replace_stuck(now_s)

    def change(self, config: Config, info: ModelInfo, backend: Backend | None, refiner: Refiner | None) -> None:
        """Apply another configuration; what did not change is not touched.

        Args:
            info: metadata of the model from now on.
            backend: open, replaces the one in use; None where that stays.
            refiner: open, or the one in use; None where nobody is refined.
        """
        assert self._inference_thread is not None
        assert self._postprocess_thread is not None
        old, self._config = self._config, config
        changes = Changes.between(old, config)
        self._slots.configure(config.mqtt.pose_expiry_s, _priorities(config))
        for loop in (self._inference_thread, self._postprocess_thread):
            loop.heartbeat.bound_s = config.health.stuck_after_s
        if backend is not None:
            self._info = info
            self._inference_thread.exchange(Engine(backend, self._open_engine, self._preprocessor()))
            self._cameras.exchange_preprocessors()
        elif config.model.input_size != old.model.input_size:
            self._inference_thread.prepare_with(self._preprocessor())
            self._cameras.exchange_preprocessors()
        self._tile_visitors = {}
        self._refiner = refiner
        self._postprocess_thread.configure(config, refiner)
        self._cameras.change(changes, config.cameras)

    def process_every(self, frames: int) -> None:
        """Process one live frame of so many, of every camera."""
        self._slots.every = frames

    def pause(self, camera: str) -> None:
        """Close a camera's source until `resume`."""
        self._cameras[camera].pause()

    def resume(self, camera: str) -> None:
        """Open a camera's source again."""
        self._cameras[camera].resume()

    def tap(self, camera: str, take: Callable[[Frame], None]) -> None:
        """Call `take` with the next frame of a camera, from its thread."""
        self._cameras[camera].tap(take)

    def tap_people(self, camera: str, take: TakePeople) -> None:
        """Call `take` with the next frame of a camera and the people in it, from the postprocess thread."""
        assert self._postprocess_thread is not None
        self._postprocess_thread.tap_people(camera, take)

    def stop(self, timeout_s: float) -> bool:
        """Stop the cameras and process the frames in flight; return False where that took too long and was abandoned."""
        deadline_s = time.monotonic() + timeout_s
        self._cameras.stop()
        threads = list(self._stages())
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
        clean = not any(thread.is_alive() for thread in threads)
        for loop in (self._inference_thread, self._postprocess_thread):
            if loop is not None:
                loop.ending.set()
                if clean:
                    loop.close()
        return clean

    def _stages(self) -> list[SupervisedThread]:
        return [*self._cameras.threads(), *self._loops()]

    def _loops(self) -> list[SupervisedThread]:
        return [loop for loop in (self._inference_thread, self._postprocess_thread) if loop is not None]

    def _preprocessor(self) -> Preprocessor:
        return Preprocessor(self._info, self._config.model.input_size, self._metrics.took, self._metrics.clock)

    def _tiles_of(self, camera: str) -> TileVisitor | None:
        """Return the visitor of a camera's tiles; called by the inference thread."""
        if not self._config.tiles.enabled:
            return None
        visitors = self._tile_visitors
        if camera not in visitors:
            sizes = None if self._flight is None else self._flight.expected_sizes(camera)
            visitors[camera] = TileVisitor(self._config, self._info, self._metrics, sizes)
        return visitors[camera]

    def _fail(self, error: EdgeposeError) -> None:
        self._cameras.stop()


def _priorities(config: Config) -> dict[str, int]:
    return {name: camera.priority for name, camera in config.cameras.items()}
