"""Whose turn it is for a second look, within a budget of people and milliseconds a frame.

Looking again is worth most where the first look says least: at people it is uncertain of, at small ones, and at those who
had no second look lately. But whoever is urgent in every frame must not keep the others waiting: each tracked person has a
deadline, and only the places that no deadline needs go by urgency.
"""

from collections.abc import Sequence

import msgspec

from edgepose.config.schema import RefineConfig
from edgepose.person import Person

_FORGET_AFTER_FRAMES = 300
_SMALL_PX = 200.0  # longer side of a box at which somebody counts as half small


class RefineScheduleState(msgspec.Struct, frozen=True):
    """Snapshot of a `RefineSchedule`: frame numbers by track, and the budget that is left over in milliseconds."""

    frame: int
    refined_at: dict[int, int]
    seen: dict[int, int]
    credit_ms: float


class RefineSchedule:
    """Chooses people of one camera, frame by frame.

    With `n` tracked people and places for `b` of them in every frame, each is looked at again within ceil(n / b) frames.
    """

    def __init__(self, config: RefineConfig) -> None:
        self._config = config
        self._frame = 0
        self._refined_at: dict[int, int] = {}  # by track: frame of the last look, or the one before the track was first seen
        self._seen: dict[int, int] = {}
        self._credit_ms = 0.0

    def configure(self, config: RefineConfig) -> None:
        """Take other settings; what is known of people stays."""
        self._config = config

    def reset(self) -> None:
        """Forget everybody, as at a new epoch of a source."""
        self._refined_at, self._seen = {}, {}

    def snapshot(self) -> RefineScheduleState:
        """Return everybody's turns, without the settings."""
        return RefineScheduleState(self._frame, dict(self._refined_at), dict(self._seen), self._credit_ms)

    def restore(self, state: RefineScheduleState) -> None:
        """Continue from a snapshot."""
        self._frame, self._credit_ms = state.frame, state.credit_ms
        self._refined_at, self._seen = dict(state.refined_at), dict(state.seen)

    def choose(self, people: Sequence[Person], cost_ms: float) -> list[int]:
        """Return the indices of those to look at again in this frame, the most pressing first.

        Args:
            people: all people of the frame; those without a track number go by urgency alone.
            cost_ms: what looking at one person takes, as measured so far.
        """
        self._frame += 1
        places = min(self._places(cost_ms), len(people))
        tracked = {index: person.track for index, person in enumerate(people) if person.track is not None}
        for track in tracked.values():
            self._refined_at.setdefault(track, self._frame - 1)
            self._seen[track] = self._frame
        chosen = self._in_turn(people, tracked, places) if places else []
        self._credit_ms = max(0.0, self._credit_ms - len(chosen) * cost_ms)
        for index in chosen:
            if index in tracked:
                self._refined_at[tracked[index]] = self._frame
        self._seen = {track: frame for track, frame in self._seen.items() if self._frame - frame <= _FORGET_AFTER_FRAMES}
        self._refined_at = {track: frame for track, frame in self._refined_at.items() if track in self._seen}
        return chosen

    def _places(self, cost_ms: float) -> int:
        """People that this frame's budget allows."""
        budget_ms = self._config.budget_ms
        if not budget_ms or cost_ms <= 0:
            return self._config.people
        # What one frame leaves is not spent by the next, or a quiet minute would pay for a slow frame; but somebody who
        # costs more than a whole frame's budget is paid for by several.
        self._credit_ms = min(self._credit_ms + budget_ms, max(budget_ms, cost_ms))
        return min(self._config.people, int(self._credit_ms / cost_ms))

    def _in_turn(self, people: Sequence[Person], tracked: dict[int, int], places: int) -> list[int]:
        period = -(-len(tracked) // places)  # frames within which everybody is to have a turn
        left = {index: self._refined_at[track] + period - self._frame for index, track in tracked.items()}  # frames until the deadline
        waited = {index: (self._frame - self._refined_at[track]) / period for index, track in tracked.items()}
        urgency = [_urgency(person, waited.get(index, 0.0)) for index, person in enumerate(people)]
        # However the later frames are filled, those due within k frames must fit into this one and the k that follow.
        due = max((sum(each <= later for each in left.values()) - places * later for later in range(period)), default=0)
        first_due = sorted(tracked, key=lambda index: (left[index], -urgency[index]))[: min(due, places)]
        rest = sorted(set(range(len(people))).difference(first_due), key=lambda index: (-urgency[index], index))
        return first_due + rest[: places - len(first_due)]


def _urgency(person: Person, waited: float) -> float:
    """How much a second look at somebody promises.

    The score is a probability: at one half nothing is known, and a find that is almost surely nobody is as certain as one
    that is almost surely somebody.

    Args:
        person: as found first.
        waited: time since the last look as a share of the time within which the next is due, 0 to 1.
    """
    uncertainty = 4 * person.score * (1 - person.score)
    width, height = (person.box[2:] - person.box[:2]).tolist()
    smallness = _SMALL_PX / (_SMALL_PX + max(width, height))
    return float((uncertainty + min(waited, 1.0)) * (1 + smallness))
