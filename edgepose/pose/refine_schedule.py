"""Schedule of refinement: which people to refine, within a budget of people and milliseconds per frame.

Refinement is worth most for people whom the pose network is uncertain of, who are small, or who were not refined recently.
Urgency alone would let a person who is urgent in every frame keep the others waiting. Therefore each tracked person has a
deadline, and only the budget that no deadline requires is spent by urgency.

People who are too small are never refined, and the keypoints of the pose network are a guess then: only their boxes are used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from edgepose.config.schema import RefineConfig
from edgepose.person import Person

_FORGET_AFTER_FRAMES = 300
_HALF_SMALL_PX = 200.0  # longer side of a box whose smallness is one half
_PLACES_ONLY = np.array((1, 1, 0), np.float32)


class RefineScheduleState(msgspec.Struct, frozen=True):
    """Snapshot of a `RefineSchedule`: the last frames by track, and the unspent budget in milliseconds."""

    frame: int
    last_refined: dict[int, int]
    last_seen: dict[int, int]
    credit_ms: float


class RefineSchedule:
    """Schedule of one camera, frame by frame.

    With n tracked people and a budget of b people in every frame, each person is refined within ceil(n / b) frames.
    """

    def __init__(self, config: RefineConfig) -> None:
        self._config = config
        self._frame = 0
        self._last_refined: dict[int, int] = {}  # by track: frame of the last refinement, or the frame before the first with this track
        self._last_seen: dict[int, int] = {}  # by track: last frame with it
        self._credit_ms = 0.0  # unspent budget

    def configure(self, config: RefineConfig) -> None:
        """Apply other settings; people stay known."""
        self._config = config

    def reset(self) -> None:
        """Forget all people, for a new epoch of a stream."""
        self._last_refined, self._last_seen = {}, {}

    def snapshot(self) -> RefineScheduleState:
        """Return the whole schedule, without the settings."""
        return RefineScheduleState(self._frame, dict(self._last_refined), dict(self._last_seen), self._credit_ms)

    def restore(self, state: RefineScheduleState) -> None:
        """Continue from a snapshot."""
        self._frame, self._credit_ms = state.frame, state.credit_ms
        self._last_refined, self._last_seen = dict(state.last_refined), dict(state.last_seen)

    def choose(self, people: Sequence[Person], cost_ms: float) -> list[int]:
        """Return the indices of the people to refine in this frame, most urgent first.

        Args:
            people: all people of the frame; those without a track number are chosen by urgency alone, those who are too small never.
            cost_ms: measured cost of refining one person in milliseconds.
        """
        self._frame += 1
        refinable = {index: person for index, person in enumerate(people) if not is_too_small(person, self._config)}
        budget = min(self._budget(cost_ms), len(refinable))
        tracked = {index: person.track for index, person in refinable.items() if person.track is not None}
        for track in tracked.values():
            self._last_refined.setdefault(track, self._frame - 1)
            self._last_seen[track] = self._frame
        chosen = self._select(refinable, tracked, budget) if budget else []
        self._credit_ms = max(0.0, self._credit_ms - len(chosen) * cost_ms)
        for index in chosen:
            if index in tracked:
                self._last_refined[tracked[index]] = self._frame
        self._last_seen = {track: frame for track, frame in self._last_seen.items() if self._frame - frame <= _FORGET_AFTER_FRAMES}
        self._last_refined = {track: frame for track, frame in self._last_refined.items() if track in self._last_seen}
        return chosen

    def _budget(self, cost_ms: float) -> int:
        """Return the number of people that may be refined in this frame."""
        budget_ms = self._config.budget_ms
        if not budget_ms or cost_ms <= 0:
            return self._config.people
        # Unspent budget expires, or a quiet minute would pay for a slow frame. A person who costs more than the budget of a
        # frame is paid for by several frames.
        self._credit_ms = min(self._credit_ms + budget_ms, max(budget_ms, cost_ms))
        return min(self._config.people, int(self._credit_ms / cost_ms))

    def _select(self, people: Mapping[int, Person], tracked: dict[int, int], budget: int) -> list[int]:
        """Return the indices of `budget` people: those whose deadlines require it, then the most urgent."""
        period = -(-len(tracked) // budget)  # frames within which every tracked person is refined
        frames_left = {index: self._last_refined[track] + period - self._frame for index, track in tracked.items()}  # until the deadline
        waited = {index: (self._frame - self._last_refined[track]) / period for index, track in tracked.items()}
        urgency = {index: _urgency(person, waited.get(index, 0.0)) for index, person in people.items()}
        # The people due within k frames must fit into this frame and the k that follow it.
        due_count = max((sum(left <= later for left in frames_left.values()) - budget * later for later in range(period)), default=0)
        due = sorted(tracked, key=lambda index: (frames_left[index], -urgency[index]))[: min(due_count, budget)]
        others = sorted(set(people).difference(due), key=lambda index: (-urgency[index], index))
        return due + others[: budget - len(due)]


def is_too_small(person: Person, config: RefineConfig) -> bool:
    """Return whether a person is too small to be refined; the longer side of the box counts, because people lie, too."""
    return _longer_side_px(person) < config.min_height_px


def without_small_poses(people: Sequence[Person], config: RefineConfig) -> list[Person]:
    """Return people in the same order; all keypoints of those who are too small to be refined have confidence 0."""
    return [replace(person, keypoints=person.keypoints * _PLACES_ONLY) if is_too_small(person, config) else person for person in people]


def _longer_side_px(person: Person) -> float:
    width, height = (person.box[2:] - person.box[:2]).tolist()
    return float(max(width, height))


def _urgency(person: Person, waited: float) -> float:
    """Return how useful the refinement of a person is.

    The score is a probability, so the uncertainty is highest at one half. A detection that is almost certainly not a person
    is as certain as one that almost certainly is.

    Args:
        person: from the pose network.
        waited: frames since the last refinement over the period within which the next is due, 0 to 1.
    """
    uncertainty = 4 * person.score * (1 - person.score)
    smallness = _HALF_SMALL_PX / (_HALF_SMALL_PX + _longer_side_px(person))
    return float((uncertainty + min(waited, 1.0)) * (1 + smallness))
