"""Plausibility checks, which lower the confidence of keypoints in impossible positions; no keypoint is moved.

Lengths are in body sizes (square root of the box area). Only upper bounds are checked, since a limb that points at the
camera may appear arbitrarily short. Of the two ends of an impossible limb, the one with the lower confidence is at fault.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import PlausibilityConfig
from edgepose.frame import NS_PER_S
from edgepose.motion import Motion
from edgepose.person import SKELETON, Person
from edgepose.pose.boxes import body_size
from edgepose.pose.buffers import Rows

IMPOSSIBLE_FACTOR = 0.25
"""Factor on the confidence of a keypoint whose limb is too long, and again if it moves too fast."""

UNEVEN_FACTOR = 0.5
"""Factor for a limb that is much longer than its counterpart on the other side: unusual, but possible in perspective."""

_UNEVEN_RATIO = 3.0
_UNEVEN_MINIMUM = 0.5  # share of `maximum_bone_ratio`: shorter limbs are too noisy to compare
_RESET_AFTER_S = 0.5

_BONES = np.array(SKELETON, np.intp)  # (B, 2)
_BONE_INDEX = {bone: index for index, bone in enumerate(SKELETON)}
_SIDES = np.array(  # (4, 2): left and right bone of upper arm, forearm, thigh, lower leg
    [
        [_BONE_INDEX[left], _BONE_INDEX[right]]
        for left, right in (((5, 7), (6, 8)), ((7, 9), (8, 10)), ((11, 13), (12, 14)), ((13, 15), (14, 16)))
    ]
)
_OTHER_SIDES = _SIDES[:, ::-1].copy()


class _Accepted(msgspec.Struct, eq=False):
    """The last plausible position of each keypoint of a track, and its time."""

    last_seen_ns: int  # last frame with the track
    position: NDArray[np.float32]  # (17, 2), pixels
    time_ns: NDArray[np.int64]  # (17,)


class AcceptedState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one track's last plausible keypoints; `position` is float32 (17, 2), `time_ns` is int64 (17,)."""

    last_seen_ns: int
    position: bytes
    time_ns: bytes


class PlausibilityState(msgspec.Struct, frozen=True):
    """Snapshot of a `Plausibility`: the last plausible keypoints by track number."""

    accepted: dict[int, AcceptedState]


class Plausibility:
    """Checks of limb lengths, symmetry of the sides, and speed."""

    def __init__(self, config: PlausibilityConfig) -> None:
        self._config = config
        self._accepted: dict[int, _Accepted] = {}
        self._rows = Rows()

    def configure(self, config: PlausibilityConfig) -> None:
        """Apply other settings; people stay known."""
        self._config = config

    def reset(self) -> None:
        """Forget all people, for a new epoch of a stream."""
        self._accepted = {}

    def move(self, motion: Motion) -> None:
        """Move all positions with the ground, when the camera has moved since the last frame; before `update`."""
        for last in self._accepted.values():
            last.position = motion.points(last.position)

    def snapshot(self) -> PlausibilityState:
        """Return the last plausible keypoints of all tracks, without the settings."""
        return PlausibilityState(
            {
                track: AcceptedState(last.last_seen_ns, last.position.tobytes(), last.time_ns.tobytes())
                for track, last in self._accepted.items()
            }
        )

    def restore(self, state: PlausibilityState) -> None:
        """Continue from a snapshot."""
        self._accepted = {
            track: _Accepted(
                last.last_seen_ns,
                np.frombuffer(last.position, np.float32).reshape(-1, 2).copy(),
                np.frombuffer(last.time_ns, np.int64).copy(),
            )
            for track, last in state.accepted.items()
        }

    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]:
        """Return the people of one frame, in the same order, with lower confidences of implausible keypoints.

        Args:
            people: the speed is checked for those with a track number only.
            time_ns: capture time of the frame.
        """
        if not self._config.enabled or not people:
            self._forget(time_ns)
            return list(people)
        keypoints = self._rows.filled("keypoints", [person.keypoints for person in people])  # (P, 17, 3)
        sizes = body_size(np.array([person.box for person in people]))  # (P,)
        factors = self._limb_factors(keypoints, sizes)
        lowered = self._lower_fast(factors, people, keypoints[..., :2], sizes, time_ns)
        self._forget(time_ns)
        if not lowered and float(factors.min()) == 1:
            return list(people)
        return [_lowered(person, factor) if float(factor.min()) < 1 else person for person, factor in zip(people, factors, strict=True)]

    def _limb_factors(self, keypoints: NDArray[np.float32], sizes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the factors (P, 17) on the confidences that follow from the lengths of limbs."""
        lengths = _bone_lengths(keypoints) / sizes[:, None]  # (P, B)
        factors = np.ones(keypoints.shape[:2], np.float32)
        if float(lengths.max()) <= self._config.maximum_bone_ratio * min(1.0, _UNEVEN_MINIMUM):  # the usual case
            return factors
        too_long = lengths > self._config.maximum_bone_ratio
        # Of a pair of sides, the longer one: `take` and `put`, since an index of integers takes 3 KB.
        sides = lengths.take(_SIDES, axis=1)  # (P, 4, 2)
        too_uneven = sides > _UNEVEN_RATIO * lengths.take(_OTHER_SIDES, axis=1)
        too_uneven &= sides > self._config.maximum_bone_ratio * _UNEVEN_MINIMUM
        if not too_long.any() and not too_uneven.any():
            return factors
        uneven = np.zeros_like(too_long)
        for pair, bones in enumerate(_SIDES.tolist()):
            for side, bone in enumerate(bones):
                uneven[:, bone] = too_uneven[:, pair, side]
        uneven &= ~too_long

        # The second end of a bone is farther from the trunk; it is the suspect if both confidences are equal.
        first, second = (keypoints[..., 2].take(_BONES[:, end], axis=1) for end in (0, 1))  # (P, B)
        suspect = np.where(first < second, _BONES[:, 0], _BONES[:, 1])  # (P, B)
        suspect += np.arange(len(keypoints))[:, None] * keypoints.shape[1]  # in all factors, one person after the other
        for bones, factor in ((too_long, IMPOSSIBLE_FACTOR), (uneven, UNEVEN_FACTOR)):
            # A factor applies once to a keypoint, whatever the number of its impossible limbs.
            lowered = suspect.take(np.flatnonzero(bones))
            factors.put(lowered, np.minimum(factors.take(lowered), np.float32(factor)))
        return factors

    def _lower_fast(
        self,
        factors: NDArray[np.float32],
        people: Sequence[Person],
        positions: NDArray[np.float32],
        sizes: NDArray[np.float32],
        time_ns: int,
    ) -> bool:
        """Lower the factors (P, 17) of keypoints that moved faster than a body can, and store the positions of the others.

        Returns:
            Whether a factor was lowered.
        """
        known: list[int] = []
        previous: list[_Accepted] = []
        for index, person in enumerate(people):
            if person.track is None or not person.has_pose:
                continue
            before = self._accepted.get(person.track)
            if before is None or not 0 <= time_ns - before.last_seen_ns <= _RESET_AFTER_S * NS_PER_S:
                self._accepted[person.track] = _Accepted(
                    time_ns, positions[index].copy(), np.full(len(positions[index]), time_ns, np.int64)
                )
            else:
                known.append(index)
                previous.append(before)
        if not known:
            return False
        before_positions = self._rows.filled("positions", [before.position for before in previous])  # (K, 17, 2)
        before_ns = self._rows.filled("times", [before.time_ns for before in previous])  # (K, 17)
        # Motion that all keypoints share (a camera that turns, a runner) is not held against a single keypoint.
        if len(known) < len(people):
            positions, sizes = positions.take(known, axis=0), sizes.take(known)
        moved = np.subtract(positions, before_positions, out=self._rows.take("moved", len(known), *positions.shape[1:]))
        moved -= self._rows.medians(moved)[:, None]
        elapsed_s = (time_ns - before_ns) / NS_PER_S
        # The limit grows with the time since the last plausible position, so a real jump is accepted eventually.
        limits = self._config.maximum_speed * sizes[:, None] * elapsed_s
        np.square(moved, out=moved)
        fast = (moved[..., 0] + moved[..., 1] > np.square(limits)) & (elapsed_s > 0)
        lowered = bool(fast.any())
        for index, before, position, is_fast in zip(known, previous, positions, fast, strict=True):
            before.last_seen_ns = time_ns
            if lowered and is_fast.any():
                before.position = np.where(is_fast[:, None], before.position, position)
                before.time_ns = np.where(is_fast, before.time_ns, time_ns)
                factors[index] *= np.where(is_fast, np.float32(IMPOSSIBLE_FACTOR), np.float32(1))
            else:
                before.position[:], before.time_ns[:] = position, time_ns
        return lowered

    def _forget(self, time_ns: int) -> None:
        self._accepted = {
            track: last for track, last in self._accepted.items() if abs(time_ns - last.last_seen_ns) <= _RESET_AFTER_S * NS_PER_S
        }


def _bone_lengths(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lengths (P, B) of the bones of people, pixels."""
    ends = keypoints.take(_BONES, axis=1)  # (P, B, 2, 3); an index would take 4 KB more
    along = ends[..., 0, :2] - ends[..., 1, :2]
    np.square(along, out=along)
    return np.sqrt(along[..., 0] + along[..., 1])


def _lowered(person: Person, factors: NDArray[np.float32]) -> Person:
    """Return a person with confidences multiplied by factors (17,)."""
    keypoints = person.keypoints.copy()
    keypoints[:, 2] *= factors
    return Person(person.box, person.score, keypoints, person.track)
