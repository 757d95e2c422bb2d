"""Who must have been said to have entered and left, by what the daemon's own file of poses says: the truth that events are held against."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.faults.recorder import nanoseconds

_SEEN_S = 3.0  # who is seen for so long has entered, whatever the debouncing
_GONE_S = 8.0  # who is not seen for so long while pictures come has left


class _Person(msgspec.Struct):
    track: int | None = None


class _Line(msgspec.Struct):
    sequence: int
    captured_at: str
    people: list[_Person]


@dataclass
class Presence:
    """One person in one epoch: from when to when (ns since the epoch), and whether the pictures went on long enough without them."""

    epoch: int
    track: int
    first_ns: int
    last_ns: int
    left: bool = False

    @property
    def kinds(self) -> list[str]:
        """The events there must be."""
        entered = (self.last_ns - self.first_ns) / 1e9 >= _SEEN_S
        return ["entered", "left"] if entered and self.left else ["entered"] if entered else []


def presences(path: Path) -> Iterator[Presence]:
    """Everybody of one run's file, in no order; a last line that a kill cut short is passed over."""
    if not path.exists():
        return
    epoch, sequence = 0, -1
    there: dict[int, Presence] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            poses = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError:
            continue
        now_ns = nanoseconds(poses.captured_at)
        if poses.sequence <= sequence:
            yield from there.values()
            there, epoch = {}, epoch + 1
        sequence = poses.sequence
        for person in poses.people:
            if person.track is not None:
                presence = there.setdefault(person.track, Presence(epoch, person.track, now_ns, now_ns))
                presence.last_ns = now_ns
        for presence in there.values():
            presence.left = (now_ns - presence.last_ns) / 1e9 >= _GONE_S
    yield from there.values()
