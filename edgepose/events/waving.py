"""Detection of waving: a wrist above the shoulder that moves back and forth with a rhythm.

A reversal counts when the wrist has moved back by more than its noise, so jitter does not count. A rhythm is a series of evenly spaced
reversals at 0.5 to 3 Hz. Clapping below the shoulders, pointing, and holding an arm up do not count as waving.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import msgspec

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body, Point
from edgepose.events.evidence import Evidence, strength
from edgepose.frame import NS_PER_S

_MAXIMUM_GAP_S = 0.15  # a wrist may be below the shoulder, or not visible, for this long
_SHOULDER_MARGIN = 0.05  # a wrist this many body sizes below the shoulder still counts as above: a shoulder is not a point ...
_STEEP_MARGIN = 0.15  # ... and as many more from 60 degrees above, where an arm that is raised to the front ends below the shoulder ...
_STEEP_WALKING_MARGIN = -0.08  # ... but fewer of people who walk, whose arms swing that high
_STANDS_WITHIN, _FEET_MEAN_S = 0.2, 1.0  # body sizes, time: feet of people who stand stay near to their mean place
_MINIMUM_REVERSALS = 4  # two periods
_SLOWEST_S, _FASTEST_S = 1.0, 1 / 6  # between two reversals: 0.5 and 3 Hz
_EVENNESS = 3.0  # longest time between two reversals over the median
_CERTAIN_REVERSALS = 8
_MAXIMUM_REVERSALS = 16


class SwingState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `Swing`."""

    direction: int
    extreme: float
    extreme_ns: int
    reversals: list[tuple[int, float]]


class WristState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `Wrist`."""

    last_raised_ns: int
    horizontal: SwingState
    vertical: SwingState


class WavingState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `WavingHistory`."""

    wrists: tuple[WristState, WristState]
    feet: Point | None
    last_ns: int


class Rhythm(NamedTuple):
    """A wave that is in progress.

    Attributes:
        reversals: their number.
        frequency_hz: full periods per second.
        swing: median distance between reversals in body sizes.
        since_ns: the first reversal, in observed time.
    """

    reversals: int
    frequency_hz: float
    swing: float
    since_ns: int


@dataclass(slots=True)
class Swing:
    """The reversals of one coordinate of a wrist, in body sizes and observed time.

    Attributes:
        direction: sign of the current direction, 0 before the first movement.
        extreme: farthest position in that direction.
        extreme_ns: when it was reached, 0 before the first position.
        reversals: time and position of the newest reversals.
    """

    direction: int = 0
    extreme: float = 0.0
    extreme_ns: int = 0
    reversals: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_MAXIMUM_REVERSALS))

    def snapshot(self) -> SwingState:
        """Return the whole state."""
        return SwingState(self.direction, self.extreme, self.extreme_ns, list(self.reversals))

    @classmethod
    def restored(cls, state: SwingState) -> "Swing":
        """Return a swing that continues from a snapshot."""
        return cls(state.direction, state.extreme, state.extreme_ns, deque(state.reversals, maxlen=_MAXIMUM_REVERSALS))

    def update(self, position: float, now_ns: int, minimum_swing: float) -> None:
        """Add a position. A reversal is recorded once the wrist has moved back by more than `minimum_swing`."""
        if self.direction == 0:
            if not self.extreme_ns:
                self.extreme, self.extreme_ns = position, now_ns
            elif abs(position - self.extreme) > minimum_swing:
                self.direction = 1 if position > self.extreme else -1
                self.reversals.append((self.extreme_ns, self.extreme))
                self.extreme, self.extreme_ns = position, now_ns
        elif (position - self.extreme) * self.direction >= 0:
            self.extreme, self.extreme_ns = position, now_ns
        elif abs(position - self.extreme) > minimum_swing:
            self.reversals.append((self.extreme_ns, self.extreme))
            self.direction = -self.direction
            self.extreme, self.extreme_ns = position, now_ns

    def clear(self) -> None:
        """Discard all reversals."""
        self.direction, self.extreme_ns = 0, 0
        self.reversals.clear()

    def is_active(self, now_ns: int) -> bool:
        """Return whether the last two reversals are recent."""
        return len(self.reversals) >= 2 and now_ns - self.reversals[-2][0] <= 2 * _SLOWEST_S * NS_PER_S

    def rhythm(self, now_ns: int, settings: EventsConfig) -> Rhythm | None:
        """Return the wave that is in progress, or None."""
        recent: list[tuple[int, float]] = []  # newest first
        for reversal in reversed(self.reversals):
            if (recent[-1][0] if recent else now_ns) - reversal[0] > 1.5 * _SLOWEST_S * NS_PER_S:
                break
            recent.append(reversal)
        if len(recent) < _MINIMUM_REVERSALS:
            return None
        intervals_s = sorted((later[0] - earlier[0]) / NS_PER_S for later, earlier in pairwise(recent))
        swings = sorted(abs(later[1] - earlier[1]) for later, earlier in pairwise(recent))
        median_s, swing = intervals_s[len(intervals_s) // 2], swings[len(swings) // 2]
        duration_s = (recent[0][0] - recent[-1][0]) / NS_PER_S
        mean_s = duration_s / len(intervals_s)
        if not _FASTEST_S <= mean_s <= _SLOWEST_S or intervals_s[-1] > _EVENNESS * median_s or swing < settings.wave_amplitude:
            return None
        if (now_ns - recent[-1][0]) / NS_PER_S < settings.wave_after_s:
            return None
        return Rhythm(len(recent), 0.5 / mean_s, swing, recent[-1][0])


@dataclass(slots=True)
class Wrist:
    """The movement of one wrist.

    Attributes:
        last_raised_ns: last frame in which the wrist was above the shoulder, in observed time.
        horizontal, vertical: position relative to the shoulders.
    """

    last_raised_ns: int = 0
    horizontal: Swing = field(default_factory=Swing)
    vertical: Swing = field(default_factory=Swing)

    def snapshot(self) -> WristState:
        """Return the whole state."""
        return WristState(self.last_raised_ns, self.horizontal.snapshot(), self.vertical.snapshot())

    @classmethod
    def restored(cls, state: WristState) -> "Wrist":
        """Return a wrist that continues from a snapshot."""
        return cls(state.last_raised_ns, Swing.restored(state.horizontal), Swing.restored(state.vertical))


@dataclass(slots=True)
class WavingHistory:
    """The analyzer's history of one person.

    Attributes:
        wrists: left and right.
        feet: their mean place in source pixels, None before they were seen.
        last_ns: last frame with feet, in observed time.
    """

    wrists: tuple[Wrist, Wrist] = field(default_factory=lambda: (Wrist(), Wrist()))
    feet: Point | None = None
    last_ns: int = 0

    def snapshot(self) -> WavingState:
        """Return the whole state."""
        left, right = self.wrists
        return WavingState((left.snapshot(), right.snapshot()), self.feet, self.last_ns)

    @classmethod
    def restored(cls, state: WavingState) -> "WavingHistory":
        """Return a history that continues from a snapshot."""
        left, right = state.wrists
        return cls((Wrist.restored(left), Wrist.restored(right)), state.feet, state.last_ns)

    def stands(self, body: Body, now_ns: int) -> bool:
        """Update the mean place of the feet, and return whether they are near to it; False if they are not visible."""
        if body.feet is None:
            return False
        x, y = self.feet or body.feet
        share = min(1.0, (now_ns - self.last_ns) / NS_PER_S / _FEET_MEAN_S)
        self.feet, self.last_ns = (x + share * (body.feet[0] - x), y + share * (body.feet[1] - y)), now_ns
        return math.dist(self.feet, body.feet) < _STANDS_WITHIN * body.size


def detect_waving(history: WavingHistory, body: Body, now_ns: int, settings: EventsConfig) -> Evidence | None:
    """Update the history with one frame and return evidence for `waving` in every frame in which it is complete."""
    if not body.upright:
        return None  # "above the shoulder" has no meaning for a lying person
    assert body.shoulders is not None
    shoulder_x, shoulder_y = body.shoulders
    minimum_swing = 0.6 * settings.wave_amplitude
    steep = _STEEP_MARGIN if history.stands(body, now_ns) else _STEEP_WALKING_MARGIN
    lowest_y = shoulder_y + (_SHOULDER_MARGIN + steep * body.steepness) * body.size
    waves = []
    for wrist, position in zip(history.wrists, body.wrists, strict=True):
        raised = position is not None and position[1] < lowest_y
        if raised and position is not None:
            wrist.last_raised_ns = now_ns
            wrist.horizontal.update((position[0] - shoulder_x) / body.size, now_ns, minimum_swing)
            wrist.vertical.update((position[1] - shoulder_y) / body.size, now_ns, minimum_swing)
        elif now_ns - wrist.last_raised_ns > _MAXIMUM_GAP_S * NS_PER_S:
            wrist.horizontal.clear()
            wrist.vertical.clear()
        rhythms = [rhythm for swing in (wrist.horizontal, wrist.vertical) if (rhythm := swing.rhythm(now_ns, settings)) is not None]
        if rhythms:
            waves.append(max(rhythms))
    if not waves:
        return None
    wave = max(waves)
    return Evidence(
        "waving",
        since_ns=wave.since_ns,
        score=strength(wave.reversals, _MINIMUM_REVERSALS - 1, _CERTAIN_REVERSALS),
        measurements={
            "duration_s": (now_ns - wave.since_ns) / NS_PER_S,
            "wave_hz": wave.frequency_hz,
            "swing_bodies": wave.swing,
            "reversals": wave.reversals,
            "arms": sum(wrist.horizontal.is_active(now_ns) or wrist.vertical.is_active(now_ns) for wrist in history.wrists),
        },
    )
