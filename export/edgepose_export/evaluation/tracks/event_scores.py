"""Events: which of those that happen are reported, and which of those that are reported happen."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgepose.config.schema import EventsConfig
from edgepose.event import Event, EventKind
from edgepose.person import Person
from edgepose_export.evaluation.tracks.clips import FrameTruth, LabeledClip, TrueEvent
from edgepose_export.evaluation.tracks.identities import FrameMatches
from edgepose_export.evaluation.tracks.run import TrackedClip

KINDS: tuple[EventKind, ...] = ("fallen", "waving", "arms_up", "zone_entered", "zone_left", "loitering", "line_crossed")
"""Kinds that are measured."""

_EARLY_S, _LATE_S = 0.5, 3.0  # a report counts from this long before the beginning until this long after the end
_NEEDED_S, _NEEDED_SHARE = 2.5, 0.6  # who is visible in less of the first seconds cannot be seen doing it
_STAY_S = 0.75  # a stay may be longer or shorter than `loiter_after_s` by this much without being clearly so
_SHOWN_SHARE = 0.5  # of the keypoints ...
_POSES = ("fallen", "waving", "arms_up")  # ... for these kinds
_LONG_S = 1.0  # an event of this duration goes on when it is reported; a shorter one is over


@dataclass(frozen=True, slots=True)
class EventCount:
    """Counts of one kind of event.

    Attributes:
        happened: events that happen and can be seen.
        found: those that are reported.
        reported: reports.
        right: those of an event that happens, each event once.
    """

    happened: int = 0
    found: int = 0
    reported: int = 0
    right: int = 0

    def __add__(self, other: "EventCount") -> "EventCount":
        return EventCount(
            self.happened + other.happened, self.found + other.found, self.reported + other.reported, self.right + other.right
        )

    @property
    def precision(self) -> float | None:
        """Share of the reports that are right; None without any."""
        return self.right / self.reported if self.reported else None

    @property
    def recall(self) -> float | None:
        """Share of the events that are reported; None where none happens."""
        return self.found / self.happened if self.happened else None

    def to_json(self) -> dict[str, float | int | None]:
        """Return the figures by the keys of `edgepose-export evaluate --tracks --json`."""
        return {"precision": self.precision, "recall": self.recall, "happened": self.happened, "reported": self.reported}


def score_events(clip: LabeledClip, tracked: TrackedClip, matches: Sequence[FrameMatches], settings: EventsConfig) -> dict[str, EventCount]:
    """Compare the events of a clip with those that the runtime reports; by kind.

    A report is right if it names the person, the zone, and the line with its direction of an event that happens, from half a second before
    it begins until three seconds after it ends. Reports of what may be seen of somebody hardly visible count neither way. Stays in a zone
    that last `loiter_after_s` are loitering.
    """
    counts: dict[str, EventCount] = {}
    events = [*(clip.events or ()), *_long_stays(clip, settings.loiter_after_s)]
    for kind in KINDS:
        happening = [event for event in events if event.kind == kind]
        seen = [not event.doubtful and _is_visible(clip, event) for event in happening]
        taken: set[int] = set()
        unseen = reported = 0
        for event in (event for event in tracked.events if event.kind == kind):
            person = _person_of(clip, tracked, event, matches)
            number = _fitting(happening, taken, event, person, tracked.at_s(event))
            if number is not None:
                taken.add(number)
                unseen += not seen[number]
            reported += 1
        right = len(taken)
        counts[kind] = EventCount(sum(seen), sum(seen[number] for number in taken), reported - unseen, right - unseen)
    return counts


def total_events(counts: Iterable[dict[str, EventCount]]) -> dict[str, EventCount]:
    """Return the sums by kind."""
    total: dict[str, EventCount] = {kind: EventCount() for kind in KINDS}
    for clip in counts:
        for kind, count in clip.items():
            total[kind] += count
    return total


def _fitting(happening: Sequence[TrueEvent], taken: set[int], event: Event, person: int | None, at_s: float) -> int | None:
    """Return the number of the event that a report is of; None if there is none."""
    for number, true in enumerate(happening):
        same = (true.track, true.zone, true.line) == (person, event.zone or "", event.line or "")
        same &= not true.direction or f"to_{true.direction}" == event.direction
        if number not in taken and same and true.start - _EARLY_S <= at_s <= true.end + _LATE_S:
            return number
    return None


def _long_stays(clip: LabeledClip, loiter_after_s: float) -> list[TrueEvent]:
    """Return the loitering that follows from who enters and leaves zones."""
    entered: dict[tuple[int, str], float] = {}
    stays = []
    for event in sorted(clip.events or (), key=lambda event: event.start):
        if event.kind == "zone_entered":
            entered[event.track, event.zone] = event.start
        elif event.kind == "zone_left" and (event.track, event.zone) in entered:
            stays.append((event.track, event.zone, entered.pop((event.track, event.zone)), event.start))
    stays += [(track, zone, since_s, float(clip.times_s[-1])) for (track, zone), since_s in entered.items()]
    return [
        TrueEvent("loitering", track, since_s + loiter_after_s, end_s, zone, doubtful=end_s - since_s < loiter_after_s + _STAY_S)
        for track, zone, since_s, end_s in stays
        if end_s - since_s > loiter_after_s - _STAY_S
    ]


def _person_of(clip: LabeledClip, tracked: TrackedClip, event: Event, matches: Sequence[FrameMatches]) -> int | None:
    """Return the labeled person whom a report's track number had most often during the evidence; None if it was nobody's."""
    since_s, at_s = (event.since_ns - tracked.began_ns) / 1e9, tracked.at_s(event)
    people: Counter[int] = Counter()
    for time_s, finds, match in zip(clip.times_s.tolist(), tracked.people, matches, strict=True):
        if since_s - 1e-6 <= time_s <= at_s + 1e-6:
            people.update(track for track, find in match.found.items() if _number(finds, find) == event.track)
    return people.most_common(1)[0][0] if people else None


def _number(finds: Sequence[Person], index: int) -> int | None:
    return finds[index].track


def _is_visible(clip: LabeledClip, event: TrueEvent) -> bool:
    """Return whether a person is visible for most of the time in which an event would be noticed, and the clip goes on that long."""
    if event.start > clip.times_s[-1] - _LONG_S:
        return False
    end_s = min(event.end, event.start + _NEEDED_S) if event.end - event.start > _LONG_S else event.start + _LONG_S
    frames = np.flatnonzero((clip.times_s >= event.start) & (clip.times_s <= end_s)).tolist()
    visible = [_shows(clip.truth[frame], event) for frame in frames]
    return bool(visible) and float(np.mean(visible)) >= _NEEDED_SHARE


def _shows(labels: FrameTruth, event: TrueEvent) -> bool:
    """Return whether a frame shows the person of an event, with at least half of the keypoints where the event is about the pose."""
    keypoints = labels.keypoints[(labels.tracks == event.track) & ~labels.ignored]
    return bool(len(keypoints)) and (event.kind not in _POSES or float((keypoints[0, :, 2] > 0).mean()) >= _SHOWN_SHARE)
