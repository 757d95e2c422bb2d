"""Who is who from frame to frame.

Association in two passes after ByteTrack (Zhang et al. 2022, https://arxiv.org/abs/2110.06864): strong people go to any
track; weak ones only go on with people who are known already, so that a person who turns away is not lost and noise does
not become a person. Alike is the mean of OKS and box IoU against where the track is predicted to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import TrackConfig
from edgepose.person import Person
from edgepose.pose.boxes import box_area, iou
from edgepose.pose.kalman import BoxFilter, BoxFilterState
from edgepose.pose.suppress import oks

_NS_PER_S = 1e9


@dataclass(slots=True, eq=False)
class _Known:
    """Somebody who was seen before; `number` comes with the confirmation."""

    filter: BoxFilter
    keypoints: NDArray[np.float32]  # (17, 3), as last seen
    seen_ns: int
    sightings: int = 1
    number: int | None = None


class TrackState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one track; `keypoints` is float32 (17, 3)."""

    filter: BoxFilterState
    keypoints: bytes
    seen_ns: int
    sightings: int
    number: int | None


class TrackerState(msgspec.Struct, frozen=True):
    """Snapshot of a `Tracker`, without its settings.

    Attributes:
        tracks: in the order of their beginnings.
        time_ns: capture time of the last frame, None before the first.
        last_number: highest track number given so far.
    """

    tracks: list[TrackState]
    time_ns: int | None
    last_number: int


class Tracker:
    """Gives people numbers that stay with them.

    Args:
        config: thresholds and times.
        keypoint_threshold: keypoints below this confidence do not count in OKS.
        score_threshold: people from here on are strong: published whether known or not, and able to begin a track.
    """

    def __init__(self, config: TrackConfig, keypoint_threshold: float, score_threshold: float) -> None:
        self.configure(config, keypoint_threshold, score_threshold)
        self._known: list[_Known] = []
        self._time_ns: int | None = None
        self._last_number = 0

    def configure(self, config: TrackConfig, keypoint_threshold: float, score_threshold: float) -> None:
        """Take other settings; people keep their numbers."""
        self._config = config
        self._keypoint_threshold = keypoint_threshold
        self._score_threshold = score_threshold

    def reset(self) -> None:
        """Forget everybody, as at a new epoch of a source; numbers go on and are never given twice."""
        self._known = []
        self._time_ns = None

    def snapshot(self) -> TrackerState:
        """Return all tracks, without the settings."""
        tracks = [
            TrackState(known.filter.snapshot(), known.keypoints.tobytes(), known.seen_ns, known.sightings, known.number)
            for known in self._known
        ]
        return TrackerState(tracks, self._time_ns, self._last_number)

    def restore(self, state: TrackerState) -> None:
        """Continue from a snapshot."""
        self._known = [
            _Known(
                BoxFilter.restored(track.filter),
                np.frombuffer(track.keypoints, np.float32).reshape(-1, 3).copy(),
                track.seen_ns,
                track.sightings,
                track.number,
            )
            for track in state.tracks
        ]
        self._time_ns = state.time_ns
        self._last_number = state.last_number

    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]:
        """Take in the people of one frame and return those to publish, in the same order.

        Args:
            people: down to `config.low_score_threshold`, in source pixels.
            time_ns: when the frame was taken; any clock whose differences are real. Time that stands or goes back counts as none gone by.

        Returns:
            Strong people, with a number once they were sighted `config.min_hits` times in a row and None before, and
            weak people who go on with a numbered track. Other weak people are dropped.
        """
        elapsed_s = 0.0 if self._time_ns is None else max(0, time_ns - self._time_ns) / _NS_PER_S
        if self._time_ns is not None and time_ns < self._time_ns:  # a clock that was set back: ages begin anew
            for known in self._known:
                known.seen_ns = min(known.seen_ns, time_ns)
        self._time_ns = time_ns
        self._known = [known for known in self._known if time_ns - known.seen_ns <= self._config.max_lost_s * _NS_PER_S]
        for known in self._known:
            known.filter.predict(elapsed_s)

        strong = [index for index, person in enumerate(people) if person.score >= self._score_threshold]
        weak = [index for index, person in enumerate(people) if self._config.low_score_threshold <= person.score < self._score_threshold]
        alike = self._similarity(people, self._known)  # (people, known)
        followers = self._associate(alike, strong, list(range(len(self._known))))
        taken = set(followers.values())
        left = [index for index, known in enumerate(self._known) if known.number is not None and index not in taken]
        followers |= self._associate(alike, weak, left)
        matched = {index: self._known[follower] for index, follower in followers.items()}

        published: list[Person] = []
        for index, person in enumerate(people):
            follower = matched.get(index)
            if follower is not None:
                self._sighted(follower, person, time_ns)
            elif index in strong:
                follower = self._begin(person, time_ns)
            else:
                continue
            published.append(Person(person.box, person.score, person.keypoints, follower.number))
        # An unconfirmed track ends when it is missed once: noise seldom strikes twice in a place.
        self._known = [known for known in self._known if known.number is not None or known.seen_ns == time_ns]
        return published

    def _begin(self, person: Person, time_ns: int) -> _Known:
        known = _Known(BoxFilter(person.box), person.keypoints, time_ns)
        self._known.append(known)
        self._confirm(known)
        return known

    def _sighted(self, known: _Known, person: Person, time_ns: int) -> None:
        known.filter.correct(person.box)
        known.keypoints = person.keypoints
        known.seen_ns = time_ns
        known.sightings += 1
        self._confirm(known)

    def _confirm(self, known: _Known) -> None:
        if known.number is None and known.sightings >= self._config.min_hits:
            self._last_number += 1
            known.number = self._last_number

    def _associate(self, alike: NDArray[np.float32], people: Sequence[int], tracks: Sequence[int]) -> dict[int, int]:
        """Match some of the people with some of the tracks, all by index, the most alike first."""
        if not people or not tracks:
            return {}
        some = alike[people][:, tracks]
        rows, columns = np.nonzero((some >= self._config.match_threshold) & (some > 0))
        # Greedy: where two people are close enough to contest a track, their poses tell them apart better than a
        # cheaper sum of both errors would.
        falling = np.argsort(-some[rows, columns], kind="stable")
        matched: dict[int, int] = {}
        taken: set[int] = set()
        for row, column in zip(rows[falling].tolist(), columns[falling].tolist(), strict=True):
            if people[row] not in matched and column not in taken:
                matched[people[row]] = tracks[column]
                taken.add(column)
        return matched

    def _similarity(self, people: Sequence[Person], tracks: Sequence[_Known]) -> NDArray[np.float32]:
        if not people or not tracks:
            return np.zeros((len(people), len(tracks)), np.float32)
        boxes = np.array([person.box for person in people])[:, None]  # (people, 1, 4)
        keypoints = np.array([person.keypoints for person in people])[:, None]  # (people, 1, 17, 3)
        predicted_boxes = np.array([known.filter.box for known in tracks])[None]  # (1, tracks, 4)
        predicted = np.array([known.keypoints for known in tracks])  # (tracks, 17, 3)
        predicted[..., :2] += np.array([known.filter.shift for known in tracks])[:, None]
        weights = np.minimum(keypoints[..., 2], predicted[None, ..., 2])
        weights = np.where(weights >= self._keypoint_threshold, weights, np.float32(0))
        pose = oks(keypoints, predicted[None], box_area(predicted_boxes), weights)
        overlap = iou(boxes, predicted_boxes)
        # Two poses without a keypoint in common say nothing against one another.
        return np.where(weights.any(axis=-1), (pose + overlap) / 2, overlap)
