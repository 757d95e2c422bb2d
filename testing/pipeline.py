"""A pipeline whose sources, engine and refiner are scripted, so that each failure comes when a test wants it."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgepose.pipeline.camera_thread
from edgepose.config.schema import CameraConfig, Config, MqttConfig, RefineConfig, TilesConfig, TrackConfig
from edgepose.errors import EdgeposeError, EndOfStream, EngineError, SourceError
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState
from edgepose.model.file import read_model
from edgepose.person import Candidates, Person
from edgepose.pipeline.pipeline import Pipeline
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import FrameResult
from edgepose.telemetry.metrics import Metrics
from testing.onnx_files import answers, write_edgepose
from testing.waiting import wait_for


class Script:
    """A source that gives frames of these sizes, then raises this error."""

    url = "script"
    corrupt_frames = 0
    stale_frames = 0
    superseded_frames = 0
    patience_s = 0.0
    patience_s = 0.0

    def __init__(self, camera: str, epoch: int, sizes: list[tuple[int, int]], end: SourceError, *, live: bool = False) -> None:
        self.camera = camera
        self.live = live
        self.width = self.height = 0
        self._frames = [
            Frame(np.full((height, width, 3), 255, np.uint8), number * 40_000_000, "stream", number, camera, epoch)
            for number, (width, height) in enumerate(sizes)
        ]
        self._end = end
        self._closed = threading.Event()

    def read(self) -> Frame:
        if self._frames:
            return self._frames.pop(0)
        if self._end.cause == "never":
            self._closed.wait(30)
        raise self._end

    def close(self) -> None:
        self._closed.set()


class Backend:
    """A backend that finds the same six people in every frame, and fails as scripted."""

    name = device = precision = reason = "fake"

    def __init__(self, failures: list[Exception | None]) -> None:
        self._failures = failures
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False

    def run(self, images: NDArray[np.uint8]) -> Candidates:
        self.shapes.append(images.shape)
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        boxes, scores, keypoints = answers()
        return Candidates(boxes[None], scores[None], keypoints[None])

    def close(self) -> None:
        self.closed = True


OVER = EndOfStream("over")
Opening = Callable[[int], Script] | SourceError


class Run:
    """One pipeline over scripted openings of one camera."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        openings: Sequence[Opening],
        *,
        backends: Sequence[Backend | EdgeposeError] | None = None,
        forever: bool = True,
        refiner: Refiner | None = None,
        fault: Exception | None = None,
        pose_expiry_s: float = 60,
        **camera: Any,
    ) -> None:
        self.delivered: list[tuple[Frame, list[Person]]] = []
        self.finished_at: list[int] = []
        self.stale: list[bool] = []
        self.states: list[CameraState] = []
        self.fault = fault
        self.metrics = Metrics()
        opened = iter([Backend([])] if backends is None else backends)
        left = list(openings)

        def open_source(name: str, camera: CameraConfig, *, epoch: int = 0) -> Script:
            if not left:
                raise SourceError("gone", "refused")
            opening = left.pop(0)
            if isinstance(opening, SourceError):
                raise opening
            return opening(epoch)

        def open_engine() -> Backend:
            backend = next(opened)
            if isinstance(backend, EdgeposeError):
                raise backend
            return backend

        monkeypatch.setattr(edgepose.pipeline.camera_thread, "open_source", open_source)
        fast = {"reconnect_initial_s": 0.001, "reconnect_maximum_s": 0.001, **camera}
        config = Config(
            cameras={"a": CameraConfig(source="x", **fast)},
            track=TrackConfig(min_hits=1),
            tiles=TilesConfig(enabled=False),
            refine=RefineConfig(people=2, min_height_px=0),
            mqtt=MqttConfig(pose_expiry_s=pose_expiry_s),
        )
        info = read_model(write_edgepose(folder / "tiny.onnx")).info
        self.pipeline = Pipeline(
            config, info, open_engine, self.metrics, self.deliver, self.states.append, refiner=refiner, forever=forever
        )
        self.pipeline.open()
        self.pipeline.start()

    def deliver(self, result: FrameResult) -> None:
        if self.fault is not None:
            raise self.fault
        self.delivered.append((result.frame, result.people))
        self.finished_at.append(result.at_ns)
        self.stale.append(result.stale)

    def wait(self) -> "Run":
        wait_for(self.pipeline.finished)
        assert self.pipeline.stop(2)
        return self


def file(sizes: list[tuple[int, int]], end: SourceError = OVER, *, live: bool = False) -> Callable[[int], Script]:
    return lambda epoch: Script("a", epoch, sizes, end, live=live)


def frame(sequence: int) -> Frame:
    return Frame(np.zeros((4, 4, 3), np.uint8), 0, "host", sequence, "a")


class RefinerBackend:
    """A refiner that puts all keypoints at the upper left corner of the crop, and fails as scripted."""

    name = device = precision = reason = "fake"

    def __init__(self, failures: list[Exception | None] | None = None) -> None:
        self._failures = failures or []
        self.crops: list[int] = []
        self.closed = False

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        if crops.any():  # not the black ones of warming up
            self.crops.append(len(crops))
            failure = self._failures.pop(0) if self._failures else None
            if failure is not None:
                raise failure
        return np.ones((len(crops), 17, 3), np.float32)

    def close(self) -> None:
        self.closed = True


def opening(*refiners: RefinerBackend | EngineError) -> Callable[[], RefinerBackend]:
    left = iter(refiners)

    def open_network() -> RefinerBackend:
        refiner = next(left)
        if isinstance(refiner, EngineError):
            raise refiner
        return refiner

    return open_network
