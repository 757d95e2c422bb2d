"""Smoothing of keypoints with the One Euro filter (Casiez, Roussel, Vogel 2012, https://gery.casiez.net/1euro).

A low-pass filter whose cutoff frequency rises with speed: little jitter at rest, little lag in motion. Time is measured in
seconds and speed in body sizes per second, so one setting works for any frame rate and any distance.
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
_FULL_CONFIDENCE = 0.5  # from this confidence, a keypoint has the weight 1 in its filter; below, it is proportional ...
_MINIMUM_WEIGHT = 0.1  # ... but not lower than this, or a filter would never follow a lost keypoint
_RESET_AFTER_NS = _RESET_AFTER_S * NS_PER_S


@dataclass(slots=True, eq=False)
class _Filtered:
    """Filters of one person: the last position and speed of each keypoint."""

    time_ns: int
    position: NDArray[np.float32]  # (17, 2), pixels
    speed: NDArray[np.float32]  # (17, 2), pixels / s


class FilteredState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one person's filters; `position` and `speed` are float32 (17, 2)."""

    time_ns: int
    position: bytes
    speed: bytes


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
            filtered.position, filtered.speed = motion.points(filtered.position), motion.vectors(filtered.speed)

    def snapshot(self) -> SmootherState:
        """Return the filters of all people, without the settings."""
        return SmootherState(
            {
                track: FilteredState(filtered.time_ns, filtered.position.tobytes(), filtered.speed.tobytes())
                for track, filtered in self._filtered.items()
            }
        )

    def restore(self, state: SmootherState) -> None:
        """Continue from a snapshot."""
        self._filtered = {
            track: _Filtered(filtered.time_ns, _points(filtered.position), _points(filtered.speed))
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
                position = person.keypoints[:, :2]
                self._filtered[person.track] = _Filtered(time_ns, position.copy(), np.zeros_like(position))
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
        positions = np.array([before.position for before in filtered])  # (P, 17, 2)
        speeds = np.array([before.speed for before in filtered])
        elapsed_s = np.array([(time_ns - before.time_ns) / NS_PER_S for before in filtered], np.float32)[:, None, None]
        sizes = body_size(np.array([person.box for person in people]))[:, None]  # (P, 1)

        weights = np.minimum(np.maximum(keypoints[..., 2:] / np.float32(_FULL_CONFIDENCE), np.float32(_MINIMUM_WEIGHT)), np.float32(1))
        moved = keypoints[..., :2] - positions
        # If no time has passed, all gains are 0 and nothing changes; the divisor must not be 0.
        raw_speeds = moved / np.where(elapsed_s > 0, elapsed_s, np.float32(1))
        speeds += weights * _gain(np.float32(self._config.speed_cutoff_hz), elapsed_s) * (raw_speeds - speeds)
        bodies_per_s = np.sqrt(speeds[..., 0] ** 2 + speeds[..., 1] ** 2) / sizes  # (P, 17)
        cutoffs_hz = np.float32(self._config.minimum_cutoff_hz) + np.float32(self._config.speed_coefficient) * bodies_per_s
        positions += weights * _gain(cutoffs_hz[..., None], elapsed_s) * moved

        for before, position, speed in zip(filtered, positions, speeds, strict=True):
            before.time_ns, before.position, before.speed = time_ns, position, speed
        keypoints[..., :2] = positions
        return keypoints


def _points(data: bytes) -> NDArray[np.float32]:
    points: NDArray[np.float32] = np.frombuffer(data, np.float32).reshape(-1, 2).copy()
    return points


def _gain(cutoff_hz: NDArray[np.float32] | np.float32, elapsed_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smoothing factor (alpha in the paper) of a first-order low-pass filter, 0 to 1."""
    angle = np.float32(2 * np.pi) * elapsed_s * cutoff_hz
    return np.asarray(angle / (angle + np.float32(1)), np.float32)
