"""What happened in front of a camera: the value that flows from `edgepose.events` to the broker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["entered", "left", "fallen", "still", "waving", "arms_up", "zone_entered", "zone_left"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person did, said once.

    Attributes:
        kind: what happened; `still` follows a `fallen` of the same track.
        camera: name of the camera in the configuration.
        epoch: of the stream; track numbers of other epochs are other people's.
        at: nanoseconds since the Unix epoch (UTC): capture time of the frame that completed the evidence.
        since: the same of the first frame of the evidence.
        track: number of the person.
        score: 0 to 1, how much of the evidence spoke for it.
        zone: name of the zone, for `zone_entered` and `zone_left`.
        evidence: measured quantities that decided, by name, each with its unit in the name (`duration_s`, `wave_hz`).
    """

    kind: Kind
    camera: str
    epoch: int
    at: int
    since: int
    track: int
    score: float
    zone: str | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
