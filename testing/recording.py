"""A black box that is fed with frames of our own, and what its recordings say."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgepose.capture.clock import Instant
from edgepose.config.aircraft import FlightConfig, MountConfig
from edgepose.config.schema import BlackBoxConfig as Settings
from edgepose.config.schema import CameraConfig, Config, RefineConfig, TrackConfig
from edgepose.flight.service import FlightService
from edgepose.frame import Frame
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.structs import encode
from edgepose.model.file import ModelFile
from edgepose.person import Candidates
from edgepose.pipeline.frame_slots import QueuedFrame
from edgepose.pipeline.inference_thread import InferenceResult
from edgepose.pipeline.postprocess_thread import frame_record
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.replay import replay
from edgepose.pipeline.stages import FrameResult, PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.recorder.black_box import BlackBox
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import Tile

IMAGE = np.zeros((480, 640, 3), np.uint8)
LETTERBOX = Letterbox.fit(480, 640, 256, 320)
GROUND = cv2.resize(np.random.default_rng(1).integers(0, 256, (60, 120, 3), np.uint8), (960, 480))


def config(folder: Path, settings: Settings | None = None) -> Config:
    zones = {"all": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]}
    return Config(
        cameras={"a": CameraConfig(source="x", zones=zones)},
        black_box=replace(settings or Settings(), path=str(folder)),
        track=TrackConfig(min_hits=1),
    )


class RecordingDaemon:
    """A postprocess thread without a thread: wandering candidates, a real postprocessor and a real black box."""

    def __init__(
        self,
        folder: Path,
        model: ModelFile,
        settings: Settings | None = None,
        *,
        refine: RefineConfig | None = None,
        refiner: Refiner | None = None,
        flying: bool = False,
        flight: FlightConfig | None = None,
    ) -> None:
        """
        Args:
            flying: whether the camera moves over the ground.
            flight: telemetry from a topic, whose messages the daemon makes up; None for a camera without a mount.
        """
        self.config = replace(config(folder, settings), refine=refine or RefineConfig())
        if flight is not None:
            camera = replace(self.config.cameras["a"], mount=MountConfig(field_of_view_deg=60, pitch_deg=-60))
            self.config = replace(self.config, cameras={"a": camera}, flight=flight)
        self._telemetry = None if flight is None else FlightService(self.config)
        self.box = BlackBox(self.config, model)
        if self._telemetry is not None:
            self.box.configure(self.config, self._telemetry.places)
        self.box.start()
        self.stage = Postprocessor("a", self.config, Metrics(), refiner, lambda: bool(self._random.integers(2)), flight=self._telemetry)
        self.image = IMAGE
        self.motions = 0
        self._flying = flying
        self.said: list[bytes] = []
        self._number = 0
        self._random = np.random.default_rng(0)

    def run(self, frames: int, *, failed: bool = False, camera: str = "a", epoch: int = 0) -> None:
        for _ in range(frames):
            self._number += 1
            image, visited = self._flight() if self._flying else (self.image, None)
            frame = Frame(image, 10**18 + self._number * 100_000_000, "stream", self._number, camera, epoch)
            now = Instant(time.monotonic_ns(), frame.captured_at_ns)
            prepared = PreparedFrame(frame, LETTERBOX, LETTERBOX.apply(image)[None], started=now)
            self._tell_telemetry()
            inferred = InferenceResult(QueuedFrame(prepared, True, 0), self._candidates(), visited)
            snapshot = self.stage.snapshot() if self.box.wants_snapshot(camera) else None
            people = self.stage.people(prepared, inferred.candidates, visited=visited)
            self.motions += self.stage.motion is not None and not self.stage.motion.still
            at_ns = frame.captured_at_ns + 5_000_000
            if failed:
                self.stage.reset()
            else:
                self.said += lines(FrameResult(frame, people, self.stage.events, at_ns, True, aircraft=self.stage.aircraft))
            self.box.add(frame_record(inferred, self.stage, self.config, at_ns, failed=failed, snapshot=snapshot))

    def _tell_telemetry(self) -> None:
        """Say where the aircraft is now; not in each frame."""
        if self._telemetry is not None and self._number % 3:
            north, pitch = 1e-6 * self._number, float(self._random.normal(0, 1))
            said = {"lat": 47 + north, "lon": 8.0, "height_m": 30.0, "heading_deg": 0.1 * self._number, "pitch_deg": pitch}
            assert self._telemetry.topic_reader is not None
            self._telemetry.topic_reader.take(json.dumps(said).encode())

    def _flight(self) -> tuple[NDArray[np.uint8], tuple[Tile, ...]]:
        """Return the next frame of a camera that flies over textured ground, and the tiles that are visited in it."""
        shift = 5 * (self._number % 50)
        left = int(self._random.integers(0, 320))
        return np.ascontiguousarray(GROUND[:480, shift : shift + 640]), (Tile(left, 0, left + 320, 256),)

    def _candidates(self) -> Candidates:
        places = (
            self._random.normal(0, 0.5, (1, 3, 19, 2))
            + np.arange(19)[:, None] * (1.0, 5.0)
            + [[[[30.0, 20]]], [[[120.0, 60]]], [[[200.0, 10]]]][0]
        )
        places = places + np.arange(3)[None, :, None, None] * (80, 0)
        boxes = np.concatenate((places.min(2), places.max(2)), 2)
        scores = np.array([[0.9, 0.5, self._random.uniform(0, 0.4)]])
        keypoints = np.concatenate((places[:, :, :17], self._random.uniform(0, 1, (1, 3, 17, 1))), 3)
        return Candidates(*(array.astype(np.float32) for array in (boxes, scores, keypoints)))


def lines(result: FrameResult) -> list[bytes]:
    poses = encode(poses_message(result.frame, result.people, result.at_ns, aircraft=result.aircraft))
    return [poses, *(encode(event_message(event)) for event in result.events)]


def again(recording: Path) -> list[bytes]:
    return [line for played in replay(recording) if isinstance(played, FrameResult) for line in lines(played)]


def recordings(folder: Path, reason: str) -> list[Path]:
    return sorted(folder.glob(f"*Z-{reason}*"))
