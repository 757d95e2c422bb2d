"""The history of one person across all analyzers, and its handover when a track ends and another begins in the same place."""

import math
from collections.abc import Mapping, Set
from copy import deepcopy
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from edgepose.events.arms import ArmsHistory
from edgepose.events.body import Body
from edgepose.events.fall import FallHistory
from edgepose.events.lines import LineHistory
from edgepose.events.stillness import StillnessHistory
from edgepose.events.view import ViewHistory
from edgepose.events.waving import WavingHistory, WavingState
from edgepose.events.zones import ZoneHistory
from edgepose.frame import NS_PER_S
from edgepose.ground import GroundPlace
from edgepose.motion import Motion

_MINIMUM_LOST_S = 0.2  # how long a track must be lost before another may continue it
_MAXIMUM_DISTANCE = 1.0  # body sizes between the end of one track and the beginning of the other
_MAXIMUM_SIZE_RATIO = 2.0


class PersonState(msgspec.Struct, frozen=True):
    """Snapshot of a `PersonHistory`. Histories that hold plain numbers only are their own snapshots."""

    body: Body
    first_seen_ns: int
    last_seen_ns: int
    entered: bool
    sightings: int
    last_evidence_ns: dict[str, int]
    fall: FallHistory
    stillness: StillnessHistory
    waving: WavingState
    arms: ArmsHistory
    view: ViewHistory
    zones: ZoneHistory
    lines: LineHistory
    world_zones: ZoneHistory = msgspec.field(default_factory=ZoneHistory)
    world_lines: LineHistory = msgspec.field(default_factory=LineHistory)
    place: GroundPlace | None = None


@dataclass(slots=True)
class PersonHistory:
    """The history of one person, in observed time.

    Attributes:
        body: in the last frame with the person.
        place: on the ground, in the last frame that gave one.
        first_seen_ns, last_seen_ns: first and last frame with the person.
        entered: whether `entered` was reported.
        sightings: number of frames with the person.
        last_evidence_ns: by kind, when evidence for a repeatable event was last complete, whether or not it was reported.
        fall, stillness, waving, arms, view, zones, lines: the analyzers' histories.
        world_zones, world_lines: those of zones and lines on the map.
    """

    body: Body
    first_seen_ns: int
    last_seen_ns: int
    place: GroundPlace | None = None
    entered: bool = False
    sightings: int = 0
    last_evidence_ns: dict[str, int] = field(default_factory=dict)
    fall: FallHistory = field(default_factory=FallHistory)
    stillness: StillnessHistory = field(default_factory=StillnessHistory)
    waving: WavingHistory = field(default_factory=WavingHistory)
    arms: ArmsHistory = field(default_factory=ArmsHistory)
    view: ViewHistory = field(default_factory=ViewHistory)
    zones: ZoneHistory = field(default_factory=ZoneHistory)
    lines: LineHistory = field(default_factory=LineHistory)
    world_zones: ZoneHistory = field(default_factory=ZoneHistory)
    world_lines: LineHistory = field(default_factory=LineHistory)

    def snapshot(self) -> PersonState:
        """Return all that is known of the person; later frames do not change it."""
        return PersonState(
            body=self.body,
            first_seen_ns=self.first_seen_ns,
            last_seen_ns=self.last_seen_ns,
            entered=self.entered,
            sightings=self.sightings,
            last_evidence_ns=dict(self.last_evidence_ns),
            fall=deepcopy(self.fall),
            stillness=deepcopy(self.stillness),
            waving=self.waving.snapshot(),
            arms=deepcopy(self.arms),
            view=deepcopy(self.view),
            zones=deepcopy(self.zones),
            lines=deepcopy(self.lines),
            world_zones=deepcopy(self.world_zones),
            world_lines=deepcopy(self.world_lines),
            place=self.place,
        )

    @classmethod
    def restored(cls, state: PersonState) -> "PersonHistory":
        """Return a history that continues from a snapshot."""
        return cls(
            body=state.body,
            first_seen_ns=state.first_seen_ns,
            last_seen_ns=state.last_seen_ns,
            entered=state.entered,
            sightings=state.sightings,
            last_evidence_ns=dict(state.last_evidence_ns),
            fall=deepcopy(state.fall),
            stillness=deepcopy(state.stillness),
            waving=WavingHistory.restored(state.waving),
            arms=deepcopy(state.arms),
            view=deepcopy(state.view),
            zones=deepcopy(state.zones),
            lines=deepcopy(state.lines),
            world_zones=deepcopy(state.world_zones),
            world_lines=deepcopy(state.world_lines),
            place=state.place,
        )

    def move(self, motion: Motion) -> None:
        """Move the box of the last frame and the place of the feet with the ground; nothing else is compared with later places."""
        left, top, right, bottom = motion.box(np.array(self.body.box, np.float32)).tolist()
        scale = motion.scale(np.array(self.body.center, np.float32))
        self.body = replace(self.body, box=(left, top, right, bottom), size=self.body.size * scale)
        if self.waving.feet is not None:
            x, y = motion.points(np.array(self.waving.feet, np.float32)).tolist()
            self.waving.feet = (x, y)

    def interrupt(self) -> None:
        """Discard incomplete evidence. Established facts stay: presence, zones, having fallen."""
        self.fall = FallHistory(fallen=self.fall.fallen)
        self.waving, self.arms = WavingHistory(), ArmsHistory()
        self.stillness = StillnessHistory(reported=self.stillness.reported)


def find_predecessor(people: Mapping[int, PersonHistory], body: Body, present: Set[int | None], now_ns: int) -> int | None:
    """Return the lost track that a new track continues, or None. Trackers lose people who fall, turn or are occluded.

    Args:
        people: histories by track.
        body: first body of the new track.
        present: tracks of the current frame.
        now_ns: observed time.
    """
    predecessor: int | None = None
    smallest = _MAXIMUM_DISTANCE
    for track, history in people.items():
        if track in present or now_ns - history.last_seen_ns < _MINIMUM_LOST_S * NS_PER_S:
            continue
        size_ratio = max(body.size / history.body.size, history.body.size / body.size)
        distance = math.dist(body.center, history.body.center) / history.body.size
        if size_ratio <= _MAXIMUM_SIZE_RATIO and distance < smallest:
            predecessor, smallest = track, distance
    return predecessor
