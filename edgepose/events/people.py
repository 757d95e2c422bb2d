"""What is remembered of one person, and who goes on with it when a track breaks off and another begins in its place."""

import math
from collections.abc import Mapping, Set
from copy import deepcopy
from dataclasses import dataclass, field

import msgspec

from edgepose.events.arms import ArmsMemory
from edgepose.events.body import Body
from edgepose.events.evidence import S
from edgepose.events.fall import FallMemory
from edgepose.events.stillness import StillMemory
from edgepose.events.waving import WaveMemory, WaveState
from edgepose.events.zones import ZoneMemory

_LOST_S = 0.2  # a track must have been lost for so long before another may go on with it
_NEAR = 1.0  # body sizes between where one was lost and the other began
_LARGER = 2.0  # times that one may be larger than the other


class PersonState(msgspec.Struct, frozen=True):
    """Snapshot of a `PersonMemory`; the memories of plain numbers stand for themselves."""

    body: Body
    first_at: int
    seen_at: int
    entered: bool
    sightings: int
    found_at: dict[str, int]
    falling: FallMemory
    stillness: StillMemory
    waves: WaveState
    arms: ArmsMemory
    places: ZoneMemory


@dataclass(slots=True)
class PersonMemory:
    """One person; times in nanoseconds that were watched.

    Attributes:
        body: as seen last.
        first_at, seen_at: first and last sighting.
        entered: whether that was said.
        sightings: frames in which the person was seen.
        found_at: when each repeatable kind was found last, said or not.
    """

    body: Body
    first_at: int
    seen_at: int
    entered: bool = False
    sightings: int = 0
    found_at: dict[str, int] = field(default_factory=dict)
    falling: FallMemory = field(default_factory=FallMemory)
    stillness: StillMemory = field(default_factory=StillMemory)
    waves: WaveMemory = field(default_factory=WaveMemory)
    arms: ArmsMemory = field(default_factory=ArmsMemory)
    places: ZoneMemory = field(default_factory=ZoneMemory)

    def snapshot(self) -> PersonState:
        """Return all that is known of the person; later frames do not change it."""
        return PersonState(
            body=self.body,
            first_at=self.first_at,
            seen_at=self.seen_at,
            entered=self.entered,
            sightings=self.sightings,
            found_at=dict(self.found_at),
            falling=deepcopy(self.falling),
            stillness=deepcopy(self.stillness),
            waves=self.waves.snapshot(),
            arms=deepcopy(self.arms),
            places=deepcopy(self.places),
        )

    @classmethod
    def restored(cls, state: PersonState) -> "PersonMemory":
        """Return a memory that continues from a snapshot."""
        return cls(
            body=state.body,
            first_at=state.first_at,
            seen_at=state.seen_at,
            entered=state.entered,
            sightings=state.sightings,
            found_at=dict(state.found_at),
            falling=deepcopy(state.falling),
            stillness=deepcopy(state.stillness),
            waves=WaveMemory.restored(state.waves),
            arms=deepcopy(state.arms),
            places=deepcopy(state.places),
        )

    def interrupt(self) -> None:
        """Drops evidence that was being gathered; what is known for certain stays: presence, zones, having fallen."""
        fallen = self.falling.fallen
        self.falling = FallMemory(fallen=fallen)
        self.waves, self.arms = WaveMemory(), ArmsMemory()
        self.stillness = StillMemory(said=self.stillness.said)


def heir(known: Mapping[int, PersonMemory], body: Body, present: Set[int | None], now: int) -> int | None:
    """The track that was lost where a new one begins, None where none was: people fall, hide and turn, and trackers lose them."""
    nearest: int | None = None
    least = _NEAR
    for track, memory in known.items():
        if track in present or now - memory.seen_at < _LOST_S * S:
            continue
        larger = max(body.size / memory.body.size, memory.body.size / body.size)
        distance = math.dist(body.centre, memory.body.centre) / memory.body.size
        if larger <= _LARGER and distance < least:
            nearest, least = track, distance
    return nearest
