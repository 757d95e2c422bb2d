"""Identities: who is found in each frame, and how long a person keeps one track number.

Frames are matched as for CLEAR MOT (K. Bernardin, R. Stiefelhagen, "Evaluating Multiple Object Tracking Performance", 2008): who was
matched before stays matched while the boxes overlap enough, the rest is assigned by overlap. IDF1 is that of E. Ristani et al.,
"Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016. The counts equal those of py-motmetrics 1.4.0,
which does not run with NumPy 2 and needs pandas.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from edgepose.person import Person
from edgepose.pose.boxes import box_area, iou
from edgepose_export.evaluation.tracks.clips import FrameTruth

MATCHED_IOU = 0.5
_IGNORED_SHARE = 0.5  # of a find's box that lies in an ignored person's box


@dataclass(frozen=True, slots=True, eq=False)
class FrameMatches:
    """Who is who in a frame.

    Attributes:
        found: index of the find for each labeled person who counts and is found, by the person's track number.
        missed: track numbers of the people who count and are not found.
        false: indices of the finds that are nobody.
        overlaps: track number and index of the find of all people who count and finds whose boxes overlap enough.
    """

    found: dict[int, int]
    missed: list[int]
    false: list[int]
    overlaps: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Identities:
    """Counts of one or more clips; counts of several clips are added.

    Attributes:
        people: labeled people.
        labeled: people in all frames who count.
        found: those that a tracked person matches.
        finds: tracked people in all frames who count.
        same: finds that belong to the labeled person whom their track number fits best: IDTP.
        kept: frames in which people have the track number that they have most often.
        switches: changes of a person's track number.
        fragments: interruptions of a person who is found, lost and found again.
        frames: number of frames.
    """

    people: int = 0
    labeled: int = 0
    found: int = 0
    finds: int = 0
    same: int = 0
    kept: int = 0
    switches: int = 0
    fragments: int = 0
    frames: int = 0

    @property
    def idf1(self) -> float | None:
        """Share of people and finds in all frames with the right identity, 0 to 1; None without any."""
        both = self.labeled + self.finds
        return 2 * self.same / both if both else None

    @property
    def kept_share(self) -> float | None:
        """Share of the frames with a labeled person in which the person has the track number that is most often theirs."""
        return self.kept / self.labeled if self.labeled else None


def total_identities(counts: Iterable[Identities]) -> Identities:
    """Return the sum of counts."""
    rows = [[getattr(count, name) for name in Identities.__slots__] for count in counts]
    return Identities(*(sum(column) for column in zip(*rows, strict=True))) if rows else Identities()


def match_frames(truth: Sequence[FrameTruth], people: Sequence[Sequence[Person]]) -> list[FrameMatches]:
    """Match the tracked people of each frame with its labels; finds without a track number are left out."""
    last: dict[int, int] = {}  # track number of the find by that of the person
    matches = []
    for labels, finds in zip(truth, people, strict=True):
        matches.append(_match(labels, finds, last))
        last |= {track: finds[find].track or 0 for track, find in matches[-1].found.items()}
    return matches


def count_identities(
    truth: Sequence[FrameTruth], people: Sequence[Sequence[Person]], matches: Sequence[FrameMatches], *, all_labeled: bool = True
) -> Identities:
    """Count identities of one clip.

    Args:
        truth: labels of each frame.
        people: finds of each frame.
        matches: of both, from `match_frames`.
        all_labeled: whether a find that matches nobody is wrong; otherwise finds of other people do not count.
    """
    pairs: Counter[tuple[int, int]] = Counter()  # frames by person and track number
    possible: Counter[tuple[int, int]] = Counter()  # the same, also of finds that match somebody else: IDF1 assigns for the whole clip
    last: dict[int, int] = {}
    lost: set[int] = set()
    known: set[int] = set()
    switches = fragments = false = labeled = 0
    for frame, finds in zip(matches, people, strict=True):
        for track, find in frame.found.items():
            number = finds[find].track or 0
            pairs[track, number] += 1
            switches += track in last and last[track] != number
            fragments += track in lost
            last[track] = number
        possible.update((track, finds[find].track or 0) for track, find in frame.overlaps)
        lost = (lost | {track for track in frame.missed if track in last}) - set(frame.found)
        labeled += len(frame.found) + len(frame.missed)
        false += len(frame.false)
        known |= set(frame.found) | set(frame.missed)
    found = sum(pairs.values())
    most: dict[int, int] = defaultdict(int)
    for (track, _), count in pairs.items():
        most[track] = max(most[track], count)
    return Identities(
        people=len(known),
        labeled=labeled,
        found=found,
        finds=found + false * all_labeled,
        same=_assigned(possible),
        kept=sum(most.values()),
        switches=switches,
        fragments=fragments,
        frames=len(truth),
    )


def _assigned(pairs: Counter[tuple[int, int]]) -> int:
    """Return the frames in which people have the track number assigned to them, one to one, so that the sum is largest."""
    if not pairs:
        return 0
    people, numbers = sorted({person for person, _ in pairs}), sorted({number for _, number in pairs})
    counts = np.array([[pairs[person, number] for number in numbers] for person in people])
    rows, columns = linear_sum_assignment(-counts)
    return int(counts[rows, columns].sum())


def _match(labels: FrameTruth, finds: Sequence[Person], last: dict[int, int]) -> FrameMatches:
    tracked = [index for index, person in enumerate(finds) if person.track is not None]
    counted = np.flatnonzero(~labels.ignored)
    boxes = np.array([finds[index].box for index in tracked], np.float32).reshape(-1, 4)
    overlap = iou(labels.boxes[counted][:, None], boxes[None]) if len(boxes) else np.zeros((len(counted), 0), np.float32)
    overlaps = [(int(labels.tracks[counted[row]]), tracked[column]) for row, column in np.argwhere(overlap >= MATCHED_IOU).tolist()]
    found: dict[int, int] = {}
    for row, label in enumerate(counted.tolist()):
        for column, index in enumerate(tracked):
            if finds[index].track == last.get(int(labels.tracks[label])) and overlap[row, column] >= MATCHED_IOU:
                found[int(labels.tracks[label])] = index
                overlap[row], overlap[:, column] = 0, 0
    for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
        if overlap[row, column] >= MATCHED_IOU:
            found[int(labels.tracks[counted[row]])] = tracked[column]
    missed = [track for track in labels.tracks[counted].tolist() if track not in found]
    free = sorted(set(tracked) - set(found.values()))
    return FrameMatches(found, missed, [index for index in free if not _on_ignored(finds[index].box, labels)], overlaps)


def _on_ignored(box: NDArray[np.float32], labels: FrameTruth) -> bool:
    """Return whether a box lies on a person who does not count."""
    ignored = labels.boxes[labels.ignored]
    if not len(ignored):
        return False
    overlap = np.maximum(np.minimum(ignored[:, 2:], box[2:]) - np.maximum(ignored[:, :2], box[:2]), 0).prod(1)
    return bool((overlap / max(float(box_area(box)), 1e-6) >= _IGNORED_SHARE).any())
