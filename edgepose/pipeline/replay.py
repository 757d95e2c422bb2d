"""The replay of a black-box recording: decoding, tracking, smoothing, checks and events through the daemon's own postprocessor."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepose.config.schema import Config
from edgepose.earth import LocalFrame
from edgepose.errors import ConfigError
from edgepose.flight.ground_locator import GroundLocator, Origin, TelemetryRecord
from edgepose.flight.history import AircraftPose
from edgepose.frame import Frame
from edgepose.ground import TelemetryState, WorldPlaces
from edgepose.motion import STILL, Motion
from edgepose.person import Person
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.stages import FrameResult, PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.refine.schedule import RefineSchedule
from edgepose.recorder.format import FrameRecord, LossRecord, SegmentHeader, StateRecord, is_segment, records
from edgepose.recorder.state_snapshot import decode_state
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import Tile

_NO_IMAGES = np.zeros((0, 0, 0, 0), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class FailedFrame:
    """A frame whose postprocessing or delivery failed when it was recorded."""

    frame: Frame


Replayed = SegmentHeader | StateRecord | LossRecord | FrameResult | FailedFrame


def replay(path: Path) -> Iterator[Replayed]:
    """Yield the contents of a recording in order, with each frame's result, which equals that of the daemon that recorded.

    Raises:
        RecordingError: the recording is missing, damaged, of another version, or a segment lacks the state to begin from.
    """
    config, flight = Config(), _RecordedFlight(Config(), WorldPlaces())
    cameras: dict[str, Postprocessor] = {}
    for record in records(path):
        if isinstance(record, SegmentHeader):
            config, flight, cameras = record.settings, _RecordedFlight(record.settings, record.places), {}
        if not isinstance(record, FrameRecord):
            yield record
            continue
        if record.camera not in cameras:
            cameras[record.camera] = Postprocessor(record.camera, config, Metrics(), flight=flight)
        flight.take(record.telemetry)
        if record.snapshot is not None:
            cameras[record.camera].restore(record.snapshot)
        yield _result(record, cameras[record.camera], config)


class _RecordedFlight:
    """The telemetry of a segment, and the places on the map.

    Attributes:
        places: on the map.
    """

    def __init__(self, config: Config, places: WorldPlaces) -> None:
        self.places = places
        self._config = config
        self._origin = Origin(config.flight)
        self._pose: AircraftPose | TelemetryState = "no_telemetry"

    def take(self, telemetry: bytes | None) -> None:
        """Take that of the next frame."""
        if telemetry is not None:
            record = decode_state(telemetry, TelemetryRecord)
            self._pose = record.pose
            self._origin.frame = None if record.origin is None else LocalFrame(*record.origin)

    def locator(self, camera: str) -> GroundLocator | None:
        """Return a locator for a camera; None where nobody is placed."""
        settings, flight = self._config.cameras.get(camera), self._config.flight
        if settings is None or settings.mount is None or flight.source == "none":
            return None
        return GroundLocator(settings.mount, flight, lambda *_: self._pose, self._origin, self._config.pose.keypoint_threshold)


def refuse_overwriting(recording: Path, outputs: Sequence[Path]) -> None:
    """Refuse outputs that would destroy a recording, which shares its segments with others, or one another.

    Raises:
        ConfigError: an output is in the recording's folder, is a segment, or is named twice.
    """
    taken: list[Path] = []
    for path in outputs:
        real = Path(os.path.realpath(path))
        inside = recording.is_dir() and real.is_relative_to(os.path.realpath(recording))
        if inside or is_segment(real):
            raise ConfigError(f"{path} is part of a recording of the black box; expected a place outside of it")
        if real in taken and real != Path(os.devnull):
            raise ConfigError(f"{path} would take both the pose messages and the event messages; expected a place of its own for each")
        taken.append(real)


class _RecordedRefiner:
    """A refiner that returns the recorded results of one frame."""

    def __init__(self, refined: Sequence[Person]) -> None:
        self._refined = refined

    def people(
        self, frame: Frame, people: Sequence[Person], schedule: RefineSchedule, frame_waits: Callable[[], bool] | None
    ) -> list[Person]:
        return [replace(refined, track=person.track) for refined, person in zip(self._refined, people, strict=True)]


def _result(record: FrameRecord, postprocessor: Postprocessor, config: Config) -> FrameResult | FailedFrame:
    # An image of that size without memory: postprocessing does not read it.
    image = np.broadcast_to(np.uint8(0), (record.height, record.width, 3))
    frame = Frame(image, record.captured_at_ns, record.clock, record.sequence, record.camera, record.epoch)
    prepared = PreparedFrame(frame, Letterbox(*record.letterbox), _NO_IMAGES)
    postprocessor.configure(config, _RecordedRefiner(record.refined.people()) if record.refined is not None else None)
    try:
        motion = STILL if record.motion is None else Motion.of(record.motion)
        visited = None if record.visited is None else tuple(Tile(*tile) for tile in record.visited)
        people = postprocessor.people(prepared, record.candidates(), motion, visited)
    except Exception:
        if not record.failed:
            raise
    if record.failed:
        postprocessor.reset()
        return FailedFrame(frame)
    events, occupancy, aircraft = postprocessor.events, postprocessor.occupancy, postprocessor.aircraft
    return FrameResult(frame, people, events, record.at_ns, live=False, occupancy=occupancy, aircraft=aircraft)
