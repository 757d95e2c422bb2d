"""Detection of waving: a wrist that moves back and forth with a rhythm, and is above the shoulder in each swing.

A reversal counts when the wrist has moved back by more than its noise, so jitter does not count. A rhythm is a series of evenly spaced
reversals at 0.5 to 3 Hz. Clapping below the shoulders, pointing, and holding an arm up do not count as waving. A keypoint that the network
is unsure of has two places, such as both wrists of raised arms, and jumps from one to the other: a wrist that waves is between them, too.
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

_MAXIMUM_GAP_S, _LOWERED_GAP_S = 0.15, 0.08  # a wrist may be invisible, and lowered, for this long
_LOWERED = 0.5  # of the way from the shoulders to the hips, down to which a wrist swings that is above the shoulder in each swing ...
_WIDEST = 0.5  # ... and no farther up and down, in body sizes: jumping jacks swing farther
_SHOULDER_MARGIN = 0.05  # a wrist this many body sizes below the shoulder still counts as above: a shoulder is not a point ...
_STEEP_MARGIN = 0.15  # ... and as many more from 60 degrees above, where an arm that is raised to the front ends below the shoulder ...
_STEEP_WALKING_MARGIN = -0.08  # ... but fewer of people who walk, whose arms swing that high
_RAISED_SHARE, _RAISED_MEAN_S = 0.6, 1.0  # of a wave's frames in which the wrist is above the shoulder: hands that talk are lower
_BOTH_UP_SHARE = 0.5  # of the frames: arms that are held up
_STANDS_WITHIN, _FEET_MEAN_S = 0.2, 1.0  # body sizes, time: feet of people who stand stay near to their mean place
_MINIMUM_REVERSALS = 4  # two periods
_SLOWEST_S, _FASTEST_S = 1.0, 1 / 6  # between two reversals: 0.5 and 3 Hz
_EVENNESS = 3.0  # longest time between two reversals over the median
_JERKY, _ERROR = 1.6, 0.04  # longest step that is no jump: multiple of that of a steady swing, and body sizes more
_CERTAIN_REVERSALS = 8
_MAXIMUM_REVERSALS = 16


class Step(NamedTuple):
    """A movement from one frame to the next one, in body sizes, and its time."""

    length: float
    time_ns: int


_NO_STEP = Step(0.0, 0)


class Reversal(NamedTuple):
    """A reversal: when and where, and the longest step on the way there."""

    at_ns: int
    position: float
    longest: Step


class SwingState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `Swing`."""

    direction: int
    extreme: float
    extreme_ns: int
    reversals: list[Reversal]
    last: float
    last_ns: int
    longest: Step
    back: Step


class WristState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `Wrist`."""

    last_raised_ns: int
    last_low_ns: int
    last_ns: int
    raised_share: float
    last_seen_ns: int
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
        reversals: the newest ones.
        last, last_ns: position in the last frame, and its time.
        longest: the longest step on the way to the extreme.
        back: the longest step since the extreme.
    """

    direction: int = 0
    extreme: float = 0.0
    extreme_ns: int = 0
    reversals: deque[Reversal] = field(default_factory=lambda: deque(maxlen=_MAXIMUM_REVERSALS))
    last: float = 0.0
    last_ns: int = 0
    longest: Step = _NO_STEP
    back: Step = _NO_STEP

    def snapshot(self) -> SwingState:
        """Return the whole state."""
        reversals = list(self.reversals)
        return SwingState(self.direction, self.extreme, self.extreme_ns, reversals, self.last, self.last_ns, self.longest, self.back)

    @classmethod
    def restored(cls, state: SwingState) -> "Swing":
        """Return a swing that continues from a snapshot."""
        reversals = deque(state.reversals, maxlen=_MAXIMUM_REVERSALS)
        return cls(state.direction, state.extreme, state.extreme_ns, reversals, state.last, state.last_ns, state.longest, state.back)

    def update(self, position: float, now_ns: int, minimum_swing: float) -> None:
        """Add a position. A reversal is recorded once the wrist has moved back by more than `minimum_swing`."""
        if not self.extreme_ns:
            self.extreme, self.extreme_ns = position, now_ns
        else:
            self.back = max(self.back, Step(abs(position - self.last), now_ns - self.last_ns))
        self.last, self.last_ns = position, now_ns
        back = position - self.extreme
        if self.direction and back * self.direction >= 0:
            self.extreme, self.extreme_ns = position, now_ns
            self.longest, self.back = max(self.longest, self.back), _NO_STEP
        elif abs(back) > minimum_swing:
            self.reversals.append(Reversal(self.extreme_ns, self.extreme, self.longest))
            self.direction = 1 if back > 0 else -1
            self.extreme, self.extreme_ns = position, now_ns
            self.longest, self.back = self.back, _NO_STEP

    def clear(self) -> None:
        """Discard all reversals."""
        self.direction, self.extreme_ns = 0, 0
        self.longest = self.back = _NO_STEP
        self.reversals.clear()

    def width(self, since_ns: int) -> float:
        """Return how far the reversals since a moment are apart."""
        positions = [self.extreme, *(reversal.position for reversal in self.reversals if reversal.at_ns >= since_ns)]
        return max(positions) - min(positions)

    def is_active(self, now_ns: int) -> bool:
        """Return whether the last two reversals are recent."""
        return len(self.reversals) >= 2 and now_ns - self.reversals[-2].at_ns <= 2 * _SLOWEST_S * NS_PER_S

    def rhythm(self, now_ns: int, settings: EventsConfig) -> Rhythm | None:
        """Return the wave that is in progress, or None."""
        recent: list[Reversal] = []  # newest first
        for reversal in reversed(self.reversals):
            if (recent[-1].at_ns if recent else now_ns) - reversal.at_ns > 1.5 * _SLOWEST_S * NS_PER_S:
                break
            recent.append(reversal)
        if len(recent) < _MINIMUM_REVERSALS:
            return None
        intervals_s = sorted((later.at_ns - earlier.at_ns) / NS_PER_S for later, earlier in pairwise(recent))
        swings = sorted(abs(later.position - earlier.position) for later, earlier in pairwise(recent))
        median_s, swing = intervals_s[len(intervals_s) // 2], swings[len(swings) // 2]
        mean_s = (recent[0].at_ns - recent[-1].at_ns) / NS_PER_S / len(intervals_s)
        if not _FASTEST_S <= mean_s <= _SLOWEST_S or intervals_s[-1] > _EVENNESS * median_s or swing < settings.wave_amplitude:
            return None
        if (now_ns - recent[-1].at_ns) / NS_PER_S < settings.wave_after_s:
            return None
        if 2 * sum(_jumps(later, earlier, mean_s) for later, earlier in pairwise(recent)) >= len(recent) - 1:
            return None
        return Rhythm(len(recent), 0.5 / mean_s, swing, recent[-1].at_ns)


def _jumps(reversal: Reversal, before: Reversal, mean_s: float) -> bool:
    """Return whether a wrist jumped between two reversals, and did not swing like a pendulum with a mean time between reversals."""
    share = min(1.0, reversal.longest.time_ns / NS_PER_S / mean_s)
    steady = abs(reversal.position - before.position) * math.sin(math.pi / 2 * share)
    return reversal.longest.length > _JERKY * steady + _ERROR


@dataclass(slots=True)
class Wrist:
    """The movement of one wrist.

    Attributes:
        last_raised_ns: last frame in which the wrist was above the shoulder, in observed time.
        last_low_ns: last frame in which it was lower, but where a wrist may be that waves.
        last_ns: last frame in which it was in either place.
        raised_share: recent share of the frames with the wrist in which it is above the shoulder.
        last_seen_ns: last frame with the wrist.
        horizontal, vertical: position relative to the shoulders.
    """

    last_raised_ns: int = 0
    last_low_ns: int = 0
    last_ns: int = 0
    raised_share: float = 0.0
    last_seen_ns: int = 0
    horizontal: Swing = field(default_factory=Swing)
    vertical: Swing = field(default_factory=Swing)

    def snapshot(self) -> WristState:
        """Return the whole state."""
        swings = self.horizontal.snapshot(), self.vertical.snapshot()
        return WristState(self.last_raised_ns, self.last_low_ns, self.last_ns, self.raised_share, self.last_seen_ns, *swings)

    @classmethod
    def restored(cls, state: WristState) -> "Wrist":
        """Return a wrist that continues from a snapshot."""
        swings = Swing.restored(state.horizontal), Swing.restored(state.vertical)
        return cls(state.last_raised_ns, state.last_low_ns, state.last_ns, state.raised_share, state.last_seen_ns, *swings)

    def see(self, raised: bool, now_ns: int) -> None:
        """Note that the wrist is visible, and whether it is above the shoulder."""
        share = min(1.0, (now_ns - self.last_seen_ns) / NS_PER_S / _RAISED_MEAN_S)
        self.raised_share += share * (raised - self.raised_share)
        self.last_seen_ns = now_ns
        if raised:
            self.last_raised_ns = now_ns

    def rhythms(self, now_ns: int, settings: EventsConfig) -> list[Rhythm]:
        """Return the waves that are in progress."""
        found = [rhythm for swing in (self.horizontal, self.vertical) if (rhythm := swing.rhythm(now_ns, settings)) is not None]
        return [
            wave
            for wave in found
            if self.last_low_ns < wave.since_ns or (self.raised_share >= _RAISED_SHARE and self.vertical.width(wave.since_ns) <= _WIDEST)
        ]


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

    @property
    def holds_both_up(self) -> bool:
        """Whether both wrists are above the shoulders most of the time: who waves so waves with both; wrists side by side are mixed up."""
        return all(wrist.raised_share >= _BOTH_UP_SHARE for wrist in self.wrists)

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
    assert body.hips is not None
    shoulder_x, shoulder_y = body.shoulders
    minimum_swing = 0.6 * settings.wave_amplitude
    stands = history.stands(body, now_ns)
    steep = _STEEP_MARGIN if stands else _STEEP_WALKING_MARGIN
    raised_y = shoulder_y + (_SHOULDER_MARGIN + steep * body.steepness) * body.size
    lowered_y = raised_y + (_LOWERED * (body.hips[1] - shoulder_y) if stands else 0.0)
    waves: list[list[Rhythm]] = []
    for wrist, position in zip(history.wrists, body.wrists, strict=True):
        if position is not None:
            wrist.see(position[1] < raised_y, now_ns)
        if position is not None and position[1] < lowered_y and now_ns - wrist.last_raised_ns <= _SLOWEST_S * NS_PER_S:
            wrist.last_ns = now_ns
            if position[1] >= raised_y:
                wrist.last_low_ns = now_ns
            wrist.horizontal.update((position[0] - shoulder_x) / body.size, now_ns, minimum_swing)
            wrist.vertical.update((position[1] - shoulder_y) / body.size, now_ns, minimum_swing)
        elif now_ns - wrist.last_ns > (_MAXIMUM_GAP_S if position is None else _LOWERED_GAP_S) * NS_PER_S:
            wrist.horizontal.clear()
            wrist.vertical.clear()
        waves.append(wrist.rhythms(now_ns, settings) if wrist.last_ns == now_ns else [])
    if not any(waves) or (history.holds_both_up and not all(waves)):
        return None
    wave = max(wave for rhythms in waves for wave in rhythms)
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
