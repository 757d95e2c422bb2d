"""Steady keypoints: the One-Euro filter (Casiez, Roussel, Vogel 2012, https://gery.casiez.net/1euro).

A low-pass whose cut-off rises with speed: steady at rest, prompt in motion. Time is real (seconds between frames, not
frames) and speed is in body sizes a second, so that one setting serves any frame rate and any distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepose.config import Smooth
from edgepose.person import Person
from edgepose.pose.boxes import body_size

_RESET_AFTER_S = 0.5  # after a longer gap the old place says nothing about the new one
_FULL_CONFIDENCE = 0.5  # a keypoint from here on moves its filter fully, below in proportion ...
_LEAST_WEIGHT = 0.1  # ... but never less than this, or a lost keypoint would stay behind for ever
_NS_PER_S = 1e9


@dataclass(slots=True, eq=False)
class _Filtered:
    time_ns: int
    place: NDArray[np.float32]  # (17, 2), pixels
    speed: NDArray[np.float32]  # (17, 2), pixels / s


class Smoother:
    """One One-Euro filter for each keypoint of each tracked person."""

    def __init__(self, config: Smooth) -> None:
        self._config = config
        self._filtered: dict[int, _Filtered] = {}

    def reset(self) -> None:
        """Forget everybody, as at a new epoch of a source."""
        self._filtered = {}

    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]:
        """Return the people of one frame with steadier keypoints, in the same order.

        Args:
            people: those without a track number pass through as they are.
            time_ns: when the frame was taken. A track begins anew when its time goes back or jumps by more than half a second.

        Boxes, scores and confidences are not touched.
        """
        if not self._config.enabled:
            return list(people)
        result = [person if person.track is None else self._smooth(person, person.track, time_ns) for person in people]
        self._filtered = {
            track: filtered for track, filtered in self._filtered.items() if time_ns - filtered.time_ns <= _RESET_AFTER_S * _NS_PER_S
        }
        return result

    def _smooth(self, person: Person, track: int, time_ns: int) -> Person:
        seen = person.keypoints[:, :2]
        before = self._filtered.get(track)
        elapsed_s = 0.0 if before is None else (time_ns - before.time_ns) / _NS_PER_S
        if before is None or not 0 <= elapsed_s <= _RESET_AFTER_S:
            self._filtered[track] = _Filtered(time_ns, seen.copy(), np.zeros_like(seen))
            return person
        if elapsed_s > 0:
            weight = np.clip(person.keypoints[:, 2:] / _FULL_CONFIDENCE, _LEAST_WEIGHT, 1.0)  # (17, 1)
            raw_speed = (seen - before.place) / np.float32(elapsed_s)
            before.speed += weight * _gain(self._config.speed_cutoff_hz, elapsed_s) * (raw_speed - before.speed)
            bodies_per_s = np.linalg.norm(before.speed, axis=1, keepdims=True) / body_size(person.box)
            cutoff_hz = self._config.minimum_cutoff_hz + self._config.speed_coefficient * bodies_per_s  # (17, 1)
            before.place += weight * _gain(cutoff_hz, elapsed_s) * (seen - before.place)
            before.time_ns = time_ns
        return replace(person, keypoints=np.concatenate((before.place, person.keypoints[:, 2:]), axis=1))


def _gain(cutoff_hz: float | NDArray[np.float32], elapsed_s: float) -> NDArray[np.float32]:
    """Share of the way that a first-order low-pass goes in `elapsed_s`, 0 to 1."""
    angle = np.asarray(2 * np.pi * elapsed_s * np.asarray(cutoff_hz), np.float32)
    return np.asarray(angle / (angle + 1), np.float32)
