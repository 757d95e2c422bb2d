"""The compact encoding of poses: 98 bytes a person in fixed places, for slow links and small receivers.

The layout is in docs/mqtt.md, "Compact poses", with decoders in JavaScript and C. All numbers are little-endian and unaligned.
"""

import struct
from datetime import datetime, timedelta, timezone
from typing import get_args

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from edgepose.errors import OutputError
from edgepose.frame import Clock
from edgepose.messages.structs import PersonMessage, PosesMessage, timestamp
from edgepose.person import KEYPOINT_NAMES

CONTENT_TYPE = "application/vnd.edgepose.poses"

VERSION = 1

HEADER = struct.Struct("<BBBBIIfIQqf8sH")
"""Version, clock, step, 0, width, height, pixel aspect, epoch, sequence, microseconds, age in ms, session, number of people: 50 bytes."""

PERSON = np.dtype(
    [("keypoints", [("xy", "<i2", 2), ("confidence", "u1")], len(KEYPOINT_NAMES)), ("box", "<i2", 4), ("track", "<u4"), ("score", "u1")]
)
"""One person: 98 bytes."""

NO_TRACK = 0xFFFFFFFF

_CLOCKS: tuple[Clock, ...] = get_args(Clock)
_STEPS_PER_PX = 4
_WIDEST_PX = 8000  # in quarter pixels; int16 leaves a margin of 191 px for positions outside the frame
_PEOPLE_LIMIT = 0xFFFF
_NO_SESSION = bytes(8)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def encode(message: PosesMessage) -> bytes:
    """Return a pose message in the compact encoding; its camera is in the topic.

    Positions are rounded to a quarter pixel (to `step` quarters in frames above 8000 px) and limited to what fits, scores and
    confidences to 1 / 255.
    """
    people = message.people[:_PEOPLE_LIMIT]
    step = max(1, -(-max(message.width, message.height) // _WIDEST_PX))
    records = np.zeros(len(people), PERSON)
    if people:
        keypoints = np.array([person.keypoints for person in people], np.float64)  # (P, 17, 3)
        records["keypoints"]["xy"] = _steps(keypoints[..., :2], step)
        records["keypoints"]["confidence"] = _bytes(keypoints[..., 2])
        records["box"] = _steps(np.array([person.box for person in people], np.float64), step)
        records["track"] = [NO_TRACK if person.track is UNSET else person.track for person in people]
        records["score"] = _bytes(np.array([person.score for person in people], np.float64))
    header = HEADER.pack(
        *(VERSION, _CLOCKS.index(message.clock), step, 0, message.width, message.height),
        1.0 if message.pixel_aspect is UNSET else message.pixel_aspect,
        *(message.epoch & 0xFFFFFFFF, message.sequence, _microseconds(message.captured_at), message.age_ms),
        _NO_SESSION if message.session is UNSET else bytes.fromhex(message.session),
        len(people),
    )
    return header + records.tobytes()


def decode(payload: bytes, camera: str) -> PosesMessage:
    """Return the pose message of a payload.

    Args:
        payload: as received.
        camera: its name, from the topic.

    Raises:
        OutputError: the payload is no compact pose message of this version.
    """
    if len(payload) < HEADER.size or payload[0] != VERSION:
        raise OutputError(f"a payload of {len(payload)} bytes is no compact pose message; expected version {VERSION} in its first byte")
    _, clock, step, _, width, height, aspect, epoch, sequence, time_us, age_ms, session, count = HEADER.unpack_from(payload)
    if len(payload) != HEADER.size + count * PERSON.itemsize or clock >= len(_CLOCKS) or not step:
        raise OutputError(f"a compact pose message of {count} people has {len(payload)} bytes; expected {HEADER.size} and 98 a person")
    return PosesMessage(
        camera=camera,
        session=UNSET if session == _NO_SESSION else session.hex(),
        epoch=epoch,
        sequence=sequence,
        captured_at=timestamp(time_us * 1000),
        clock=_CLOCKS[clock],
        age_ms=round(age_ms, 1),
        width=width,
        height=height,
        pixel_aspect=UNSET if aspect == 1 else round(aspect, 4),
        people=[_person(record, step) for record in np.frombuffer(payload, PERSON, count, HEADER.size)],
    )


def _person(record: np.void, step: int) -> PersonMessage:
    px = step / _STEPS_PER_PX
    points = record["keypoints"]
    left, top, width, height = (record["box"] * px).tolist()
    xy, confidences = (points["xy"] * px).tolist(), np.round(points["confidence"] / 255, 3).tolist()
    return PersonMessage(
        track=UNSET if record["track"] == NO_TRACK else int(record["track"]),
        score=round(int(record["score"]) / 255, 3),
        box=(left, top, width, height),
        keypoints=[(x, y, confidence) for (x, y), confidence in zip(xy, confidences, strict=True)],
    )


def _steps(px: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    steps: NDArray[np.float64] = np.clip(np.rint(px * (_STEPS_PER_PX / step)), -0x8000, 0x7FFF)
    return steps


def _bytes(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = np.rint(np.clip(shares, 0, 1) * 255)
    return levels


def _microseconds(time: str) -> int:
    return (datetime.fromisoformat(time.replace("Z", "+00:00")) - _EPOCH) // timedelta(microseconds=1)
