"""The sample frame, people and event that the golden files are made from."""

from dataclasses import replace
from typing import Any

import numpy as np

from edgepose.event import Event
from edgepose.frame import Frame
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.structs import EventMessage, PosesMessage
from edgepose.person import Person

CAPTURED_AT = 1_795_341_600_123_456_789


def sample_frame(height: int = 720, width: int = 1280) -> Frame:
    image = np.zeros((height, width, 3), np.uint8)
    return Frame(image=image, captured_at_ns=CAPTURED_AT, clock="rtcp", sequence=812, camera="front")


def sample_person(*, track: int | None = None, x: float = 100.0, y: float = 50.0, score: float = 0.83249) -> Person:
    keypoints = np.array([[x + 3.3333 * i, y + 10.06 * i, 0.1 + 0.05 * i] for i in range(17)], np.float32)
    return Person(np.array([x, y, x + 60.123, y + 170.456], np.float32), score, keypoints, track)


def sample_message() -> PosesMessage:
    people = [sample_person(track=7), sample_person(x=-4.04, score=0.4)]
    return poses_message(sample_frame(), people, CAPTURED_AT + 38_123_456)


def sample_event(**changes: Any) -> Event:
    event = Event(
        kind="fallen",
        camera="front",
        epoch=2,
        sequence=812,
        at_ns=CAPTURED_AT,
        since_ns=CAPTURED_AT - 1_500_000_000,
        clock="rtcp",
        track=7,
        score=0.83249,
        box=(100.0, 50.0, 160.123, 220.456),
        width=1280,
        height=720,
        evidence={"down_s": 0.61234, "lying_s": np.float64(0.8), "aspect": 2},
    )
    return replace(event, **changes)


def sample_event_message() -> EventMessage:
    return event_message(sample_event())
