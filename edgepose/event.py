"""Events: the values that `edgepose.events` produces and that are published as event messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from edgepose.frame import Clock
from edgepose.ground import GroundPlace

EventKind = Literal["entered", "left", "fallen", "still", "waving", "arms_up", "zone_entered", "zone_left", "loitering", "line_crossed"]

Direction = Literal["to_left", "to_right"]
"""Side of a line on which a person ends, seen from its first point towards its second."""


@dataclass(frozen=True, slots=True)
class Event:
    """An action of a person, reported once.

    Attributes:
        kind: what happened; `still` follows `fallen` of the same person.
        camera: name of the camera in the configuration.
        epoch: of the stream; track numbers of different epochs belong to different people.
        sequence: number of the frame that completed the evidence.
        at_ns: capture time of that frame, nanoseconds since the Unix epoch (UTC).
        since_ns: beginning of the evidence, on the same clock.
        clock: source of both times, as in `Frame`.
        track: track number of the person.
        score: strength of the evidence: 0.5 is just enough, 1 leaves no doubt.
        box: last box of the person, x1 y1 x2 y2 in source pixels.
        width, height: size of the frame in pixels.
        zone: name of the zone, for `zone_entered`, `zone_left` and `loitering`.
        line, direction: name of the line and side on which the person ends, for `line_crossed`.
        ground: last place of the person on the ground; None where it is not known.
        evidence: the measured quantities by name; each name carries its unit (`duration_s`, `wave_hz`).
    """

    kind: EventKind
    camera: str
    epoch: int
    sequence: int
    at_ns: int
    since_ns: int
    clock: Clock
    track: int
    score: float
    box: tuple[float, float, float, float]
    width: int
    height: int
    zone: str | None = None
    line: str | None = None
    direction: Direction | None = None
    ground: GroundPlace | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)


class Occupancy(msgspec.Struct, frozen=True):
    """The people in the frame of a camera, or in a zone.

    Attributes:
        count: people who entered and have not left; those who are lost for less than `leave_after_s` are among them.
        entered, left: entries and exits since the start, whether or not they are published as events. People of an earlier epoch of the
            stream never left: `entered` minus `left` may exceed `count`.
    """

    count: int
    entered: int
    left: int
