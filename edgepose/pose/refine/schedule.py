"""Schedule of refinement: which people to refine, within a budget per frame.

Refinement is worth most for people whom the pose network is uncertain of, who are small, or who were not refined recently.
Urgency alone would let a person who is urgent in every frame keep the others waiting. Therefore each tracked person has a
deadline, and only the budget that no deadline requires is spent by urgency.

The budget is a number of people, and either milliseconds or, adaptively, the time until the next frame waits. In an adaptive budget
only the deadlines are binding, so that the rate of the stream is not lost to refinement.

People who are too small are never refined, and the keypoints of the pose network are a guess then: only their boxes are used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from edgepose.config.schema import RefineConfig
from edgepose.person import Person
from edgepose.pose.refine.crop_turns import CropTurns

_FORGET_AFTER_FRAMES = 300
_ADAPTIVE_PERIOD_FRAMES = 10  # within which each track is refined, however little time there is
_HALF_SMALL_PX = 200.0  # longer side of a box whose smallness is one half
_PLACES_ONLY = np.array((1, 1, 0), np.float32)


class RefineScheduleState(msgspec.Struct, frozen=True):
    """Snapshot of a `RefineSchedule`: the last frames by track, and the unspent budget in milliseconds."""

    frame: int
    last_refined: dict[int, int]
    last_seen: dict[int, int]
    credit_ms: float


class RefineTurn(msgspec.Struct, frozen=True):
    """The people to refine in one frame, by index, and how many are large enough for it.

    Attributes:
        due: those to refine in any case.
        others: those to refine after them, in this order, while there is time.
        available: number of people who could be refined, whatever the budget.
    """

    due: list[int]
    others: list[int]
    available: int


class RefineSchedule:
    """Schedule of one camera, frame by frame.

    With n tracked people and a budget of b people in every frame, each person is refined within ceil(n / b) frames. With an adaptive
    budget, this holds while no frame waits; otherwise each is refined within ten frames, or ceil(n / b) where that is more.

    Attributes:
        turns: how the crops of the camera's tracks are turned. Snapshots do not hold them: they are found again.
    """

    def __init__(self, config: RefineConfig) -> None:
        self._config = config
        self.turns = CropTurns()
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
        self.turns = CropTurns()

    def snapshot(self) -> RefineScheduleState:
        """Return the whole schedule, without the settings."""
        return RefineScheduleState(self._frame, dict(self._last_refined), dict(self._last_seen), self._credit_ms)

    def restore(self, state: RefineScheduleState) -> None:
        """Continue from a snapshot."""
        self._frame, self._credit_ms = state.frame, state.credit_ms
        self._last_refined, self._last_seen = dict(state.last_refined), dict(state.last_seen)

    def choose(self, people: Sequence[Person], cost_ms: float) -> list[int]:
        """Return the indices of the people to refine in this frame where nothing waits for it, and note them as refined.

        Args:
            people, cost_ms: as in `turn`.
        """
        turn = self.turn(people, cost_ms)
        chosen = turn.due + turn.others
        self.refined([people[index] for index in chosen], cost_ms)
        return chosen

    def turn(self, people: Sequence[Person], cost_ms: float) -> RefineTurn:
        """Return whom to refine in the next frame; `refined` must be told who was.

        Args:
            people: all people of the frame; those without a track number are chosen by urgency alone, those who are too small never.
            cost_ms: measured cost of refining one person in milliseconds.
        """
        self._frame += 1
        refinable = {index: person for index, person in enumerate(people) if not is_too_small(person, self._config)}
        tracked = {index: person.track for index, person in refinable.items() if person.track is not None}
        for track in tracked.values():
            self._last_refined.setdefault(track, self._frame - 1)
            self._last_seen[track] = self._frame
        self._last_seen = {track: frame for track, frame in self._last_seen.items() if self._frame - frame <= _FORGET_AFTER_FRAMES}
        self._last_refined = {track: frame for track, frame in self._last_refined.items() if track in self._last_seen}
        budget = min(self._budget(cost_ms), len(refinable))
        if not budget:
            return RefineTurn([], [], len(refinable))
        period = -(-len(tracked) // budget)  # frames within which every tracked person is refined
        urgency = {index: self._urgency(person, period) for index, person in refinable.items()}
        due = self._due(tracked, urgency, period, budget)[:budget]
        others = sorted(set(refinable).difference(due), key=lambda index: (-urgency[index], index))
        chosen = due + others[: budget - len(due)]
        if self._config.budget_ms:
            return RefineTurn(chosen, [], len(refinable))
        period = max(period, _ADAPTIVE_PERIOD_FRAMES)
        binding = self._due(tracked, urgency, period, -(-len(tracked) // period))[:budget]
        return RefineTurn(binding, [index for index in chosen if index not in binding], len(refinable))

    def refined(self, people: Sequence[Person], cost_ms: float) -> None:
        """Note who was refined in the frame of the last `turn`, and at what cost for each in milliseconds."""
        self._credit_ms = max(0.0, self._credit_ms - len(people) * cost_ms)
        self._last_refined.update({person.track: self._frame for person in people if person.track is not None})

    def _budget(self, cost_ms: float) -> int:
        """Return the number of people that may be refined in this frame."""
        budget_ms = self._config.budget_ms
        if not budget_ms or cost_ms <= 0:
            return self._config.people
        # Unspent budget expires, or a quiet minute would pay for a slow frame. A person who costs more than the budget of a
        # frame is paid for by several frames.
        self._credit_ms = min(self._credit_ms + budget_ms, max(budget_ms, cost_ms))
        return min(self._config.people, int(self._credit_ms / cost_ms))

    def _due(self, tracked: Mapping[int, int], urgency: Mapping[int, float], period: int, per_frame: int) -> list[int]:
        """Return the indices of the people who must be refined in this frame, so that each is refined within `period` frames.

        Args:
            tracked: track numbers by index.
            urgency: by index; breaks ties.
            period: in frames.
            per_frame: people whom each of the following frames can refine.
        """
        frames_left = {index: self._last_refined[track] + period - self._frame for index, track in tracked.items()}  # until the deadline
        # The people due within k frames must fit into this frame and the k that follow it.
        due_count = max((sum(left <= later for left in frames_left.values()) - per_frame * later for later in range(period)), default=0)
        return sorted(tracked, key=lambda index: (frames_left[index], -urgency[index]))[: max(0, due_count)]

    def _urgency(self, person: Person, period: int) -> float:
        """Return how useful the refinement of a person is.

        The score is a probability, so the uncertainty is highest at one half. A detection that is almost certainly not a person
        is as certain as one that almost certainly is.

        Args:
            person: from the pose network.
            period: frames within which each tracked person is refined.
        """
        waited = 0.0 if person.track is None else (self._frame - self._last_refined[person.track]) / period
        uncertainty = 4 * person.score * (1 - person.score)
        smallness = _HALF_SMALL_PX / (_HALF_SMALL_PX + _longer_side_px(person))
        return float((uncertainty + min(waited, 1.0)) * (1 + smallness))


def is_too_small(person: Person, config: RefineConfig) -> bool:
    """Return whether a person is too small to be refined; the longer side of the box counts, because people lie, too."""
    return _longer_side_px(person) < config.min_height_px


def without_small_poses(people: Sequence[Person], config: RefineConfig) -> list[Person]:
    """Return people in the same order; all keypoints of those who are too small to be refined have confidence 0."""
    return [replace(person, keypoints=person.keypoints * _PLACES_ONLY) if is_too_small(person, config) else person for person in people]


def _longer_side_px(person: Person) -> float:
    width, height = (person.box[2:] - person.box[:2]).tolist()
    return float(max(width, height))
