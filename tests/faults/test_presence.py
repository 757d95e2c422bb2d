"""The account of events: what is missing is found, and what hangs on a rounded decimal is not awaited."""

from pathlib import Path

import numpy as np
import pytest

from edgepose.config.schema import EventsConfig, PoseConfig
from edgepose.event import Event
from edgepose.events.detector import EventDetector, Places
from edgepose.frame import Frame
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.structs import encode
from edgepose.person import Person
from testing.faults.presence import account

PICTURE = np.zeros((240, 320, 3), np.uint8)
BEGAN_NS = 1_700_000_000_000_000_000


def person(track: int, x: float) -> Person:
    keypoints = np.full((17, 3), 0.9, np.float32)
    keypoints[:, :2] = np.linspace((x, 60), (x + 20, 140), 17)
    return Person(np.array([x, 60, x + 20, 140], np.float32), 0.9, keypoints, track)


def walk(path: Path, seconds: float, nudge_ns: int = 0) -> list[Event]:
    """Somebody is there for so long, then nobody; the file of it, and what the daemon says. A nudge is lost in rounding to µs."""
    detector, events = EventDetector(EventsConfig(), Places(), "front", PoseConfig().keypoint_threshold), []
    with path.open("wb") as file:
        for number in range(80):
            at = BEGAN_NS + number * 100_000_000 + (nudge_ns if number else 0)
            frame = Frame(PICTURE, at, "stream", number, "front", 0)
            people = [person(3, 100.0)] if number <= round(seconds * 10) else []
            events += detector.update(people, frame)
            file.write(encode(poses_message(frame, people, at)) + b"\n")
    return events


def heard(events: list[Event]) -> list[dict[str, object]]:
    return [{"kind": event.kind, "epoch": event.epoch, "track": event.track, "at": event_message(event).at} for event in events]


def test_all_that_was_said_is_there(tmp_path):
    events = walk(tmp_path / "people.jsonl", 3)
    assert [event.kind for event in events] == ["entered", "left"]
    found = account([tmp_path / "people.jsonl"], heard(events))
    assert (found.awaited, found.missing, found.repeated) == (2, [], 0)


@pytest.mark.parametrize("gone", [0, 1])
def test_what_never_came_is_named(tmp_path, gone):
    events = walk(tmp_path / "people.jsonl", 3)
    found = account([tmp_path / "people.jsonl"], heard(events[:gone] + events[gone + 1 :]))
    assert found.missing == [f"{events[gone].kind} of track 3 in epoch 0 of run 1, frame {events[gone].sequence}"]


def test_what_came_twice_is_counted(tmp_path):
    events = walk(tmp_path / "people.jsonl", 3)
    assert account([tmp_path / "people.jsonl"], heard(events + events[:1])).repeated == 1


def test_what_hangs_on_a_rounded_decimal_is_not_awaited(tmp_path):
    """A second is how long somebody has to be there; a hundred nanoseconds less of it, and the file cannot tell."""
    assert walk(tmp_path / "people.jsonl", 1.0, nudge_ns=-100) == []
    found = account([tmp_path / "people.jsonl"], [])
    assert (found.awaited, found.missing) == (0, [])
