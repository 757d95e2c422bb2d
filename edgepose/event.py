"""What happened in front of a camera: the value that flows from `edgepose.events` to the broker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgepose.frame import Clock

EventKind = Literal["entered", "left", "fallen", "still", "waving", "arms_up", "zone_entered", "zone_left"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person did, said once.

    Attributes:
        kind: what happened; `still` follows a `fallen` of the same person.
        camera: name of the camera in the configuration.
        epoch: of the stream; track numbers of other epochs are other people's.
        sequence: number of the frame that completed the evidence.
        at: nanoseconds since the Unix epoch (UTC): capture time of that frame.
        since: the same of the beginning of the evidence.
        clock: where both times come from, as in `Frame`.
        track: number of the person.
        score: 0 to 1, how clearly the evidence spoke for it.
        box: x1 y1 x2 y2 in source pixels, where the person was seen last.
        width, height: of that picture, in pixels.
        zone: name of the zone, for `zone_entered` and `zone_left`.
        evidence: measured quantities that decided, by name, each with its unit in the name (`duration_s`, `wave_hz`).
    """

    kind: EventKind
    camera: str
    epoch: int
    sequence: int
    at: int
    since: int
    clock: Clock
    track: int
    score: float
    box: tuple[float, float, float, float]
    width: int
    height: int
    zone: str | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
