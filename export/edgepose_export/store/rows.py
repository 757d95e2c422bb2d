"""From messages as they arrived to rows of two tables, poses and events. Nothing of a message is trusted: neither topic nor numbers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from edgepose.errors import OutputError
from edgepose.messages.live_table import decode_poses
from edgepose.messages.structs import SCHEMA_VERSION, EventMessage, PersonMessage, PosesMessage
from edgepose.printable import printable
from edgepose.storage.records import Damage
from edgepose_export.store.counts import DropCause, StoreCounts
from edgepose_export.store.forgotten import Forgotten
from edgepose_export.store.journal import Received

OLDEST_DAYS = 366
"""Age of the oldest message that is kept: an older one comes from a clock that is wrong."""

PEOPLE_LIMIT = 1000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SESSION = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_TEXT_LIMIT = 128
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_US = timedelta(microseconds=1)
DAY_US = 86_400_000_000
_INT64, _INT32 = 2**63, 2**31
_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class PosesRows:
    """Pose messages, a row each, in columns of one length.

    Attributes:
        keys: device, session, camera, epoch, sequence.
        captured_us, received_us: microseconds since the Unix epoch (UTC).
        counts: number of people of each message.
        tracks, scores, boxes, keypoints: of all people, in order: (P,) with None where there is no track, (P,), (P, 4), (P, 17, 3).
    """

    keys: list[tuple[str, str, str, int, int]] = field(default_factory=list)
    captured_us: list[int] = field(default_factory=list)
    received_us: list[int] = field(default_factory=list)
    clocks: list[str] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    pixel_aspects: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    tracks: list[int | None] = field(default_factory=list)
    scores: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))
    keypoints: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 17, 3), np.float32))

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(slots=True)
class EventRows:
    """Events, a row each, in columns of one length.

    Attributes:
        keys: device and identifier of the event.
        messages: as received.
        at_us, since_us, received_us: microseconds since the Unix epoch (UTC).
    """

    keys: list[tuple[str, str]] = field(default_factory=list)
    messages: list[EventMessage] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)
    since_us: list[int] = field(default_factory=list)
    received_us: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)


class _Refused(Exception):  # noqa: N818 (a message that is not kept, for the caller in this module)
    def __init__(self, cause: DropCause, detail: str = "") -> None:
        super().__init__(cause)
        self.cause: DropCause = cause
        self.detail = detail


class Rows:
    """Rows of both tables, made from messages.

    Args:
        prefix: of topics.
        counts: of what is not kept.
        retain_days: age of the oldest message that is kept, days; None for `OLDEST_DAYS`.
        forgotten: what is not kept any more.
    """

    def __init__(self, prefix: str, counts: StoreCounts, retain_days: int | None = None, forgotten: Forgotten | None = None) -> None:
        self.poses = PosesRows()
        self.events = EventRows()
        self._prefix = prefix.strip("/").encode() + b"/"
        self._counts = counts
        self._retain_us = None if retain_days is None else retain_days * DAY_US
        self._forgotten = forgotten
        self._people: list[PersonMessage] = []

    def add(self, messages: Iterable[Received | Damage]) -> None:
        """Add messages; those that cannot be kept are counted by cause."""
        for message in messages:
            if isinstance(message, Damage):
                self._counts.drop("damaged")
                continue
            try:
                self._add(message)
            except _Refused as error:
                self._counts.drop(error.cause, error.detail)
        self._finish()

    def _add(self, message: Received) -> None:
        device, camera, kind = self._address(message.topic)
        try:
            if kind == "poses":
                self._add_poses(device, camera, decode_poses(message.payload, camera), message.at_us)
            else:
                decode = msgspec.json.decode if message.payload[:1] == b"{" else msgspec.msgpack.decode
                self._add_event(device, camera, decode(message.payload, type=EventMessage), message.at_us)
        except (msgspec.MsgspecError, OutputError, ValueError, OverflowError, RecursionError) as error:
            version = _schema(message.payload)
            if version != SCHEMA_VERSION and version is not None:
                raise _Refused("schema", f"device {device}, version {printable(str(version), 20)}") from error
            raise _Refused("malformed", f"device {device}, camera {camera}, {kind}: {printable(str(error), 120)}") from error

    def _address(self, topic: bytes) -> tuple[str, str, str]:
        try:
            levels = topic.removeprefix(self._prefix).decode().split("/") if topic.startswith(self._prefix) else []
        except UnicodeDecodeError:
            levels = []
        if len(levels) != 4 or levels[1] != "cameras" or levels[3] not in ("poses", "events"):
            raise _Refused("topic", printable(topic[:80].decode("utf-8", "replace"), 80))
        device, _, camera, kind = levels
        if not _NAME.fullmatch(device):
            raise _Refused("device_name", repr(printable(device, 80)))
        if not _NAME.fullmatch(camera):
            raise _Refused("camera_name", f"device {device}, camera {printable(camera, 80)!r}")
        return device, camera, kind

    def _add_poses(self, device: str, camera: str, message: PosesMessage, at_us: int) -> None:
        session = "" if message.session is UNSET else message.session
        if message.camera != camera:
            raise _Refused("camera_name", f"device {device}: the topic names {camera}, the message {printable(message.camera, 80)!r}")
        if not _SESSION.fullmatch(session):
            raise _Refused("malformed", f"device {device}, session {printable(session, 40)!r}")
        if len(message.people) > PEOPLE_LIMIT:
            raise _Refused("too_many_people", f"device {device}, {len(message.people)} people")
        _within(_INT64, device, message.epoch, message.sequence, *(one.track for one in message.people if one.track is not UNSET))
        _within(_INT32, device, message.width, message.height)
        aspect = 1.0 if message.pixel_aspect is UNSET else message.pixel_aspect
        _finite(device, message.age_ms, aspect)
        captured_us = self._time(message.captured_at, at_us, device, camera)
        rows = self.poses
        rows.keys.append((device, session, camera, message.epoch, message.sequence))
        rows.captured_us.append(captured_us)
        rows.received_us.append(at_us)
        rows.clocks.append(message.clock)
        rows.age_ms.append(message.age_ms)
        rows.widths.append(message.width)
        rows.heights.append(message.height)
        rows.pixel_aspects.append(aspect)
        rows.counts.append(len(message.people))
        self._people += message.people

    def _add_event(self, device: str, camera: str, message: EventMessage, at_us: int) -> None:
        if message.camera != camera:
            raise _Refused("camera_name", f"device {device}: the topic names {camera}, the message {printable(message.camera, 80)!r}")
        texts = [message.id, *(text for text in (message.zone, message.line) if text is not UNSET), *message.evidence]
        if any(len(text) > _TEXT_LIMIT or not text.isprintable() for text in texts) or len(message.evidence) > _TEXT_LIMIT:
            raise _Refused("malformed", f"device {device}: an event with long or unprintable texts")
        _within(_INT64, device, message.epoch, message.sequence, message.track)
        _within(_INT32, device, message.width, message.height)
        _finite(device, message.score, *message.box, *message.evidence.values())
        at = self._time(message.at, at_us, device, camera)
        since = self._time(message.since, at_us, device, camera, keep_old=True)
        rows = self.events
        rows.keys.append((device, message.id))
        rows.messages.append(message)
        rows.at_us.append(at)
        rows.since_us.append(since)
        rows.received_us.append(at_us)

    def _time(self, text: str, at_us: int, device: str, camera: str, *, keep_old: bool = False) -> int:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if time.tzinfo is None:
            raise _Refused("time", f"device {device}: {printable(text, 40)} has no zone")
        time_us = (time - _EPOCH) // _US
        if not at_us - OLDEST_DAYS * DAY_US <= time_us <= at_us + DAY_US:
            raise _Refused("time", f"device {device}: {printable(text, 40)}")
        if keep_old:
            return time_us
        if self._retain_us is not None and time_us < at_us - self._retain_us:
            raise _Refused("expired")
        if self._forgotten is not None and self._forgotten.covers(device, camera, time_us):
            raise _Refused("forgotten")
        return time_us

    def _finish(self) -> None:
        """Turn the people that were added into arrays, and drop messages with numbers that are not finite."""
        people, rows = self._people, self.poses
        if not people:
            return
        scores = np.array([person.score for person in people], np.float64)
        boxes = np.array([person.box for person in people], np.float64)
        keypoints = np.array([person.keypoints for person in people], np.float64).reshape(-1, 17, 3)
        good = np.isfinite(scores)
        for values in (boxes, keypoints.reshape(-1, 51)):
            good &= (np.abs(values) <= _FLOAT32).all(axis=1)  # False for NaN, too
        rows.tracks = [None if person.track is UNSET else person.track for person in people]
        rows.scores, rows.boxes, rows.keypoints = (values.astype(np.float32) for values in (scores, boxes, keypoints))
        if not good.all():
            of_message = np.repeat(np.arange(len(rows)), rows.counts)
            bad = set(of_message[~good].tolist())
            for number in bad:
                self._counts.drop("not_finite", f"device {rows.keys[number][0]}")
            self.poses = selected(rows, [number for number in range(len(rows)) if number not in bad])
        self._people = []


def selected(rows: PosesRows, numbers: list[int]) -> PosesRows:
    """Return some rows, in the order of their numbers."""
    ends = np.cumsum(rows.counts)
    people = [person for number in numbers for person in range(int(ends[number]) - rows.counts[number], int(ends[number]))]
    index = np.array(people, np.int64)
    columns: dict[str, Any] = {
        name: [values[number] for number in numbers]
        for name in ("keys", "captured_us", "received_us", "clocks", "age_ms", "widths", "heights", "pixel_aspects", "counts")
        if (values := getattr(rows, name)) is not None
    }
    return PosesRows(
        **columns,
        tracks=[rows.tracks[person] for person in people],
        scores=rows.scores[index],
        boxes=rows.boxes[index],
        keypoints=rows.keypoints[index],
    )


def _within(limit: int, device: str, *values: int) -> None:
    for value in values:
        if not -limit <= value < limit:
            raise _Refused("number", f"device {device}: {value}")


def _finite(device: str, *values: float) -> None:
    for value in values:
        if not abs(value) <= _FLOAT32:
            raise _Refused("not_finite", f"device {device}: {value}")


def _schema(payload: bytes) -> object:
    """Return the version that a message names, None where it names none."""
    decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
    try:
        found = decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found.get("schema") if isinstance(found, dict) else None
