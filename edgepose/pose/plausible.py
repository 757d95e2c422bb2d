"""Keypoints that cannot be where they are lose confidence; nothing is moved or invented.

Lengths are in body sizes (square root of the box area). Only upper bounds are checked: a limb that points at the camera
may look as short as it likes. Of the two ends of an impossible limb the less certain one is taken to be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepose.config import Plausible
from edgepose.person import SKELETON, Person
from edgepose.pose.boxes import body_size

IMPOSSIBLE_FACTOR = 0.25
"""What the confidence of a keypoint is multiplied with where its limb is too long, and again where it is too fast."""

UNEVEN_FACTOR = 0.5
"""The same where its limb is much longer than the one of the other side: odd, but a matter of perspective too."""

_UNEVEN_RATIO = 3.0
_UNEVEN_FROM = 0.5  # of `maximum_bone_ratio`: short limbs are too noisy to be compared
_RESET_AFTER_S = 0.5
_NS_PER_S = 1e9

_BONES = np.array(SKELETON, np.intp)  # (B, 2)
_BONE_INDEX = {bone: index for index, bone in enumerate(SKELETON)}
_SIDES = np.array(  # (4, 2): left and right bone of upper arm, forearm, thigh, lower leg
    [
        [_BONE_INDEX[left], _BONE_INDEX[right]]
        for left, right in (((5, 7), (6, 8)), ((7, 9), (8, 10)), ((11, 13), (12, 14)), ((13, 15), (14, 16)))
    ]
)


@dataclass(slots=True, eq=False)
class _Believed:
    """Where and when each keypoint of a track was last believed."""

    seen_ns: int
    place: NDArray[np.float32]  # (17, 2)
    time_ns: NDArray[np.int64]  # (17,)


class Plausibility:
    """Checks of limb lengths, evenness of the sides, and speed."""

    def __init__(self, config: Plausible) -> None:
        self._config = config
        self._believed: dict[int, _Believed] = {}

    def reset(self) -> None:
        """Forget everybody, as at a new epoch of a source."""
        self._believed = {}

    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]:
        """Return the people of one frame, in the same order, with confidences lowered where the pose is not plausible.

        Args:
            people: speed is checked of those with a track number only.
            time_ns: when the frame was taken.
        """
        if not self._config.enabled or not people:
            self._forget(time_ns)
            return list(people)
        keypoints = np.stack([person.keypoints for person in people])  # (P, 17, 3)
        sizes = body_size(np.stack([person.box for person in people]))  # (P,)
        factors = self._limb_factors(keypoints, sizes)
        for index, person in enumerate(people):
            if person.track is not None:
                factors[index] *= self._speed_factors(person.track, keypoints[index], float(sizes[index]), time_ns)
        self._forget(time_ns)
        changed = np.any(factors < 1, axis=1)
        keypoints[..., 2] *= factors
        return [replace(person, keypoints=keypoints[index]) if changed[index] else person for index, person in enumerate(people)]

    def _limb_factors(self, keypoints: NDArray[np.float32], sizes: NDArray[np.float32]) -> NDArray[np.float32]:
        ends = keypoints[:, _BONES]  # (P, B, 2, 3)
        lengths = np.linalg.norm(ends[..., 0, :2] - ends[..., 1, :2], axis=-1) / sizes[:, None]  # (P, B)
        too_long = lengths > self._config.maximum_bone_ratio
        left, right = lengths[:, _SIDES[:, 0]], lengths[:, _SIDES[:, 1]]  # (P, 4)
        long_enough = self._config.maximum_bone_ratio * _UNEVEN_FROM
        uneven = np.zeros_like(too_long)
        uneven[:, _SIDES[:, 0]] = (left > _UNEVEN_RATIO * right) & (left > long_enough)
        uneven[:, _SIDES[:, 1]] = (right > _UNEVEN_RATIO * left) & (right > long_enough)

        # The later end is the one further from the trunk; it is the suspect where both are equally certain.
        suspect = np.where(ends[..., 0, 2] < ends[..., 1, 2], _BONES[:, 0], _BONES[:, 1])  # (P, B)
        factors = np.ones(keypoints.shape[:2], np.float32)
        for bones, factor in ((too_long, IMPOSSIBLE_FACTOR), (uneven & ~too_long, UNEVEN_FACTOR)):
            person, bone = np.nonzero(bones)
            # Once a keypoint, however many of its limbs are wrong.
            factors[person, suspect[person, bone]] = np.minimum(factors[person, suspect[person, bone]], np.float32(factor))
        return factors

    def _speed_factors(self, track: int, keypoints: NDArray[np.float32], size: float, time_ns: int) -> NDArray[np.float32]:
        place = keypoints[:, :2]
        before = self._believed.get(track)
        if before is None or not 0 <= time_ns - before.seen_ns <= _RESET_AFTER_S * _NS_PER_S:
            self._believed[track] = _Believed(time_ns, place.copy(), np.full(len(place), time_ns, np.int64))
            return np.ones(len(place), np.float32)
        # What the whole body does (a camera that turns, a runner) says nothing against a single keypoint.
        moved = place - before.place
        moved -= np.median(moved, axis=0)
        elapsed_s = (time_ns - before.time_ns) / _NS_PER_S  # (17,)
        # The longer a keypoint was not believed, the further it may have gone: a real jump is accepted in time.
        fast = np.linalg.norm(moved, axis=1) > self._config.maximum_speed * size * elapsed_s
        fast &= elapsed_s > 0
        before.place[~fast] = place[~fast]
        before.time_ns[~fast] = time_ns
        before.seen_ns = time_ns
        return np.where(fast, np.float32(IMPOSSIBLE_FACTOR), np.float32(1))

    def _forget(self, time_ns: int) -> None:
        self._believed = {
            track: believed for track, believed in self._believed.items() if abs(time_ns - believed.seen_ns) <= _RESET_AFTER_S * _NS_PER_S
        }
