"""The messages that the device publishes, as structs. The wire format, its JSON Schema and its AsyncAPI document all derive from them.

Positions are rounded to 0.1 pixel, scores and confidences to 0.001. That is finer than any network here resolves, and it keeps a person
at about 400 bytes of JSON. Times are RFC 3339 in UTC with microseconds, as strings in both encodings.
"""

from datetime import datetime, timezone
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edgepose.event import Direction, EventKind
from edgepose.frame import Clock
from edgepose.messages.flight_structs import AircraftMessage, FlightHealthMessage, GroundMessage, HeatHealthMessage

SCHEMA_VERSION = 1

_Time = Annotated[str, Meta(description="RFC 3339 time in UTC with microseconds", extra_json_schema={"format": "date-time"})]
_Score = Annotated[float, Meta(ge=0, le=1)]
_Count = Annotated[int, Meta(ge=0)]
_Keypoint = tuple[float, float, _Score]


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all messages. `schema` increases with each incompatible change."""

    schema: Annotated[Literal[1], Meta(description="version of the message format")] = 1


class PersonMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A person in one frame."""

    track: (
        Annotated[
            int,
            Meta(description="track number, which stays the same for a person from frame to frame; absent while the person is not tracked"),
        ]
        | UnsetType
    ) = UNSET
    score: Annotated[_Score, Meta(description="how likely it is that this is a person")]
    box: Annotated[tuple[float, float, float, float], Meta(description="left, top, width and height in source pixels")]
    keypoints: Annotated[
        list[_Keypoint],
        Meta(min_length=17, max_length=17, description="x and y in source pixels and confidence from 0 to 1, in COCO order"),
    ]
    ground: (
        Annotated[GroundMessage, Meta(description="place on the ground; absent without telemetry, and near the horizon")] | UnsetType
    ) = UNSET


class PosesMessage(_Message, frozen=True, kw_only=True):
    """The people in one frame of one camera. An empty `people` means that no person was found; no message means no video."""

    camera: Annotated[str, Meta(description="name of the camera")]
    session: (
        Annotated[str, Meta(description="session that published the message, as in the status message; absent in files")] | UnsetType
    ) = UNSET
    epoch: Annotated[_Count, Meta(description="epoch of the stream, as in the camera's status; `sequence` and `track` restart with it")] = 0
    sequence: Annotated[
        _Count, Meta(description="number of the frame since the stream was opened; a gap means that frames were not processed")
    ]
    captured_at: Annotated[_Time, Meta(description="when the frame was captured, as exactly as `clock` allows")]
    clock: Annotated[
        Clock,
        Meta(description="source of `captured_at`: the camera's clock (`rtcp`), the stream's timestamps (`stream`) or arrival (`host`)"),
    ]
    age_ms: Annotated[float, Meta(description="milliseconds from capture until this message was written")]
    width: Annotated[int, Meta(ge=1, description="width of the source frame in pixels, upright")]
    height: Annotated[int, Meta(ge=1, description="height of the source frame in pixels, upright")]
    pixel_aspect: (
        Annotated[
            float,
            Meta(
                gt=0,
                description="width of a stored pixel divided by its height; absent where it is 1. Positions, `width` and `height` are in"
                " square pixels, as players show the frame: divide x and `width` by this for stored pixels",
            ),
        ]
        | UnsetType
    ) = UNSET
    aircraft: Annotated[AircraftMessage, Meta(description="what carries the camera; absent for a camera without a mount")] | UnsetType = (
        UNSET
    )
    people: Annotated[list[PersonMessage], Meta(description="people by falling score")]


class EventMessage(_Message, frozen=True, kw_only=True):
    """An action of a person, reported once."""

    id: Annotated[str, Meta(description="identifier of the event; a repeated delivery and a replay carry the same one")]
    kind: Annotated[EventKind, Meta(description="what happened")]
    camera: Annotated[str, Meta(description="name of the camera")]
    epoch: Annotated[
        _Count,
        Meta(description="epoch of the stream, as in the camera's status; track numbers of different epochs belong to different people"),
    ]
    sequence: Annotated[_Count, Meta(description="number of the frame that completed the evidence, as in the poses message")]
    track: Annotated[int, Meta(description="track number of the person, as in the poses message of that frame or an earlier one")]
    at: Annotated[_Time, Meta(description="when the evidence was complete: `captured_at` of that frame")]
    since: Annotated[_Time, Meta(description="when the evidence began")]
    clock: Annotated[Clock, Meta(description="source of `at` and `since`, as in the poses message")]
    score: Annotated[_Score, Meta(description="strength of the evidence: 0.5 is just enough, 1 leaves no doubt")]
    width: Annotated[int, Meta(ge=1, description="width of the source frame in pixels")]
    height: Annotated[int, Meta(ge=1, description="height of the source frame in pixels")]
    box: Annotated[
        tuple[float, float, float, float], Meta(description="last box of the person: left, top, width and height in source pixels")
    ]
    zone: Annotated[str, Meta(description="name of the zone; present for `zone_entered`, `zone_left` and `loitering` only")] | UnsetType = (
        UNSET
    )
    line: Annotated[str, Meta(description="name of the line; present for `line_crossed` only")] | UnsetType = UNSET
    direction: (
        Annotated[Direction, Meta(description="side of the line on which the person ends, seen from its first point towards its second")]
        | UnsetType
    ) = UNSET
    ground: (
        Annotated[GroundMessage, Meta(description="last place of the person on the ground; absent where it is not known")] | UnsetType
    ) = UNSET
    evidence: Annotated[dict[str, float], Meta(description="measured quantities by name; each name carries its unit")]


class OccupancyMessage(_Message, frozen=True, kw_only=True):
    """How many people a camera sees, published when the number changes."""

    camera: Annotated[str, Meta(description="name of the camera")]
    count: Annotated[_Count, Meta(description="people who have entered and have not left")]
    occupied: Annotated[bool, Meta(description="whether `count` is above 0")]
    entered: Annotated[_Count, Meta(description="people who have entered since the daemon started")]
    left: Annotated[_Count, Meta(description="people who have left since the daemon started")]
    at: Annotated[
        _Time, Meta(description="capture time of the frame that changed the number; before the first, when the message was written")
    ]


class ZoneOccupancyMessage(OccupancyMessage, frozen=True, kw_only=True):
    """How many people are in a zone, published when the number changes."""

    zone: Annotated[str, Meta(description="name of the zone")]


class StatusMessage(_Message, frozen=True, kw_only=True):
    """The connection state of the device."""

    state: Annotated[
        Literal["online", "stopped", "offline"],
        Meta(description="the daemon sends `online`, and `stopped` at shutdown; the broker sends `offline` when the connection is lost"),
    ]
    reason: Annotated[str, Meta(description="explanation in one sentence, for people")]
    session: Annotated[str, Meta(description="identifier of this run of the daemon; ignore an `offline` of another session")]
    at: Annotated[_Time, Meta(description="when the message was written; for `offline`, when the lost connection was opened")]
    building_engine: (
        Annotated[
            int, Meta(ge=0, le=100, description="percent of the engine that is being built while another backend runs; absent when none is")
        ]
        | UnsetType
    ) = UNSET


class ModelMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The pose network in use."""

    name: Annotated[str, Meta(description="file name")]
    sha256: Annotated[str, Meta(description="SHA-256 hash of the file, hexadecimal")]
    precision: Annotated[str, Meta(description="numeric precision of the file: `int8`, `float16` or `float32`")] = ""
    input_size: Annotated[_Count, Meta(description="long side of the network's input in pixels")] = 0
    license: Annotated[str, Meta(description="license of the weights")] = ""


class BackendMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The inference backend of a network."""

    name: Annotated[str, Meta(description="name of the backend, such as `onnxruntime-cpu`")]
    device: Annotated[str, Meta(description="processor or accelerator")]
    precision: Annotated[str, Meta(description="numeric precision of the computation")]
    reason: Annotated[str, Meta(description="why this backend was chosen")]
    images_sent_to: Annotated[str, Meta(description="server to which images leave the device; absent when they stay on it")] | UnsetType = (
        UNSET
    )


class RefinerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The refiner: a second network that computes a person's pose again from a crop of the full-resolution frame."""

    name: Annotated[str, Meta(description="file name")]
    sha256: Annotated[str, Meta(description="SHA-256 hash of the file, hexadecimal")]
    precision: Annotated[str, Meta(description="numeric precision of the file: `int8`, `float16` or `float32`")]
    input_size: Annotated[_Count, Meta(description="long side of a crop in pixels")]
    license: Annotated[str, Meta(description="license of the weights")]
    backend: Annotated[BackendMessage, Meta(description="inference backend")]
    people: Annotated[_Count, Meta(description="maximum number of people refined in a frame")]
    budget_ms: Annotated[
        float, Meta(description="milliseconds that refinement may take on average in a frame; 0 means as long as no live frame waits")
    ]


class PosesInfoMessage(msgspec.Struct, frozen=True, kw_only=True):
    """How poses are published."""

    encoding: Annotated[Literal["json", "msgpack", "compact"], Meta(description="encoding of the pose messages")]
    rate_hz: Annotated[float, Meta(description="maximum number of messages a second of a camera; absent without a limit")] | UnsetType = (
        UNSET
    )
    only_changes: Annotated[bool, Meta(description="whether frames are left out whose people are where the last message shows them")]


class PrivacyInfoMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What messages and files tell of people."""

    profile: Annotated[
        Literal["minimal", "standard", "full"],
        Meta(description="what poses say about a person: everything, no keypoints, or only that there is one; the rest is 0"),
    ]
    pixels: Annotated[Literal["never", "blurred", "allowed"], Meta(description="images that may leave the process")]


class CameraMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A configured camera."""

    name: Annotated[str, Meta(description="name of the camera, as in topics")]
    source: Annotated[str, Meta(description="address of the stream, without credentials")]


class InfoMessage(_Message, frozen=True, kw_only=True):
    """The software, networks and cameras of the device."""

    device: Annotated[str, Meta(description="name of the device")]
    session: Annotated[str, Meta(description="identifier of this run of the daemon, as in the status message")] = ""
    started_at: Annotated[_Time, Meta(description="when the daemon started")]
    versions: Annotated[dict[str, str], Meta(description="versions by name: `edgepose`, `python` and the main libraries")]
    model: Annotated[ModelMessage, Meta(description="pose network")]
    backend: Annotated[BackendMessage, Meta(description="inference backend")]
    refiner: Annotated[RefinerMessage, Meta(description="refiner; absent when refinement is off")] | UnsetType = UNSET
    poses: Annotated[PosesInfoMessage, Meta(description="how poses are published")] | UnsetType = UNSET
    privacy: Annotated[PrivacyInfoMessage, Meta(description="what messages and files tell of people")] | UnsetType = UNSET
    cameras: Annotated[list[CameraMessage], Meta(description="configured cameras")]


class QuantilesMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The distribution of a duration over the last health interval, in milliseconds."""

    p50: Annotated[float, Meta(description="median")]
    p95: Annotated[float, Meta(description="95th percentile")]
    p99: Annotated[float, Meta(description="99th percentile")]
    maximum: Annotated[float, Meta(description="maximum")]


Diagnosis = Literal["person", "no_person", "no_video", "frozen", "too_dark", "blurred", "paused", "warming_up", "not_processed"]
"""The reason why a camera's messages contain people or do not."""


class CameraHealthMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a health message about one camera."""

    state: Annotated[str, Meta(description="state of the camera, as in its status message")]
    diagnosis: Annotated[Diagnosis, Meta(description="why the camera's messages contain people or do not")]
    frames: Annotated[_Count, Meta(description="frames processed since the daemon started")]
    frames_per_second: Annotated[float, Meta(description="processed frames per second over the last health interval")]
    drops: Annotated[dict[str, int], Meta(description="frames not processed since the daemon started, by cause")]
    reconnects: Annotated[_Count, Meta(description="number of times that the stream was restored since the daemon started")]
    people_over_limit: (
        Annotated[
            _Count,
            Meta(description="people left out since the daemon started because a frame had more than the maximum; absent where none was"),
        ]
        | UnsetType
    ) = UNSET
    undecidable_from_above: (
        Annotated[
            dict[str, int],
            Meta(
                description="people seen from straight above since the daemon started, of whom events cannot be told, by kind of event;"
                " absent where there were none"
            ),
        ]
        | UnsetType
    ) = UNSET
    tiles_coverage: (
        Annotated[float, Meta(ge=0, le=1, description="share of the tiles visited within `tiles.period_s`; absent where there are none")]
        | UnsetType
    ) = UNSET
    tiles_oldest_s: (
        Annotated[float, Meta(description="seconds since the visit that is longest ago; absent until every tile was visited once")]
        | UnsetType
    ) = UNSET
    age_ms: Annotated[QuantilesMessage, Meta(description="time from capture to message; absent when there were no frames")] | UnsetType = (
        UNSET
    )


class RefineHealthMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The refinement of people. Counters start at 0 when the daemon starts."""

    refined: Annotated[_Count, Meta(description="people refined")]
    accepted: Annotated[_Count, Meta(description="refined people whose refined pose filled the box and replaced that of the pose network")]
    disagreed: Annotated[_Count, Meta(description="refined people who kept the pose of the pose network")]
    dismissed: Annotated[_Count, Meta(description="people not published because their score after refinement is too low")]
    doubles: Annotated[_Count, Meta(description="people not published because their refined pose is nearly that of another person")]
    skipped: Annotated[_Count, Meta(description="people not refined because the budget was used up or a frame waited")]
    failed: Annotated[dict[str, int], Meta(description="people whose refinement failed, by cause")]
    cost_ms: Annotated[float, Meta(description="current cost of refining one person in milliseconds")]


class WebhookHealthMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The webhook. Counters start at 0 when the daemon starts."""

    delivered: Annotated[_Count, Meta(description="events that the receiver accepted")]
    waiting: Annotated[_Count, Meta(description="events that the receiver has not accepted yet")]
    failures: Annotated[dict[str, int], Meta(description="requests that failed, by cause")]
    drops: Annotated[dict[str, int], Meta(description="events that never reached the receiver, by cause")]
    failure: Annotated[str, Meta(description="why the last request failed, in a few words; absent when it did not")] | UnsetType = UNSET


class HealthMessage(_Message, frozen=True, kw_only=True):
    """The health of the device, published periodically."""

    at: Annotated[_Time, Meta(description="when the message was written")]
    uptime_s: Annotated[float, Meta(description="seconds since the daemon started")]
    cameras: Annotated[dict[str, CameraHealthMessage], Meta(description="health of the cameras by name")]
    stages_ms: Annotated[dict[str, QuantilesMessage], Meta(description="time that a frame spends in each stage, by name of the stage")]
    restarts: Annotated[
        dict[str, int], Meta(description="number of times that a stage crashed or hung and was restarted, by name of the stage")
    ]
    model: Annotated[str, Meta(description="file name of the pose network in use")] = ""
    refiner: Annotated[str, Meta(description="file name of the refiner in use; absent when refinement is off")] | UnsetType = UNSET
    refine: Annotated[RefineHealthMessage, Meta(description="refinement; absent when it is off")] | UnsetType = UNSET
    backend: Annotated[str, Meta(description="name of the backend of the pose network, such as `onnxruntime-cpu`")] = ""
    backend_reason: (
        Annotated[str, Meta(description="why a better backend is not used, in one sentence; absent when the best one is used")] | UnsetType
    ) = UNSET
    building_engine: (
        Annotated[float, Meta(description="percent of the engine that is being built while another backend runs; absent when none is")]
        | UnsetType
    ) = UNSET
    messages: Annotated[_Count, Meta(description="messages delivered to the broker since the daemon started")]
    message_drops: Annotated[dict[str, int], Meta(description="messages not delivered to the broker since the daemon started, by cause")]
    black_box_drops: (
        Annotated[dict[str, int], Meta(description="records that the black box lost, by cause; absent when there is no black box")]
        | UnsetType
    ) = UNSET
    commands_ignored: (
        Annotated[dict[str, int], Meta(description="commands discarded without a reply, by cause; absent when commands are off")]
        | UnsetType
    ) = UNSET
    broker_reconnects: Annotated[
        _Count, Meta(description="number of times that the connection to the broker was restored since the daemon started")
    ]
    events_waiting: Annotated[_Count, Meta(description="events not yet delivered to the broker")]
    events_lost: (
        Annotated[
            str,
            Meta(
                description="number of events of earlier runs that a damaged event store no longer gives back, or `unknown`;"
                " absent when none are lost"
            ),
        ]
        | UnsetType
    ) = UNSET
    webhook: Annotated[WebhookHealthMessage, Meta(description="webhook; absent when no events are posted")] | UnsetType = UNSET
    heat: Annotated[HeatHealthMessage, Meta(description="the heat policy; absent while nothing is given up")] | UnsetType = UNSET
    flight: Annotated[FlightHealthMessage, Meta(description="telemetry of the aircraft; absent without")] | UnsetType = UNSET
    duplicate_session: (
        Annotated[str, Meta(description="session of another daemon that publishes under the same device name; absent when there is none")]
        | UnsetType
    ) = UNSET
    reload_refused: (
        Annotated[str, Meta(description="why the newest configuration is not in use, in one sentence; absent when it is in use")]
        | UnsetType
    ) = UNSET
    degraded: Annotated[list[str], Meta(description="current impairments; empty when there are none")]
    images_sent_to: (
        Annotated[list[str], Meta(description="servers to which images leave the device; absent when they stay on it")] | UnsetType
    ) = UNSET
    memory_mb: Annotated[float, Meta(description="resident memory of the daemon in MiB")]
    temperatures_c: Annotated[dict[str, float], Meta(description="degrees Celsius by sensor; empty when the device has no sensors")] = {}
    throttled: (
        Annotated[bool, Meta(description="whether heat or undervoltage slows the processor down; absent when unknown")] | UnsetType
    ) = UNSET
    gpu_load: (
        Annotated[float, Meta(ge=0, le=1, description="share of its time that the GPU works; absent where the kernel does not report it")]
        | UnsetType
    ) = UNSET
    power_w: (
        Annotated[dict[str, float], Meta(description="watts by supply rail; absent on devices without a power monitor")] | UnsetType
    ) = UNSET


class CameraStatusMessage(_Message, frozen=True, kw_only=True):
    """The state of one camera."""

    camera: Annotated[str, Meta(description="name of the camera")]
    state: Annotated[
        Literal["connecting", "streaming", "stalled", "failed", "paused"],
        Meta(description="state of the camera; `connecting` until the first frame"),
    ]
    cause: Annotated[str, Meta(description="machine-readable cause, such as `refused`; absent when there is no problem")] | UnsetType = (
        UNSET
    )
    detail: Annotated[str, Meta(description="explanation in one sentence, for people; absent when there is no problem")] | UnsetType = UNSET
    epoch: Annotated[_Count, Meta(description="number of times that the stream was opened before; tracking starts over when it changes")]
    width: Annotated[int, Meta(description="width of the source frame in pixels; absent before the first frame")] | UnsetType = UNSET
    height: Annotated[int, Meta(description="height of the source frame in pixels; absent before the first frame")] | UnsetType = UNSET
    at: Annotated[_Time, Meta(description="when the message was written")]


class SnapshotMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A frame as a JPEG image."""

    camera: Annotated[str, Meta(description="name of the camera")]
    captured_at: Annotated[_Time, Meta(description="when the frame was captured")]
    width: Annotated[int, Meta(ge=1, description="width of the image in pixels")]
    height: Annotated[int, Meta(ge=1, description="height of the image in pixels")]
    jpeg: Annotated[bytes, Meta(description="JPEG file; Base64-encoded in JSON")]


class CommandReplyMessage(_Message, frozen=True, kw_only=True):
    """The result of a command."""

    command: Annotated[str, Meta(description="name of the command")]
    status: Annotated[Literal["ok", "refused"], Meta(description="whether the command was carried out")]
    reason: Annotated[str, Meta(description="why the command was refused, in one sentence; absent when it was carried out")] | UnsetType = (
        UNSET
    )
    changes: Annotated[list[str], Meta(description="changes made by a reload, a few words each; absent for other commands")] | UnsetType = (
        UNSET
    )
    snapshot: Annotated[SnapshotMessage, Meta(description="requested snapshot")] | UnsetType = UNSET
    recording: Annotated[str, Meta(description="folder on the device that holds the requested recording")] | UnsetType = UNSET
    at: Annotated[_Time, Meta(description="when the reply was written")]


class BundleMessage(_Message, frozen=True, kw_only=True):
    """The bundle in use, and what became of the newest one."""

    state: Annotated[
        Literal["none", "received", "fetching", "checking", "trying", "active", "refused", "rolled_back"],
        Meta(description="what became of the newest bundle; `none` before the first"),
    ]
    number: Annotated[_Count, Meta(description="number of the newest bundle; absent where it is not known")] | UnsetType = UNSET
    percent: (
        Annotated[int, Meta(ge=0, le=100, description="percent of the bytes of its files that are fetched; absent in other states")]
        | UnsetType
    ) = UNSET
    reason: (
        Annotated[str, Meta(description="why it was refused or rolled back, or an attempt to fetch failed, in one sentence")] | UnsetType
    ) = UNSET
    active: (
        Annotated[_Count, Meta(description="number of the bundle in use; absent where the configuration of the device alone is used")]
        | UnsetType
    ) = UNSET
    key: Annotated[str, Meta(description="identifier of the key that signed the newest bundle; absent where none did")] | UnsetType = UNSET
    at: Annotated[_Time, Meta(description="when the message was written")]


Message = (
    PosesMessage
    | EventMessage
    | OccupancyMessage
    | StatusMessage
    | InfoMessage
    | HealthMessage
    | CameraStatusMessage
    | CommandReplyMessage
    | BundleMessage
)

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


def encode(message: Message, encoding: Literal["json", "msgpack"] = "json") -> bytes:
    """Return a message in its wire format: JSON without spaces or line breaks, or MessagePack with the same keys."""
    return _json.encode(message) if encoding == "json" else _msgpack.encode(message)


def timestamp(time_ns: int) -> str:
    """Return nanoseconds since the Unix epoch as RFC 3339 in UTC with microseconds: `2026-11-22T10:00:00.000000Z`."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"
