"""Smoothing of keypoints with the One Euro filter (Casiez, Roussel, Vogel 2012, https://gery.casiez.net/1euro), which holds against jumps.

A low-pass filter whose cutoff frequency rises with speed: little jitter at rest, little lag in motion. Time is measured in
seconds and speed in body sizes per second, so one setting works for any frame rate and any distance.

A keypoint that the network is unsure of has two places, such as both ankles, and jumps from one to the other and back: that is most of the
jitter of people at rest, and no low-pass filter removes it. A keypoint that is farther from its place than a body can move in the time is
therefore held there, moving with the body, until it was seen elsewhere more often than there, weighted by its confidence. A sure one is
hardly held.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import SmoothConfig
from edgepose.frame import NS_PER_S
from edgepose.motion import Motion
from edgepose.person import Person
from edgepose.pose.boxes import body_size

_RESET_AFTER_S = 0.5  # after a longer gap, the old position says nothing about the new one
_FULL_CONFIDENCE = 0.6  # from this confidence, a keypoint has the weight 1 in its filter; below, it is proportional ...
_MINIMUM_WEIGHT = 0.1  # ... but not lower than this, or a filter would never follow a lost keypoint
_NOISE_SPEED = 0.15  # body sizes / s; a filtered speed of this much is noise, and does not raise the cutoff
# Reach of a keypoint in one frame, in body sizes, beyond which it has jumped: noise and the acceleration of a limb (in body sizes / s²),
# more for a sure keypoint, and a multiple of the way that it was going.
_NOISE, _ACCELERATION, _SPEED_REACH, _LEAST_DOUBT = 0.03, 10.0, 2.0, 0.05
_BELIEF_GAIN = 0.25  # of belief in the place of a keypoint by a frame in which it is there with confidence 1; so much is lost elsewhere
_RESET_AFTER_NS = _RESET_AFTER_S * NS_PER_S


@dataclass(slots=True, eq=False)
class _Filtered:
    """Filters of one person: where each keypoint was last seen, its smoothed position and speed, and the belief that it is there."""

    time_ns: int
    seen: NDArray[np.float32]  # (17, 2), pixels; where it jumped to does not count
    position: NDArray[np.float32]  # (17, 2), pixels
    speed: NDArray[np.float32]  # (17, 2), pixels / s
    belief: NDArray[np.float32]  # (17,), 0 to 1


class FilteredState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one person's filters; `seen`, `position` and `speed` are float32 (17, 2), `belief` is float32 (17,)."""

    time_ns: int
    seen: bytes
    position: bytes
    speed: bytes
    belief: bytes


class SmootherState(msgspec.Struct, frozen=True):
    """Snapshot of a `Smoother`: filters by track number."""

    filtered: dict[int, FilteredState]


class Smoother:
    """One Euro filters, one for each keypoint of each tracked person."""

    def __init__(self, config: SmoothConfig) -> None:
        self._config = config
        self._filtered: dict[int, _Filtered] = {}

    def configure(self, config: SmoothConfig) -> None:
        """Apply other settings; people stay known."""
        self._config = config

    def reset(self) -> None:
        """Forget all people, for a new epoch of a stream."""
        self._filtered = {}

    def move(self, motion: Motion) -> None:
        """Move all filters with the ground, when the camera has moved since the last frame; before `update`."""
        for filtered in self._filtered.values():
            filtered.speed = motion.vectors(filtered.speed, filtered.position)
            filtered.seen, filtered.position = motion.points(filtered.seen), motion.points(filtered.position)

    def snapshot(self) -> SmootherState:
        """Return the filters of all people, without the settings."""
        return SmootherState(
            {
                track: FilteredState(
                    filtered.time_ns,
                    filtered.seen.tobytes(),
                    filtered.position.tobytes(),
                    filtered.speed.tobytes(),
                    filtered.belief.tobytes(),
                )
                for track, filtered in self._filtered.items()
            }
        )

    def restore(self, state: SmootherState) -> None:
        """Continue from a snapshot."""
        self._filtered = {
            track: _Filtered(
                filtered.time_ns, _points(filtered.seen), _points(filtered.position), _points(filtered.speed), _floats(filtered.belief)
            )
            for track, filtered in state.filtered.items()
        }

    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]:
        """Return the people of one frame with smoothed keypoints, in the same order.

        Boxes, scores and confidences do not change.

        Args:
            people: those without a track number or without a pose do not change.
            time_ns: capture time of the frame. The filters of a person reset if it goes back or jumps by more than half a second.
        """
        if not self._config.enabled:
            return list(people)
        result = list(people)
        known: list[tuple[int, Person, _Filtered]] = []  # index in the result, detection, filters
        for index, person in enumerate(people):
            if person.track is None or not person.has_pose:
                continue
            before = self._filtered.get(person.track)
            if before is None or not 0 <= time_ns - before.time_ns <= _RESET_AFTER_NS:
                position, belief = person.keypoints[:, :2], person.keypoints[:, 2] * np.float32(_BELIEF_GAIN)
                self._filtered[person.track] = _Filtered(time_ns, position.copy(), position.copy(), np.zeros_like(position), belief)
            else:
                known.append((index, person, before))
        if known:
            keypoints = self._smooth([person for _, person, _ in known], [before for _, _, before in known], time_ns)
            for (index, person, _), smoothed in zip(known, keypoints, strict=True):
                result[index] = Person(person.box, person.score, smoothed, person.track)
        self._filtered = {track: filtered for track, filtered in self._filtered.items() if time_ns - filtered.time_ns <= _RESET_AFTER_NS}
        return result

    def _smooth(self, people: Sequence[Person], filtered: Sequence[_Filtered], time_ns: int) -> NDArray[np.float32]:
        """Update the filters of all people together and return the keypoints (P, 17, 3) with the smoothed positions."""
        keypoints = np.array([person.keypoints for person in people])  # (P, 17, 3)
        seen = np.array([before.seen for before in filtered])  # (P, 17, 2)
        positions = np.array([before.position for before in filtered])
        speeds = np.array([before.speed for before in filtered])
        beliefs = np.array([before.belief for before in filtered])  # (P, 17)
        elapsed_s = np.array([(time_ns - before.time_ns) / NS_PER_S for before in filtered], np.float32)[:, None, None]
        sizes = body_size(np.array([person.box for person in people]))[:, None]  # (P, 1)

        confidences = keypoints[..., 2]
        weights = np.minimum(np.maximum(confidences[..., None] / np.float32(_FULL_CONFIDENCE), np.float32(_MINIMUM_WEIGHT)), np.float32(1))
        steps = keypoints[..., :2] - seen
        body_step = np.sort(steps, axis=1)[:, steps.shape[1] // 2, None]  # (P, 1, 2), the median of an odd number; np.median takes 50 µs
        distances = np.minimum(_length(steps), _length(steps - body_step)) / sizes
        jumped = distances > _reach(confidences, _length(speeds) / sizes, elapsed_s[..., 0])
        gains = confidences * np.float32(_BELIEF_GAIN)
        beliefs = np.minimum(beliefs + np.where(jumped, -gains, gains), np.float32(1))
        gone = jumped & (beliefs < 0)
        if gone.any():
            beliefs = np.where(gone, gains, beliefs)
            positions, speeds = np.where(gone[..., None], keypoints[..., :2], positions), np.where(gone[..., None], np.float32(0), speeds)
        held = (jumped & ~gone)[..., None]
        if held.any():
            seen = np.where(held, seen + body_step, keypoints[..., :2])
            moved = np.where(held, body_step, keypoints[..., :2] - positions)
        else:
            seen = keypoints[..., :2].copy()
            moved = seen - positions

        # If no time has passed, all gains are 0 and nothing changes; the divisor must not be 0.
        raw_speeds = moved / np.where(elapsed_s > 0, elapsed_s, np.float32(1))
        speeds += weights * _gain(np.float32(self._config.speed_cutoff_hz), elapsed_s) * (raw_speeds - speeds)
        bodies_per_s = np.maximum(_length(speeds) / sizes - np.float32(_NOISE_SPEED), np.float32(0))  # (P, 17)
        cutoffs_hz = np.float32(self._config.minimum_cutoff_hz) + np.float32(self._config.speed_coefficient) * bodies_per_s
        positions += weights * _gain(cutoffs_hz[..., None], elapsed_s) * moved

        for before, *values in zip(filtered, seen, positions, speeds, beliefs, strict=True):
            before.time_ns = time_ns
            before.seen, before.position, before.speed, before.belief = values
        keypoints[..., :2] = positions
        return keypoints


def _reach(confidences: NDArray[np.float32], bodies_per_s: NDArray[np.float32], elapsed_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far from their places keypoints (P, 17) may be without having jumped, in body sizes."""
    doubt = np.maximum(np.float32(1) - confidences, np.float32(_LEAST_DOUBT))
    unforeseen = np.float32(_NOISE) + np.float32(_ACCELERATION) * elapsed_s**2
    return np.asarray(unforeseen / doubt + np.float32(_SPEED_REACH) * bodies_per_s * elapsed_s, np.float32)


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lengths (...) of vectors (..., 2)."""
    squares = np.square(vectors)
    lengths: NDArray[np.float32] = squares[..., 0] + squares[..., 1]
    return np.sqrt(lengths, out=lengths)


def _points(data: bytes) -> NDArray[np.float32]:
    return _floats(data).reshape(-1, 2)


def _floats(data: bytes) -> NDArray[np.float32]:
    floats: NDArray[np.float32] = np.frombuffer(data, np.float32).copy()
    return floats


def _gain(cutoff_hz: NDArray[np.float32] | np.float32, elapsed_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smoothing factor (alpha in the paper) of a first-order low-pass filter, 0 to 1."""
    angle = np.float32(2 * np.pi) * elapsed_s * cutoff_hz
    return np.asarray(angle / (angle + np.float32(1)), np.float32)
