"""Steady keypoints: the One-Euro filter (Casiez, Roussel, Vogel 2012, https://gery.casiez.net/1euro).

A low-pass whose cut-off rises with speed: steady at rest, prompt in motion. Time is real (seconds between frames, not
frames) and speed is in body sizes a second, so that one setting serves any frame rate and any distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import SmoothConfig
from edgepose.person import Person
from edgepose.pose.boxes import body_size

_RESET_AFTER_S = 0.5  # after a longer gap the old place says nothing about the new one
_FULL_CONFIDENCE = 0.5  # a keypoint from here on moves its filter fully, below in proportion ...
_LEAST_WEIGHT = 0.1  # ... but never less than this, or a lost keypoint would stay behind for ever
_NS_PER_S = 1e9
_RESET_AFTER_NS = _RESET_AFTER_S * _NS_PER_S


@dataclass(slots=True, eq=False)
class _Filtered:
    time_ns: int
    place: NDArray[np.float32]  # (17, 2), pixels
    speed: NDArray[np.float32]  # (17, 2), pixels / s


class FilteredState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one person's filters; `place` and `speed` are float32 (17, 2)."""

    time_ns: int
    place: bytes
    speed: bytes


class SmootherState(msgspec.Struct, frozen=True):
    """Snapshot of a `Smoother`: filters by track number."""

    filtered: dict[int, FilteredState]


class Smoother:
    """One One-Euro filter for each keypoint of each tracked person."""

    def __init__(self, config: SmoothConfig) -> None:
        self._config = config
        self._filtered: dict[int, _Filtered] = {}

    def configure(self, config: SmoothConfig) -> None:
        """Take other settings; what is known of people stays."""
        self._config = config

    def reset(self) -> None:
        """Forget everybody, as at a new epoch of a source."""
        self._filtered = {}

    def snapshot(self) -> SmootherState:
        """Return the filters of everybody, without the settings."""
        return SmootherState(
            {
                track: FilteredState(filtered.time_ns, filtered.place.tobytes(), filtered.speed.tobytes())
                for track, filtered in self._filtered.items()
            }
        )

    def restore(self, state: SmootherState) -> None:
        """Continue from a snapshot."""
        self._filtered = {
            track: _Filtered(filtered.time_ns, _points(filtered.place), _points(filtered.speed))
            for track, filtered in state.filtered.items()
        }

    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]:
        """Return the people of one frame with steadier keypoints, in the same order.

        Args:
            people: those without a track number pass through as they are.
            time_ns: when the frame was taken. A track begins anew when its time goes back or jumps by more than half a second.

        Boxes, scores and confidences are not touched.
        """
        if not self._config.enabled:
            return list(people)
        result = list(people)
        known: list[tuple[int, Person, _Filtered]] = []  # place in the result, as seen, as filtered before
        for index, person in enumerate(people):
            if person.track is None:
                continue
            before = self._filtered.get(person.track)
            if before is None or not 0 <= time_ns - before.time_ns <= _RESET_AFTER_NS:
                place = person.keypoints[:, :2]
                self._filtered[person.track] = _Filtered(time_ns, place.copy(), np.zeros_like(place))
            else:
                known.append((index, person, before))
        if known:
            keypoints = self._smooth([person for _, person, _ in known], [before for _, _, before in known], time_ns)
            for (index, person, _), smoothed in zip(known, keypoints, strict=True):
                result[index] = Person(person.box, person.score, smoothed, person.track)
        self._filtered = {track: filtered for track, filtered in self._filtered.items() if time_ns - filtered.time_ns <= _RESET_AFTER_NS}
        return result

    def _smooth(self, people: Sequence[Person], filtered: Sequence[_Filtered], time_ns: int) -> NDArray[np.float32]:
        """Move the filters on, all in one go, and return the people's keypoints (P, 17, 3) with the new places."""
        keypoints = np.array([person.keypoints for person in people])  # (P, 17, 3)
        places = np.array([before.place for before in filtered])  # (P, 17, 2)
        speeds = np.array([before.speed for before in filtered])
        elapsed_s = np.array([(time_ns - before.time_ns) / _NS_PER_S for before in filtered], np.float32)[:, None, None]
        sizes = body_size(np.array([person.box for person in people]))[:, None]  # (P, 1)

        weights = np.minimum(np.maximum(keypoints[..., 2:] / np.float32(_FULL_CONFIDENCE), np.float32(_LEAST_WEIGHT)), np.float32(1))
        moved = keypoints[..., :2] - places
        # Where no time went by all gains are 0 and nothing changes, but there is no speed to be had.
        raw_speeds = moved / np.where(elapsed_s > 0, elapsed_s, np.float32(1))
        speeds += weights * _gain(np.float32(self._config.speed_cutoff_hz), elapsed_s) * (raw_speeds - speeds)
        bodies_per_s = np.sqrt(speeds[..., 0] ** 2 + speeds[..., 1] ** 2) / sizes  # (P, 17)
        cutoffs_hz = np.float32(self._config.minimum_cutoff_hz) + np.float32(self._config.speed_coefficient) * bodies_per_s
        places += weights * _gain(cutoffs_hz[..., None], elapsed_s) * moved

        for before, place, speed in zip(filtered, places, speeds, strict=True):
            before.time_ns, before.place, before.speed = time_ns, place, speed
        keypoints[..., :2] = places
        return keypoints


def _points(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, np.float32).reshape(-1, 2).copy()


def _gain(cutoff_hz: NDArray[np.float32] | np.float32, elapsed_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the way that a first-order low-pass goes in `elapsed_s`, 0 to 1."""
    angle = np.float32(2 * np.pi) * elapsed_s * cutoff_hz
    return np.asarray(angle / (angle + np.float32(1)), np.float32)
