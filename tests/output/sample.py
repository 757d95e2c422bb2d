"""One frame with two people, from which the golden files are made."""

import numpy as np

from edgepose.frame import Frame
from edgepose.output.messages import poses_message
from edgepose.person import Person

CAPTURED_AT = 1_795_341_600_123_456_789


def sample_frame(height=720, width=1280):
    image = np.zeros((height, width, 3), np.uint8)
    return Frame(image=image, captured_at=CAPTURED_AT, clock="rtcp", sequence=812, camera="front")


def sample_person(*, track=None, x=100.0, y=50.0, score=0.83249):
    keypoints = np.array([[x + 3.3333 * i, y + 10.06 * i, 0.1 + 0.05 * i] for i in range(17)], np.float32)
    return Person(np.array([x, y, x + 60.123, y + 170.456], np.float32), score, keypoints, track)


def sample_message():
    people = [sample_person(track=7), sample_person(x=-4.04, score=0.4)]
    return poses_message(sample_frame(), people, CAPTURED_AT + 38_123_456)
