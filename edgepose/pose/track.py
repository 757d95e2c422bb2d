"""Tracking: the association of people from frame to frame.

Association in passes after ByteTrack (Zhang et al. 2022, https://arxiv.org/abs/2110.06864). Detections with a high score match confirmed
tracks first. Detections with a low score match confirmed tracks only, so that a person who turns away is not lost and noise does not
become a person. New tracks come last: many are a second, worse box of a person who has a number, and must not take that person's
detections. The similarity is a weighted mean of OKS and box IoU with the prediction of the track.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import TrackConfig
from edgepose.frame import NS_PER_S
from edgepose.motion import Motion
from edgepose.person import Person
from edgepose.pose.boxes import box_area, intersection, iou
from edgepose.pose.buffers import Rows
from edgepose.pose.kalman import BoxFilter, BoxFilterState
from edgepose.pose.suppress import oks
from edgepose.pose.tiles import Visited

_POSE_WEIGHT = 0.25  # of OKS in the similarity, against the overlap of the boxes: boxes are more exact than coarse keypoints
_DOUBLE_IOU, _DOUBLE_INSIDE = 0.45, 0.7  # a box that overlaps another this much, or lies in it, may be another box of the same person
_DOUBLE_SIGHTING = 0.125  # of a sighting: somebody who stays in front of somebody else gets a number too, only later

_MOST_EXCUSED_NS = 5 * NS_PER_S
"""Longest time for which a person may be where no tile is visited."""


class _Track(msgspec.Struct, eq=False):
    """A track; it has a number once it is confirmed."""

    filter: BoxFilter
    keypoints: NDArray[np.float32]  # (17, 3), of the last detection
    last_seen_ns: int  # time of the last detection
    sightings: float = 0.0
    number: int | None = None
    excused_ns: int = 0  # time since then in which nobody could see the person


class TrackState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one track; `keypoints` is float32 (17, 3)."""

    filter: BoxFilterState
    keypoints: bytes
    last_seen_ns: int
    sightings: float
    number: int | None
    excused_ns: int


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
    """Tracker of the people of one camera, which gives each person a number.

    Args:
        config: thresholds and times.
        keypoint_threshold: confidence below which a keypoint does not count in OKS.
        score_threshold: score from which a person is published whether tracked or not, and may start a track.
    """

    def __init__(self, config: TrackConfig, keypoint_threshold: float, score_threshold: float) -> None:
        self.configure(config, keypoint_threshold, score_threshold)
        self._tracks: list[_Track] = []
        self._time_ns: int | None = None
        self._last_number = 0
        self._rows = Rows()

    def configure(self, config: TrackConfig, keypoint_threshold: float, score_threshold: float) -> None:
        """Apply other settings; people keep their numbers."""
        self._config = config
        self._keypoint_threshold = keypoint_threshold
        self._score_threshold = score_threshold

    def reset(self) -> None:
        """Forget all tracks, for a new epoch of a stream. Numbers continue and are never reused."""
        self._tracks = []
        self._time_ns = None

    def move(self, motion: Motion) -> None:
        """Move all tracks with the ground, when the camera has moved since the last frame; before `update`."""
        for track in self._tracks:
            track.filter.move(motion)
            track.keypoints = np.concatenate([motion.points(track.keypoints[:, :2]), track.keypoints[:, 2:]], axis=1)

    def snapshot(self) -> TrackerState:
        """Return all tracks, without the settings."""
        tracks = [
            TrackState(
                track.filter.snapshot(), track.keypoints.tobytes(), track.last_seen_ns, track.sightings, track.number, track.excused_ns
            )
            for track in self._tracks
        ]
        return TrackerState(tracks, self._time_ns, self._last_number)

    def restore(self, state: TrackerState) -> None:
        """Continue from a snapshot."""
        self._tracks = [
            _Track(
                BoxFilter.restored(track.filter),
                np.frombuffer(track.keypoints, np.float32).reshape(-1, 3).copy(),
                track.last_seen_ns,
                track.sightings,
                track.number,
                track.excused_ns,
            )
            for track in state.tracks
        ]
        self._time_ns = state.time_ns
        self._last_number = state.last_number

    def update(self, people: Sequence[Person], time_ns: int, visited: Visited | None = None) -> list[Person]:
        """Update the tracks with the people of one frame and return those to publish, in the same order.

        Args:
            people: down to `config.low_score_threshold`, in source pixels.
            time_ns: capture time of the frame on any clock with correct intervals. If it stands still or goes back, no time passes.
            visited: what the frame has shown, where that is not all of it: a person whom it could not show is not missed.

        Returns:
            People with a high score, whose track number is None until they were detected in `config.min_hits` frames in a
            row, and people with a low score who match a confirmed track. Other people with a low score are dropped.
        """
        elapsed_s = 0.0 if self._time_ns is None else max(0, time_ns - self._time_ns) / NS_PER_S
        if self._time_ns is not None and time_ns < self._time_ns:  # the clock was set back: ages restart at 0
            for track in self._tracks:
                track.last_seen_ns = min(track.last_seen_ns, time_ns)
        self._time_ns = time_ns
        self._tracks = [
            track for track in self._tracks if time_ns - track.last_seen_ns - track.excused_ns <= self._config.max_lost_s * NS_PER_S
        ]
        for track in self._tracks:
            track.filter.predict(elapsed_s)

        boxes = np.array([person.box for person in people], np.float32).reshape(-1, 4)
        areas = box_area(boxes)
        similarities = self._similarities(people, boxes, areas)
        high = [index for index, person in enumerate(people) if person.score >= self._score_threshold]
        low = [index for index, person in enumerate(people) if self._config.low_score_threshold <= person.score < self._score_threshold]
        overlapping = _overlapping(boxes, areas)
        matches = self._matches(people, high, low, overlapping, similarities)
        known = [index for index, track in matches.items() if track.number is not None]

        published: list[Person] = []
        for index, person in enumerate(people):
            match = matches.get(index)
            if match is None and person.score < self._score_threshold:
                continue
            if match is not None:
                _continue(match, person, time_ns)
            track = match or self._start(person, time_ns)
            if track.number is None:
                self._confirm(track, _DOUBLE_SIGHTING if overlapping[index].take(known).any() else 1.0)
                known.append(index)
            published.append(Person(person.box, person.score, person.keypoints, track.number))
        excused = set() if visited is None else self._excuse(visited, time_ns, elapsed_s)
        # An unconfirmed track ends at its first missed frame: noise rarely appears twice in the same place.
        self._tracks = [
            track for track in self._tracks if track.number is not None or track.last_seen_ns == time_ns or id(track) in excused
        ]
        return published

    def _excuse(self, visited: Visited, time_ns: int, elapsed_s: float) -> set[int]:
        """Let no time pass for tracks whose person the frame could not show; return their identities."""
        excused = set()
        for track in self._tracks:
            if track.last_seen_ns != time_ns and track.excused_ns < _MOST_EXCUSED_NS and not visited.expects(track.filter.box):
                track.excused_ns += round(elapsed_s * NS_PER_S)
                excused.add(id(track))
        return excused

    def _start(self, person: Person, time_ns: int) -> _Track:
        track = _Track(BoxFilter(person.box), person.keypoints, time_ns)
        self._tracks.append(track)
        return track

    def _confirm(self, track: _Track, sighting: float) -> None:
        """Give a track its number once it has enough sightings."""
        track.sightings += sighting
        if track.sightings >= self._config.min_hits:
            self._last_number += 1
            track.number = self._last_number

    def _matches(
        self,
        people: Sequence[Person],
        high: Sequence[int],
        low: Sequence[int],
        overlapping: NDArray[np.bool_],
        similarities: NDArray[np.float32],
    ) -> dict[int, _Track]:
        """Return the tracks that the people of a frame continue, by index.

        Args:
            people: all of the frame.
            high, low: indices of those with a high and with a low score.
            overlapping: as of `_overlapping`.
            similarities: (people, tracks).
        """
        confirmed = [index for index, track in enumerate(self._tracks) if track.number is not None]
        unconfirmed = [index for index, track in enumerate(self._tracks) if track.number is None]
        matches = self._associate(similarities, high, confirmed)
        single = [index for index in low if not overlapping[index].take(list(matches)).any()]
        taken = set(matches.values())
        matches |= self._associate(similarities, single, [index for index in confirmed if index not in taken])
        matches |= self._associate(similarities, [index for index in high if index not in matches], unconfirmed)
        return {person: self._tracks[track] for person, track in matches.items()}

    def _associate(self, similarities: NDArray[np.float32], people: Sequence[int], tracks: Sequence[int]) -> dict[int, int]:
        """Match people with tracks so that the sum of similarities is largest; return track indices by person index.

        Args:
            similarities: (people, tracks), of all people and all tracks.
            people: indices of the people to match.
            tracks: indices of the tracks to match.
        """
        if not people or not tracks:
            return {}
        selected = similarities
        if len(people) < len(similarities):
            selected = selected.take(people, axis=0)
        if len(tracks) < selected.shape[1]:
            selected = selected.take(tracks, axis=1)
        possible = (selected >= self._config.match_threshold) & (selected > 0)
        rows, columns = np.nonzero(possible)
        if len(set(rows.tolist())) < len(rows) or len(set(columns.tolist())) < len(columns):
            rows, columns = _assigned(np.where(possible, -selected, np.float32(0)))
        return {people[row]: tracks[column] for row, column in zip(rows.tolist(), columns.tolist(), strict=True) if possible[row, column]}

    def _similarities(self, people: Sequence[Person], boxes: NDArray[np.float32], areas: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the similarities (people, tracks) of detections and predictions.

        Args:
            boxes: (people, 4), of the people, and `areas` (people,).
        """
        tracks = self._tracks
        if not people or not tracks:
            return np.zeros((len(people), len(tracks)), np.float32)
        keypoints = self._rows.filled("keypoints", [person.keypoints for person in people])[:, None]  # (people, 1, 17, 3)
        predicted_boxes = np.array([track.filter.corners for track in tracks], np.float32)[None]  # (1, tracks, 4)
        predicted_areas = box_area(predicted_boxes)
        predicted = self._rows.filled("predicted", [track.keypoints for track in tracks])  # (tracks, 17, 3)
        predicted[..., :2] += np.array([track.filter.displacement for track in tracks], np.float32)[:, None]
        weights = np.minimum(keypoints[..., 2], predicted[None, ..., 2])
        np.multiply(weights, weights >= self._keypoint_threshold, out=weights)
        pose = oks(keypoints, predicted[None], predicted_areas, weights)
        overlap = iou(boxes[:, None], predicted_boxes, (areas[:, None], predicted_areas))
        # Poses without a common keypoint cannot be compared: the boxes decide.
        weight = np.float32(_POSE_WEIGHT)
        return np.where(weights.any(axis=-1), weight * pose + (1 - weight) * overlap, overlap)


def _continue(track: _Track, person: Person, time_ns: int) -> None:
    track.filter.correct(person.box)
    track.keypoints = person.keypoints
    track.last_seen_ns, track.excused_ns = time_ns, 0


def _overlapping(boxes: NDArray[np.float32], area: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which people (N, N) overlap so much that one of the two boxes may be another box of the same person."""
    common = intersection(boxes[:, None], boxes)
    inside = common / np.maximum(np.minimum(area[:, None], area[None]), np.float32(1e-6))
    union = area[:, None] + area[None] - common
    return np.asarray((common > _DOUBLE_IOU * union) | (inside > _DOUBLE_INSIDE))


def _assigned(costs: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and columns of the assignment of (N, M) costs with the lowest sum, one to one.

    The Hungarian method by shortest augmenting paths (R. Jonker, A. Volgenant 1987), one row after the other.
    """
    if costs.shape[0] > costs.shape[1]:
        columns, rows = _assigned(costs.T)
        return rows, columns
    count, width = costs.shape
    row_price, price = np.zeros(count), np.zeros(width)
    owner = np.full(width, -1, np.intp)  # row that has a column
    for start in range(count):
        shortest, before = np.full(width, np.inf), np.full(width, -1, np.intp)
        done = np.zeros(width, np.bool_)
        row, column = start, -1
        while row >= 0:
            slack = costs[row] - row_price[row] - price
            shorter = ~done & (slack < shortest)
            shortest[shorter], before[shorter] = slack[shorter], column
            column = int(np.where(done, np.inf, shortest).argmin())
            step = shortest[column]
            row_price[start] += step
            row_price[owner[done]] += step
            price[done] -= step
            shortest[~done] -= step
            done[column] = True
            row = int(owner[column])
        while column >= 0:  # give each column of the path to the row of the column before it
            previous = int(before[column])
            owner[column] = start if previous < 0 else owner[previous]
            column = previous
    columns = np.flatnonzero(owner >= 0)
    return owner[columns], columns
