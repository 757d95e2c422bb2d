"""Waving for help: a wrist above the shoulder that goes to and fro with a rhythm.

A reversal counts when the wrist has come back by more than its noise, so jitter is none; a rhythm is several reversals that follow one
another evenly, between half a time and three times a second. Clapping below the shoulders, pointing and holding an arm up are none.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body
from edgepose.events.evidence import Evidence, S, clarity

_LOWERED_S = 0.15  # a wrist may be seen below the shoulder for so long
_LOWEST = 0.05  # body sizes below the shoulder that still count as above: the shoulder is no point
_REVERSALS = 4  # two times to and fro
_SLOWEST_S, _FASTEST_S = 1.0, 1 / 6  # between two reversals: 0.5 and 3 Hz
_EVEN = 3.0  # longest time between two reversals by the median one
_CERTAIN_REVERSALS = 8
_KEPT = 16


class SwingState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `Swing`."""

    direction: int
    extreme: float
    extreme_at: int
    turns: list[tuple[int, float]]


class WristState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `Wrist`."""

    raised_at: int
    across: SwingState
    down: SwingState


class WaveState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `WaveMemory`."""

    wrists: tuple[WristState, WristState]


@dataclass(slots=True)
class Swing:
    """One coordinate of one wrist, in body sizes: where it turned last."""

    direction: int = 0
    extreme: float = 0.0
    extreme_at: int = 0
    turns: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))  # time, place

    def snapshot(self) -> SwingState:
        """Return the whole state."""
        return SwingState(self.direction, self.extreme, self.extreme_at, list(self.turns))

    @classmethod
    def restored(cls, state: SwingState) -> "Swing":
        """Return a swing that continues from a snapshot."""
        return cls(state.direction, state.extreme, state.extreme_at, deque(state.turns, maxlen=_KEPT))

    def take(self, value: float, now: int, least: float) -> None:
        """Moves on; a turn is noted when the way back is longer than `least`."""
        if self.direction == 0:
            if not self.extreme_at:
                self.extreme, self.extreme_at = value, now
            elif abs(value - self.extreme) > least:
                self.direction = 1 if value > self.extreme else -1
                self.turns.append((self.extreme_at, self.extreme))
                self.extreme, self.extreme_at = value, now
        elif (value - self.extreme) * self.direction >= 0:
            self.extreme, self.extreme_at = value, now
        elif abs(value - self.extreme) > least:
            self.turns.append((self.extreme_at, self.extreme))
            self.direction = -self.direction
            self.extreme, self.extreme_at = value, now

    def clear(self) -> None:
        """Forgets all."""
        self.direction, self.extreme_at = 0, 0
        self.turns.clear()

    def goes_on(self, now: int) -> bool:
        """Whether it turned just now, and before."""
        return len(self.turns) >= 2 and now - self.turns[-2][0] <= 2 * _SLOWEST_S * S

    def rhythm(self, now: int, settings: EventsConfig) -> tuple[int, float, float, int] | None:
        """Reversals, frequency in Hz, swing in body sizes and beginning of a wave that goes on now, or None."""
        turns: list[tuple[int, float]] = []
        for turn in reversed(self.turns):
            if (turns[-1][0] if turns else now) - turn[0] > 1.5 * _SLOWEST_S * S:
                break
            turns.append(turn)
        if len(turns) < _REVERSALS:
            return None
        times = sorted((later[0] - earlier[0]) / S for later, earlier in pairwise(turns))
        swings = sorted(abs(later[1] - earlier[1]) for later, earlier in pairwise(turns))
        half_s, swing = times[len(times) // 2], swings[len(swings) // 2]
        lasted_s = (turns[0][0] - turns[-1][0]) / S
        mean_s = lasted_s / len(times)
        if not _FASTEST_S <= mean_s <= _SLOWEST_S or times[-1] > _EVEN * half_s or swing < settings.wave_amplitude:
            return None
        if (now - turns[-1][0]) / S < settings.wave_after_s:
            return None
        return len(turns), 0.5 / mean_s, swing, turns[-1][0]


@dataclass(slots=True)
class Wrist:
    """One wrist: across and down."""

    raised_at: int = 0
    across: Swing = field(default_factory=Swing)
    down: Swing = field(default_factory=Swing)

    def snapshot(self) -> WristState:
        """Return the whole state."""
        return WristState(self.raised_at, self.across.snapshot(), self.down.snapshot())

    @classmethod
    def restored(cls, state: WristState) -> "Wrist":
        """Return a wrist that continues from a snapshot."""
        return cls(state.raised_at, Swing.restored(state.across), Swing.restored(state.down))


@dataclass(slots=True)
class WaveMemory:
    """What is remembered of one person's wrists."""

    wrists: tuple[Wrist, Wrist] = field(default_factory=lambda: (Wrist(), Wrist()))

    def snapshot(self) -> WaveState:
        """Return the whole state."""
        left, right = self.wrists
        return WaveState((left.snapshot(), right.snapshot()))

    @classmethod
    def restored(cls, state: WaveState) -> "WaveMemory":
        """Return a memory that continues from a snapshot."""
        left, right = state.wrists
        return cls((Wrist.restored(left), Wrist.restored(right)))


def wave(memory: WaveMemory, body: Body, now: int, settings: EventsConfig) -> Evidence | None:
    """Takes in one moment of one person; `waving` in every frame in which the evidence is complete."""
    if not body.upright:
        return None  # above the shoulder means nothing of somebody who lies
    assert body.shoulders is not None
    across, shoulder = body.shoulders
    least = 0.6 * settings.wave_amplitude
    waves = []
    for wrist, place in zip(memory.wrists, body.wrists, strict=True):
        raised = place is not None and place[1] < shoulder + _LOWEST * body.size
        if raised and place is not None:
            wrist.raised_at = now
            wrist.across.take((place[0] - across) / body.size, now, least)
            wrist.down.take((place[1] - shoulder) / body.size, now, least)
        elif now - wrist.raised_at > _LOWERED_S * S:
            wrist.across.clear()
            wrist.down.clear()
        rhythms = [rhythm for swing in (wrist.across, wrist.down) if (rhythm := swing.rhythm(now, settings)) is not None]
        if rhythms:
            waves.append(max(rhythms))
    if not waves:
        return None
    reversals, wave_hz, swing, since = max(waves)
    return Evidence(
        "waving",
        since=since,
        score=clarity(reversals, _REVERSALS - 1, _CERTAIN_REVERSALS),
        evidence={
            "duration_s": (now - since) / S,
            "wave_hz": wave_hz,
            "swing_bodies": swing,
            "reversals": reversals,
            "arms": sum(wrist.across.goes_on(now) or wrist.down.goes_on(now) for wrist in memory.wrists),
        },
    )
