"""What leaves the device, as structs: the wire format, its JSON Schema and its AsyncAPI document are all read from here.

Positions are rounded to 0.1 pixel, scores and confidences to 0.001: finer than any network here resolves, and a person is then about
400 bytes of JSON. Times are RFC 3339, UTC, with microseconds, as strings in both encodings.
"""

from datetime import datetime, timezone
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edgepose.event import EventKind
from edgepose.frame import Clock

SCHEMA_VERSION = 1

_Time = Annotated[str, Meta(description="RFC 3339, UTC, microseconds", extra_json_schema={"format": "date-time"})]
_Score = Annotated[float, Meta(ge=0, le=1)]
_Count = Annotated[int, Meta(ge=0)]
_Keypoint = tuple[float, float, _Score]


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all messages; `schema` counts incompatible changes."""

    schema: Annotated[Literal[1], Meta(description="version of this message's format")] = 1


class PersonMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One person in one frame."""

    track: (
        Annotated[int, Meta(description="number that stays with the same person; absent while a person is not (yet) tracked")] | UnsetType
    ) = UNSET
    score: Annotated[_Score, Meta(description="how certain it is that this is a person")]
    box: Annotated[tuple[float, float, float, float], Meta(description="left, top, width, height in source pixels")]
    keypoints: Annotated[
        list[_Keypoint], Meta(min_length=17, max_length=17, description="x, y in source pixels and confidence 0 to 1, in COCO order")
    ]


class PosesMessage(_Message, frozen=True, kw_only=True):
    """The people in one frame of one camera; `people` is empty where nobody is seen, and no message means no video."""

    camera: Annotated[str, Meta(description="name of the camera")]
    sequence: Annotated[_Count, Meta(description="number of the frame since the stream was opened; a gap means frames not looked at")]
    captured_at: Annotated[_Time, Meta(description="when the picture was taken, as well as `clock` knows")]
    clock: Annotated[
        Clock, Meta(description="where that time comes from: the camera's own clock, the stream's time-stamps, or arrival at the host")
    ]
    age_ms: Annotated[float, Meta(description="milliseconds from capture to the writing of this message")]
    width: Annotated[int, Meta(ge=1, description="width of the source picture in pixels")]
    height: Annotated[int, Meta(ge=1, description="height of the source picture in pixels")]
    people: Annotated[list[PersonMessage], Meta(description="people, most certain first")]


class EventMessage(_Message, frozen=True, kw_only=True):
    """Something that a person did, said once."""

    id: Annotated[str, Meta(description="identifier of this event; the same when it arrives twice or is played again")]
    kind: Annotated[EventKind, Meta(description="what happened")]
    camera: Annotated[str, Meta(description="name of the camera")]
    epoch: Annotated[_Count, Meta(description="as in the camera's status; track numbers of other epochs are other people's")]
    sequence: Annotated[_Count, Meta(description="number of the frame that completed the evidence, as in the poses")]
    track: Annotated[int, Meta(description="number of the person, as in the poses of that frame or before")]
    at: Annotated[_Time, Meta(description="when the evidence was complete: `captured_at` of that frame")]
    since: Annotated[_Time, Meta(description="when the evidence began")]
    clock: Annotated[Clock, Meta(description="where both times come from, as in the poses")]
    score: Annotated[_Score, Meta(description="how clearly the evidence spoke for it")]
    width: Annotated[int, Meta(ge=1, description="width of the source picture in pixels")]
    height: Annotated[int, Meta(ge=1, description="height of the source picture in pixels")]
    box: Annotated[
        tuple[float, float, float, float], Meta(description="where the person was seen last: left, top, width, height in pixels")
    ]
    zone: Annotated[str, Meta(description="name of the zone, of `zone_entered` and `zone_left`")] | UnsetType = UNSET
    evidence: Annotated[dict[str, float], Meta(description="what was measured, by name with its unit")]


class StatusMessage(_Message, frozen=True, kw_only=True):
    """Whether the device is there."""

    state: Annotated[
        Literal["online", "stopped", "offline"],
        Meta(description="`stopped` is said on the way out, `offline` by the broker when the device vanished"),
    ]
    reason: Annotated[str, Meta(description="one sentence for people")]
    session: Annotated[str, Meta(description="identifier of this run of the daemon; an `offline` of another session is no news")]
    at: Annotated[_Time, Meta(description="when the message was written; for `offline` when the vanished connection was made")]


class ModelMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The network in use."""

    name: Annotated[str, Meta(description="file name")]
    sha256: Annotated[str, Meta(description="hash of the file, hexadecimal")]
    precision: Annotated[str, Meta(description="`int8` or `float32`")] = ""
    input_size: Annotated[_Count, Meta(description="long side of the network's input in pixels")] = 0
    license: Annotated[str, Meta(description="licence of the weights")] = ""


class BackendMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the network runs."""

    name: Annotated[str, Meta(description="such as `onnxruntime-cpu`")]
    device: Annotated[str, Meta(description="the processor or accelerator")]
    precision: Annotated[str, Meta(description="what it computes in")]
    reason: Annotated[str, Meta(description="why this backend and not another")]


class RefinerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The second network, which looks again at people."""

    name: Annotated[str, Meta(description="file name")]
    sha256: Annotated[str, Meta(description="hash of the file, hexadecimal")]
    precision: Annotated[str, Meta(description="`int8` or `float32`")]
    input_size: Annotated[_Count, Meta(description="side of a crop in pixels")]
    license: Annotated[str, Meta(description="licence of the weights")]
    backend: Annotated[BackendMessage, Meta(description="where it runs")]
    people: Annotated[_Count, Meta(description="most people a frame that are looked at again")]
    budget_ms: Annotated[float, Meta(description="milliseconds a frame that this may take on average; 0 is no limit")]


class CameraMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One configured camera."""

    name: Annotated[str, Meta(description="as in topics")]
    source: Annotated[str, Meta(description="address without credentials")]


class InfoMessage(_Message, frozen=True, kw_only=True):
    """What runs on the device."""

    device: Annotated[str, Meta(description="name of the device")]
    session: Annotated[str, Meta(description="as in the status message")] = ""
    started_at: Annotated[_Time, Meta(description="when the daemon started")]
    versions: Annotated[dict[str, str], Meta(description="`edgepose`, `python` and the libraries that matter, by name")]
    model: Annotated[ModelMessage, Meta(description="the network")]
    backend: Annotated[BackendMessage, Meta(description="where it runs")]
    refiner: Annotated[RefinerMessage, Meta(description="the second network; absent where nobody is looked at again")] | UnsetType = UNSET
    cameras: Annotated[list[CameraMessage], Meta(description="configured cameras")]


class QuantilesMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution over the last interval, in milliseconds."""

    p50: Annotated[float, Meta(description="median")]
    p95: Annotated[float, Meta(description="95th percentile")]
    p99: Annotated[float, Meta(description="99th percentile")]
    maximum: Annotated[float, Meta(description="largest")]


Diagnosis = Literal["person", "no_person", "no_video", "frozen", "too_dark", "blurred", "paused", "warming_up", "not_processed"]
"""What explains that there are poses or none."""


class CameraHealthMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One camera's part of a health message."""

    state: Annotated[str, Meta(description="as in the camera's status message")]
    diagnosis: Annotated[Diagnosis, Meta(description="what explains that there are poses or none")]
    frames: Annotated[_Count, Meta(description="frames looked at since the daemon started")]
    frames_per_second: Annotated[float, Meta(description="over the last interval")]
    drops: Annotated[dict[str, int], Meta(description="frames not looked at since the daemon started, by cause")]
    reconnects: Annotated[_Count, Meta(description="times that the stream came back since the daemon started")]
    age_ms: Annotated[QuantilesMessage, Meta(description="capture to message; absent without frames")] | UnsetType = UNSET


class RefineHealthMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Second looks at people; counters count from the start of the daemon."""

    refined: Annotated[_Count, Meta(description="people looked at again")]
    accepted: Annotated[_Count, Meta(description="of these, people whose second pose agreed with the first and was taken")]
    disagreed: Annotated[_Count, Meta(description="of these, people who kept their first pose")]
    dismissed: Annotated[_Count, Meta(description="people not published since they are probably nobody after the second look")]
    skipped: Annotated[_Count, Meta(description="people whom the budget left out")]
    failed: Annotated[dict[str, int], Meta(description="people whose turn it was in vain, by cause")]
    cost_ms: Annotated[float, Meta(description="milliseconds that looking at one person takes now")]


class HealthMessage(_Message, frozen=True, kw_only=True):
    """How the device fares."""

    at: Annotated[_Time, Meta(description="when the message was written")]
    uptime_s: Annotated[float, Meta(description="seconds since the daemon started")]
    cameras: Annotated[dict[str, CameraHealthMessage], Meta(description="by name")]
    stages_ms: Annotated[dict[str, QuantilesMessage], Meta(description="time a frame spends in each stage, by name of the stage")]
    restarts: Annotated[dict[str, int], Meta(description="times that a stage died or hung and was begun again, by its name")]
    refine: Annotated[RefineHealthMessage, Meta(description="second looks; absent where nobody is looked at again")] | UnsetType = UNSET
    messages: Annotated[_Count, Meta(description="messages handed to the broker since the daemon started")]
    message_drops: Annotated[dict[str, int], Meta(description="messages not handed to the broker since the daemon started, by cause")]
    black_box_drops: (
        Annotated[dict[str, int], Meta(description="records that the black box did not keep, by cause; absent where there is none")]
        | UnsetType
    ) = UNSET
    commands_ignored: (
        Annotated[dict[str, int], Meta(description="commands that were not even looked at, by cause; absent where none are heard")]
        | UnsetType
    ) = UNSET
    broker_reconnects: Annotated[_Count, Meta(description="times that the broker came back since the daemon started")]
    events_waiting: Annotated[_Count, Meta(description="events that the broker does not have yet")]
    duplicate_session: (
        Annotated[str, Meta(description="session of another daemon that publishes under this name; absent where there is none")] | UnsetType
    ) = UNSET
    reload_refused: (
        Annotated[str, Meta(description="why the newest configuration is not in use, one sentence; absent where it is")] | UnsetType
    ) = UNSET
    degraded: Annotated[list[str], Meta(description="what works less well than it should; empty when all is well")]
    memory_mb: Annotated[float, Meta(description="resident memory of the daemon in MiB")]
    temperatures_c: Annotated[dict[str, float], Meta(description="degrees Celsius by sensor; empty where the device has none")] = {}
    throttled: (
        Annotated[bool, Meta(description="whether the processor is slowed down by heat or supply; absent where unknown")] | UnsetType
    ) = UNSET


class CameraStatusMessage(_Message, frozen=True, kw_only=True):
    """What one camera does."""

    camera: Annotated[str, Meta(description="name of the camera")]
    state: Annotated[
        Literal["connecting", "streaming", "stalled", "failed", "paused"], Meta(description="`connecting` until the first frame")
    ]
    cause: Annotated[str, Meta(description="stable name for machines, such as `refused`; absent when all is well")] | UnsetType = UNSET
    detail: Annotated[str, Meta(description="one sentence for people; absent when all is well")] | UnsetType = UNSET
    epoch: Annotated[_Count, Meta(description="times the stream was opened before; track numbers start anew when it changes")]
    width: Annotated[int, Meta(description="source pixels; absent before the first frame")] | UnsetType = UNSET
    height: Annotated[int, Meta(description="source pixels; absent before the first frame")] | UnsetType = UNSET
    at: Annotated[_Time, Meta(description="when the message was written")]


class SnapshotMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A picture."""

    camera: Annotated[str, Meta(description="name of the camera")]
    captured_at: Annotated[_Time, Meta(description="when it was taken")]
    width: Annotated[int, Meta(ge=1, description="pixels")]
    height: Annotated[int, Meta(ge=1, description="pixels")]
    jpeg: Annotated[bytes, Meta(description="the file; Base64 in JSON")]


class CommandReplyMessage(_Message, frozen=True, kw_only=True):
    """What became of a command."""

    command: Annotated[str, Meta(description="its name")]
    status: Annotated[Literal["ok", "refused"], Meta(description="whether it was obeyed")]
    reason: Annotated[str, Meta(description="one sentence: why it was refused; absent when it was obeyed")] | UnsetType = UNSET
    changes: Annotated[list[str], Meta(description="what a reload changed, a few words each; absent otherwise")] | UnsetType = UNSET
    snapshot: Annotated[SnapshotMessage, Meta(description="the picture that was asked for")] | UnsetType = UNSET
    recording: Annotated[str, Meta(description="folder on the device of the recording that was asked for")] | UnsetType = UNSET
    at: Annotated[_Time, Meta(description="when the reply was written")]


Message = PosesMessage | EventMessage | StatusMessage | InfoMessage | HealthMessage | CameraStatusMessage | CommandReplyMessage

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


def encode(message: Message, encoding: Literal["json", "msgpack"] = "json") -> bytes:
    """One message as it goes over the wire: JSON without spaces or line breaks, or MessagePack with the same keys."""
    return _json.encode(message) if encoding == "json" else _msgpack.encode(message)


def timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC with microseconds of nanoseconds since the Unix epoch: `2026-11-22T10:00:00.000000Z`."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"
