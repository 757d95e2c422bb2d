"""A recording of the black box once more: decoding, tracking, smoothing, checks and events, through the daemon's own stage."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepose.config.schema import Config
from edgepose.errors import ConfigError
from edgepose.frame import Frame
from edgepose.person import Person
from edgepose.pipeline.stages import FrameResult, Postprocessor, PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.refine_schedule import RefineSchedule
from edgepose.recorder.format import FrameRecord, LossRecord, SegmentHeader, StateRecord, is_segment, records
from edgepose.telemetry.metrics import Metrics

_NO_IMAGES = np.zeros((0, 0, 0, 0), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class FailedFrame:
    """A frame whose people could not be worked out, or not be handed on, as in the recording."""

    frame: Frame


Played = SegmentHeader | StateRecord | LossRecord | FrameResult | FailedFrame


def replay(path: Path) -> Iterator[Played]:
    """All that a recording holds, in order; looks become outcomes, the very ones of the daemon that recorded.

    RecordingError where it is missing, damaged, or cannot be gone on from.
    """
    config = Config()
    stages: dict[str, Postprocessor] = {}
    for record in records(path):
        if isinstance(record, SegmentHeader):
            config, stages = record.settings, {}
        if not isinstance(record, FrameRecord):
            yield record
            continue
        refined = _Recorded()
        stage = stages.get(record.camera)
        if stage is None:
            stage = stages[record.camera] = Postprocessor(config, Metrics())
        if record.memory is not None:
            stage.restore(record.memory, record.camera)
        yield _once_more(stage, config, record, refined)


def refuse_overwriting(recording: Path, outputs: Sequence[Path]) -> None:
    """ConfigError where writing would destroy a recording, which shares its segments with others, or one of the outputs."""
    taken: list[Path] = []
    for path in outputs:
        place = Path(os.path.realpath(path))
        inside = recording.is_dir() and place.is_relative_to(os.path.realpath(recording))
        if inside or is_segment(place):
            raise ConfigError(f"{path} is part of a recording of the black box; expected a place outside of it")
        if place in taken and place != Path(os.devnull):
            raise ConfigError(f"{path} would take both the pose messages and the event messages; expected a place of its own for each")
        taken.append(place)


class _Recorded:
    """Says what the second look said in the recording."""

    def __init__(self) -> None:
        self.said: list[Person] = []

    def people(self, frame: Frame, people: Sequence[Person], turns: RefineSchedule) -> list[Person]:
        return [replace(said, track=person.track) for said, person in zip(self.said, people, strict=True)]


def _once_more(stage: Postprocessor, config: Config, look: FrameRecord, recorded: _Recorded) -> FrameResult | FailedFrame:
    # A picture of that size without memory: nobody looks at it.
    image = np.broadcast_to(np.uint8(0), (look.height, look.width, 3))
    frame = Frame(image, look.captured_at, look.clock, look.sequence, look.camera, look.epoch)
    if look.refined is not None:
        recorded.said = look.refined.people()
    stage.configure(config, recorded if look.refined is not None else None)
    try:
        people = stage.people(PreparedFrame(frame, Letterbox(*look.letterbox), _NO_IMAGES), look.candidates())
    except Exception:
        if not look.failed:
            raise
    if look.failed:
        stage.reset()
        return FailedFrame(frame)
    return FrameResult(frame, people, stage.events, look.at, live=False)
