"""The events that must have been published, by the daemon's own file of poses, compared with those that a subscriber received."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgepose.config.schema import EventsConfig, PoseConfig
from edgepose.event import Event
from edgepose.events.detector import EventDetector, Places
from edgepose.frame import Frame
from edgepose.messages.structs import PosesMessage
from edgepose.person import Person
from testing.faults.recorder import nanoseconds

# Not the kinds that hang on a keypoint's last decimal, which the file has rounded.
KINDS = ("entered", "left")
_ROUNDED_PX = 0.05
_ROUNDED_TIME = 1e-4  # share of the time between two frames, generously: the file has microseconds
_NEAR_NS = 500_000_000  # an event may be a frame earlier or later than in the file, whose times are rounded too


@dataclass(frozen=True)
class Account:
    """Counts of events that must arrive, those that did not, and repetitions."""

    awaited: int
    missing: Sequence[str]
    repeated: int


def account(files: Sequence[Path], heard: Sequence[dict[str, Any]]) -> Account:
    """Compare received events with the files of all runs, in order."""
    spoken: dict[tuple[str, int, int], list[int]] = {}
    for message in heard:
        spoken.setdefault((message["kind"], message["epoch"], message["track"]), []).append(nanoseconds(message["at"]))
    awaited, missing, repeated = 0, [], 0
    for number, path in enumerate(files, 1):
        for event in _certain(path):
            awaited += 1
            same = _near(event, spoken)
            repeated += max(0, len(same) - 1)
            if not same:
                missing.append(f"{event.kind} of track {event.track} in epoch {event.epoch} of run {number}, frame {event.sequence}")
    return Account(awaited, missing, repeated)


def _near(event: Event, spoken: dict[tuple[str, int, int], list[int]]) -> list[int]:
    """Return the reported times of the same event."""
    return [at_ns for at_ns in spoken.get((event.kind, event.epoch, event.track), ()) if abs(at_ns - event.at_ns) < _NEAR_NS]


def _certain(path: Path) -> list[Event]:
    """Return events that do not depend on the rounding of the file: they also occur with slightly larger and smaller times and boxes."""
    events = list(_events(path, 0))
    for size in (-1, 1):
        found: dict[tuple[str, int, int], list[int]] = {}
        for event in _events(path, size):
            found.setdefault((event.kind, event.epoch, event.track), []).append(event.at_ns)
        events = [event for event in events if _near(event, found)]
    return events


def lines(path: Path) -> Iterator[tuple[int, PosesMessage]]:
    """Yield epoch and message of each line of one run's file; skip a line that a kill cut short."""
    if not path.exists():
        return
    epoch, sequence = 0, -1
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(msgspec.DecodeError):
                message = msgspec.json.decode(line, type=PosesMessage)
                epoch += message.sequence <= sequence
                sequence = message.sequence
                yield epoch, message


def _events(path: Path, size: int) -> Iterator[Event]:
    """Yield the events of the poses of a file, except those of its last frame, after which the daemon may have been killed.

    Args:
        path: of the file.
        size: 0 takes times and boxes as they are, 1 and -1 make them larger and smaller by as much as rounding may have done.
    """
    detector = EventDetector(EventsConfig(), Places(), "front", PoseConfig().keypoint_threshold)
    before: int | None = None
    began_ns = 0
    waiting: list[Event] = []
    grow = np.array([-1, -1, 1, 1], np.float32) * (size * _ROUNDED_PX)
    for epoch, message in lines(path):
        yield from waiting
        at_ns = nanoseconds(message.captured_at)
        if epoch != before:
            detector.reset()
            before, began_ns = epoch, at_ns
        picture = np.broadcast_to(np.uint8(0), (message.height, message.width, 3))
        shown_ns = at_ns + round((at_ns - began_ns) * size * _ROUNDED_TIME)
        frame = Frame(picture, shown_ns, message.clock, message.sequence, "front", epoch)
        people = [
            Person(
                np.array([left, top, left + width, top + height], np.float32) + grow,
                person.score,
                np.array(person.keypoints, np.float32),
                person.track if isinstance(person.track, int) else None,
            )
            for person in message.people
            for left, top, width, height in [person.box]
        ]
        waiting = [replace(event, at_ns=at_ns) for event in detector.update(people, frame) if event.kind in KINDS]
