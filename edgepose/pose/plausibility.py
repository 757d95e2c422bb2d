"""Keypoints that cannot be where they are lose confidence; nothing is moved or invented.

Lengths are in body sizes (square root of the box area). Only upper bounds are checked: a limb that points at the camera
may look as short as it likes. Of the two ends of an impossible limb the less certain one is taken to be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import PlausibilityConfig
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


class BelievedState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one track's last believed keypoints; `place` is float32 (17, 2), `time_ns` is int64 (17,)."""

    seen_ns: int
    place: bytes
    time_ns: bytes


class PlausibilityState(msgspec.Struct, frozen=True):
    """Snapshot of a `Plausibility`: what is believed, by track number."""

    believed: dict[int, BelievedState]


class Plausibility:
    """Checks of limb lengths, evenness of the sides, and speed."""

    def __init__(self, config: PlausibilityConfig) -> None:
        self._config = config
        self._believed: dict[int, _Believed] = {}

    def configure(self, config: PlausibilityConfig) -> None:
        """Take other settings; what is known of people stays."""
        self._config = config

    def reset(self) -> None:
        """Forget everybody, as at a new epoch of a source."""
        self._believed = {}

    def snapshot(self) -> PlausibilityState:
        """Return what is believed of everybody, without the settings."""
        return PlausibilityState(
            {
                track: BelievedState(believed.seen_ns, believed.place.tobytes(), believed.time_ns.tobytes())
                for track, believed in self._believed.items()
            }
        )

    def restore(self, state: PlausibilityState) -> None:
        """Continue from a snapshot."""
        self._believed = {
            track: _Believed(
                believed.seen_ns,
                np.frombuffer(believed.place, np.float32).reshape(-1, 2).copy(),
                np.frombuffer(believed.time_ns, np.int64).copy(),
            )
            for track, believed in state.believed.items()
        }

    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]:
        """Return the people of one frame, in the same order, with confidences lowered where the pose is not plausible.

        Args:
            people: speed is checked of those with a track number only.
            time_ns: when the frame was taken.
        """
        if not self._config.enabled or not people:
            self._forget(time_ns)
            return list(people)
        keypoints = np.array([person.keypoints for person in people])  # (P, 17, 3)
        sizes = body_size(np.array([person.box for person in people]))  # (P,)
        factors = self._limb_factors(keypoints, sizes)
        self._lower_fast(factors, people, keypoints[..., :2], sizes, time_ns)
        self._forget(time_ns)
        changed = np.any(factors < 1, axis=1)
        keypoints[..., 2] *= factors
        return [
            Person(person.box, person.score, keypoints[index], person.track) if changed[index] else person
            for index, person in enumerate(people)
        ]

    def _limb_factors(self, keypoints: NDArray[np.float32], sizes: NDArray[np.float32]) -> NDArray[np.float32]:
        ends = keypoints[:, _BONES]  # (P, B, 2, 3)
        along = ends[..., 0, :2] - ends[..., 1, :2]
        lengths = np.sqrt(along[..., 0] ** 2 + along[..., 1] ** 2) / sizes[:, None]  # (P, B)
        too_long = lengths > self._config.maximum_bone_ratio
        sides = lengths[:, _SIDES]  # (P, 4, 2)
        others = sides[..., ::-1]
        odd = (sides > _UNEVEN_RATIO * others) & (sides > self._config.maximum_bone_ratio * _UNEVEN_FROM)
        factors = np.ones(keypoints.shape[:2], np.float32)
        if not too_long.any() and not odd.any():
            return factors
        uneven = np.zeros_like(too_long)
        uneven[:, _SIDES] = odd

        # The later end is the one further from the trunk; it is the suspect where both are equally certain.
        suspect = np.where(ends[..., 0, 2] < ends[..., 1, 2], _BONES[:, 0], _BONES[:, 1])  # (P, B)
        for bones, factor in ((too_long, IMPOSSIBLE_FACTOR), (uneven & ~too_long, UNEVEN_FACTOR)):
            person, bone = np.nonzero(bones)
            # Once a keypoint, however many of its limbs are wrong.
            factors[person, suspect[person, bone]] = np.minimum(factors[person, suspect[person, bone]], np.float32(factor))
        return factors

    def _lower_fast(
        self, factors: NDArray[np.float32], people: Sequence[Person], places: NDArray[np.float32], sizes: NDArray[np.float32], time_ns: int
    ) -> None:
        """Lower the factors (P, 17) of keypoints that moved faster than a body can, and remember where the others are."""
        known: list[int] = []
        beliefs: list[_Believed] = []
        for index, person in enumerate(people):
            if person.track is None:
                continue
            before = self._believed.get(person.track)
            if before is None or not 0 <= time_ns - before.seen_ns <= _RESET_AFTER_S * _NS_PER_S:
                self._believed[person.track] = _Believed(time_ns, places[index].copy(), np.full(len(places[index]), time_ns, np.int64))
            else:
                known.append(index)
                beliefs.append(before)
        if not known:
            return
        before_places = np.array([before.place for before in beliefs])  # (K, 17, 2)
        before_ns = np.array([before.time_ns for before in beliefs])  # (K, 17)
        # What the whole body does (a camera that turns, a runner) says nothing against a single keypoint.
        moved = places[known] - before_places
        moved -= np.sort(moved, axis=1)[:, [moved.shape[1] // 2]]  # the median of an odd number, without np.median's 50 us
        elapsed_s = (time_ns - before_ns) / _NS_PER_S
        # The longer a keypoint was not believed, the further it may have gone: a real jump is accepted in time.
        limits = self._config.maximum_speed * sizes[known, None] * elapsed_s
        fast = (moved[..., 0] ** 2 + moved[..., 1] ** 2 > limits**2) & (elapsed_s > 0)
        before_places = np.where(fast[..., None], before_places, places[known])
        before_ns = np.where(fast, before_ns, time_ns)
        for before, place, seen_ns in zip(beliefs, before_places, before_ns, strict=True):
            before.seen_ns, before.place, before.time_ns = time_ns, place, seen_ns
        if fast.any():
            factors[known] *= np.where(fast, np.float32(IMPOSSIBLE_FACTOR), np.float32(1))

    def _forget(self, time_ns: int) -> None:
        self._believed = {
            track: believed for track, believed in self._believed.items() if abs(time_ns - believed.seen_ns) <= _RESET_AFTER_S * _NS_PER_S
        }
