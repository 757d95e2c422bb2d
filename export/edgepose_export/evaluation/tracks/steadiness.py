"""Steadiness of poses: how much the keypoints of people at rest tremble, and by how much time waving wrists are late."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from edgepose.person import Person
from edgepose_export.evaluation.tracks.clips import FrameTruth, LabeledClip, TrueEvent
from edgepose_export.evaluation.tracks.identities import FrameMatches

_FEWEST_FRAMES = 10  # of a keypoint, for a deviation
_WRISTS = {"left": 9, "right": 10}
_SHIFTS_S = np.arange(-0.2, 0.5001, 0.005)  # of half a period of 1 Hz each other shift is as good
_SETTLED_S = 0.8  # after the beginning of a wave: the arm has been raised


@dataclass(frozen=True, slots=True)
class JitterSum:
    """Deviations of keypoints of people at rest from their own mean error.

    Attributes:
        frames: keypoints in all frames.
        squares_px, squares_bodies: sums of the squared deviations, in pixels and in body sizes (square root of the area of the box).
    """

    frames: int = 0
    squares_px: float = 0.0
    squares_bodies: float = 0.0

    def __add__(self, other: "JitterSum") -> "JitterSum":
        return JitterSum(self.frames + other.frames, self.squares_px + other.squares_px, self.squares_bodies + other.squares_bodies)

    @property
    def px(self) -> float | None:
        """Standard deviation in pixels; None where nobody was at rest and found."""
        return float(np.sqrt(self.squares_px / self.frames)) if self.frames else None

    @property
    def bodies(self) -> float | None:
        """Standard deviation in body sizes; None as of `px`."""
        return float(np.sqrt(self.squares_bodies / self.frames)) if self.frames else None


@dataclass(frozen=True, slots=True, eq=False)
class Delay:
    """Errors of waving wrists against the truth at other times.

    Attributes:
        waves: number of waves with a wrist that was found.
        errors: float64 (S,), sum over the waves of the mean squared error at each shift, in body sizes.
    """

    waves: int
    errors: NDArray[np.float64]

    def __add__(self, other: "Delay") -> "Delay":
        return Delay(self.waves + other.waves, self.errors + other.errors)

    @property
    def lag_s(self) -> float | None:
        """How late the wrists are, in seconds; None where no wave was found."""
        return float(_SHIFTS_S[int(self.errors.argmin())]) if self.waves else None


def no_delay() -> Delay:
    """Return a delay of no waves."""
    return Delay(0, np.zeros(len(_SHIFTS_S)))


def measure_jitter(
    truth: Sequence[FrameTruth], people: Sequence[Sequence[Person]], matches: Sequence[FrameMatches], threshold: float
) -> JitterSum:
    """Measure the standard deviation of the error (both axes together) of the keypoints of people at rest.

    Args:
        truth: labels of each frame.
        people: finds of each frame.
        matches: of both.
        threshold: lowest confidence of a keypoint that counts.
    """
    total = JitterSum()
    resting = {int(track) for labels in truth for track in labels.tracks[labels.at_rest]}
    for track in sorted(resting):
        rows = [
            (labels.keypoints[row], finds[match.found[track]].keypoints, _size(labels.boxes[row]))
            for labels, finds, match, row in _rows_of(track, truth, people, matches)
        ]
        if not rows:
            continue
        labeled, found = (np.array(values, np.float64) for values in list(zip(*rows, strict=True))[:2])  # (T, 17, 3) each
        size = float(np.mean([size for _, _, size in rows]))
        known = (labeled[..., 2] > 0) & (found[..., 2] >= threshold)  # (T, 17)
        for keypoint in np.flatnonzero(known.sum(0) >= _FEWEST_FRAMES):
            chosen = known[:, keypoint]
            error = found[chosen, keypoint, :2] - labeled[chosen, keypoint, :2]
            squares = float(((error - error.mean(0)) ** 2).sum())
            total += JitterSum(int(chosen.sum()), squares, squares / size**2)
    return total


def measure_delay(clip: LabeledClip, people: Sequence[Sequence[Person]], matches: Sequence[FrameMatches], threshold: float) -> Delay:
    """Measure how late the wrists of waving people are: the error at each shift in time, without its mean.

    Args:
        clip: with its labels.
        people: finds of each frame.
        matches: of labels and finds.
        threshold: lowest confidence of a keypoint that counts.
    """
    total = no_delay()
    for event in clip.events or ():
        if event.kind == "waving" and event.wrist in _WRISTS:
            total += _wave_delay(clip, event, people, matches, threshold)
    return total


def _wave_delay(
    clip: LabeledClip, event: TrueEvent, people: Sequence[Sequence[Person]], matches: Sequence[FrameMatches], threshold: float
) -> Delay:
    wrist = _WRISTS[event.wrist]
    known_s, known, found_s, found, sizes = [], [], [], [], []
    for time_s, labels, finds, match in zip(clip.times_s.tolist(), clip.truth, people, matches, strict=True):
        (rows,) = np.nonzero(labels.tracks == event.track)
        if not len(rows) or not labels.keypoints[rows[0], wrist, 2]:
            continue
        known_s.append(time_s)
        known.append(labels.keypoints[rows[0], wrist, :2])
        if event.track in match.found and event.start + _SETTLED_S <= time_s <= event.end - _SETTLED_S:
            keypoint = finds[match.found[event.track]].keypoints[wrist]
            if keypoint[2] >= threshold:
                found_s.append(time_s)
                found.append(keypoint[:2])
                sizes.append(_size(labels.boxes[rows[0]]))
    if len(found) < _FEWEST_FRAMES:
        return no_delay()
    spline = CubicSpline(known_s, np.array(known, np.float64))
    shifted = spline(np.array(found_s)[None] - _SHIFTS_S[:, None])  # (S, T, 2): where the wrist was
    error = np.array(found, np.float64)[None] - shifted
    deviation = ((error - error.mean(1, keepdims=True)) ** 2).sum(2).mean(1)
    return Delay(1, deviation / float(np.mean(sizes)) ** 2)


def _rows_of(
    track: int, truth: Sequence[FrameTruth], people: Sequence[Sequence[Person]], matches: Sequence[FrameMatches]
) -> Iterator[tuple[FrameTruth, Sequence[Person], FrameMatches, int]]:
    """Yield the frames in which a person is found, with the person's row in the labels."""
    for labels, finds, match in zip(truth, people, matches, strict=True):
        if track in match.found:
            yield labels, finds, match, int(np.flatnonzero(labels.tracks == track)[0])


def _size(box: NDArray[np.float32]) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
