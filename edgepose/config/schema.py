"""The configuration of the daemon as one tree of structs.

Values come from the defaults here, a YAML file, the environment (`EDGEPOSE__MQTT__HOST=…`) and `--set mqtt.host=…`; later ones win.
`load.py` merges them and refuses unknown keys and invalid values. The descriptions are the text of `docs/configuration.md`.
"""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from edgepose.event import EventKind


class FileMark(NamedTuple):
    """The mark of a key that names a file or folder.

    Attributes:
        role: `read` or `write` (a file), `folder` (a folder that is written to), `model` (a shipped model or a file that is read) or
            `source` (a URL, a pipeline, or a file or folder that is read).
        content: what the file holds, for error messages; `<name>` stands for the name of the camera.
    """

    role: Literal["read", "write", "folder", "model", "source"]
    content: str


def _file(role: Literal["read", "write", "folder", "model", "source"], content: str) -> dict[str, Any]:
    """Return the `extra` of a key that names a file; `edgepose.config.reference` reads it."""
    return {"file": FileMark(role, content)}


Seconds = Annotated[float, Meta(gt=0, le=86400)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
# No scheme, path or port: the whole text would be resolved as a host name, forever. Two colons make an IPv6 address.
Host = Annotated[str, Meta(pattern=r"^([^\s/:@\[\]]+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%\w+)?)$")]
HostList = Annotated[list[Host], Meta(min_length=1, max_length=8)]
Polygon = Annotated[
    list[tuple[Fraction, Fraction]],
    Meta(
        min_length=3,
        max_length=64,
        description="corners of the zone, in order around it",
        extra={"words": "a list of 3 to 64 corners [x, y] as fractions (0 to 1) of the frame's width and height"},
    ),
]
Line = Annotated[
    tuple[tuple[Fraction, Fraction], tuple[Fraction, Fraction]],
    Meta(
        description="both ends of the line",
        extra={"words": "a list of two points [x, y] as fractions (0 to 1) of the frame's width and height"},
    ),
]
VideoFile = Annotated[str, Meta(pattern=r"\.[Mm][Pp]4$")]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: immutable, keyword-only, unknown keys refused."""


class CameraConfig(_Section, frozen=True):
    """One video source."""

    source: Annotated[
        str,
        Meta(
            min_length=1,
            description="URL (rtsp://, rtsps://, http://, https://, rtmp://, srt://, udp://, rtp://, tcp://, csi:// or v4l2://),"
            " gst: followed by a GStreamer pipeline, video file, image, or folder of images",
            extra=_file("source", "the source of camera <name>"),
        ),
    ]
    reader: Annotated[
        Literal["auto", "ffmpeg", "gstreamer"],
        Meta(description="library that reads rtsp:// and rtsps://; auto uses GStreamer where it decodes in hardware, otherwise FFmpeg"),
    ] = "auto"
    rtsp_transport: Annotated[Literal["tcp", "udp"], Meta(description="transport of RTP; rtsps:// always uses tcp")] = "tcp"
    ca_file: Annotated[
        str | None,
        Meta(
            description="CA certificates (PEM) that rtsps:// and https:// are verified against; default: the system's",
            extra=_file("read", "the CA file of camera <name>"),
        ),
    ] = None
    open_timeout_s: Annotated[Seconds, Meta(description="longest wait for a stream to open")] = 4.0
    read_timeout_s: Annotated[Seconds, Meta(description="longest wait for the next frame before the stream counts as stalled")] = 4.0
    stale_after_s: Annotated[
        float,
        Meta(ge=0, le=86400, description="a live frame that arrives this much later than the fastest frame is dropped; 0 disables this"),
    ] = 1.0
    frozen_after_s: Annotated[
        float, Meta(ge=0, le=86400, description="a live stream that repeats one image for this long counts as frozen; 0 disables this")
    ] = 10.0
    reconnect_initial_s: Annotated[Seconds, Meta(description="upper bound of the first wait before reconnecting")] = 0.25
    reconnect_maximum_s: Annotated[Seconds, Meta(description="upper bound of all later waits, which grow exponentially")] = 4.0
    frame_limit_mb: Annotated[
        int,
        Meta(
            ge=1,
            le=16_384,
            description="memory of one frame in MB, 3 bytes per pixel; a larger JPEG is read at a fraction of its size, other frames are"
            " refused (`edgepose infer` uses 512)",
        ),
    ] = 64
    rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="frames per second of the images in a folder, of a file without timestamps, and of a snapshot URL; 0 uses 25, or"
            " what the file says, and 1 for a snapshot URL",
        ),
    ] = 0.0
    loop: Annotated[bool, Meta(description="restart a file at its end")] = False
    realtime: Annotated[bool, Meta(description="play a file at the speed of its timestamps and drop frames like a live source")] = False
    zones: Annotated[dict[Name, Polygon], Meta(description="areas by name; entering and leaving them are events")] = {}
    masks: Annotated[
        dict[Name, Polygon],
        Meta(description="areas by name that are blacked out in every frame before anything sees it: networks, files, videos, snapshots"),
    ] = {}
    lines: Annotated[dict[Name, Line], Meta(description="lines by name; crossing them is an event, with its direction")] = {}


class ModelConfig(_Section, frozen=True):
    """The pose network."""

    path: Annotated[
        str, Meta(min_length=1, description="name of a shipped model, or path of an ONNX file", extra=_file("model", "the model"))
    ] = "default"
    backend: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"],
        Meta(description="inference backend; auto uses the faster of cuda and cpu, measured at the start"),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "int8"],
        Meta(
            description="precision of a shipped model, and of a shipped refiner; auto uses the file made for TensorRT on tensorrt, float32"
            " on cuda, and otherwise the one that was measured to be better on CPUs; a path is used as it is"
        ),
    ] = "auto"
    threads: Annotated[
        int, Meta(ge=0, le=256, description="threads of the CPU backend; 0 uses one thread per physical core, at most four")
    ] = 0
    input_size: Annotated[
        int, Meta(ge=0, le=4096, description="long side of the network input in pixels, a multiple of 32; 0 uses the model's own size")
    ] = 0


class PoseConfig(_Section, frozen=True):
    """Selection of people among the candidates."""

    score_threshold: Annotated[
        Fraction, Meta(description="people below this score are dropped, unless they continue a track (`track.low_score_threshold`)")
    ] = 0.3
    nms_oks: Annotated[
        Fraction, Meta(description="of two people whose poses are more similar (OKS) than this, the one with the lower score is dropped")
    ] = 0.7
    nms_iou: Annotated[
        Fraction, Meta(description="of two people whose boxes overlap (IoU) more than this, the one with the lower score is dropped")
    ] = 0.85
    keypoint_threshold: Annotated[
        Fraction, Meta(description="keypoints below this confidence are ignored in tracking, plausibility checks and drawing")
    ] = 0.2
    maximum_people: Annotated[int, Meta(ge=1, le=1000, description="maximum number of people per frame")] = 50


class TrackConfig(_Section, frozen=True):
    """Tracking of people from frame to frame."""

    enabled: Annotated[bool, Meta(description="assign track numbers to people")] = True
    match_threshold: Annotated[
        Fraction, Meta(description="minimum similarity (mean of OKS and box IoU) between the same person in two frames")
    ] = 0.1
    max_lost_s: Annotated[Seconds, Meta(description="how long a lost track is kept before it is deleted")] = 1.5
    min_hits: Annotated[int, Meta(ge=1, le=100, description="detections before a track is confirmed and gets a number")] = 2
    low_score_threshold: Annotated[Fraction, Meta(description="minimum score of a detection that continues an existing track")] = 0.15


class RefineConfig(_Section, frozen=True):
    """The second stage: a refiner that computes keypoints again in crops of the full-resolution frame."""

    path: Annotated[
        str, Meta(min_length=1, description="name of a shipped refiner, or path of an ONNX file", extra=_file("model", "the refiner"))
    ] = "refine-n"
    people: Annotated[int, Meta(ge=0, le=1000, description="maximum number of people refined per frame; 0 disables refinement")] = 8
    budget_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=10000,
            description="average time that refinement may take per frame, in milliseconds; 0 adapts it: people are refined while no live"
            " frame waits, and each track in at least every tenth frame",
        ),
    ] = 0.0
    min_height_px: Annotated[
        int,
        Meta(
            ge=0,
            le=10000,
            description="people whose box has a longer side (people lie, too) below this, in pixels of the frame, are not refined:"
            " they keep the first score, and their keypoints have confidence 0",
        ),
    ] = 24
    carry_frames: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="frames after a refinement in which a tracked person who is not refined keeps the refined pose, moved with the box;"
            " 0 disables this",
        ),
    ] = 10


class SmoothConfig(_Section, frozen=True):
    """One-Euro filter of the keypoints."""

    enabled: Annotated[bool, Meta(description="smooth the keypoints of tracked people")] = True
    minimum_cutoff_hz: Annotated[
        float, Meta(gt=0, le=1000, description="cutoff frequency for a person at rest; a lower one smooths more")
    ] = 1.5
    speed_coefficient: Annotated[
        float, Meta(ge=0, le=1000, description="increase of the cutoff frequency with speed, in Hz per body size per second")
    ] = 8.0
    speed_cutoff_hz: Annotated[float, Meta(gt=0, le=1000, description="cutoff frequency of the speed estimate")] = 2.0


class TilesConfig(_Section, frozen=True):
    """Tiles: parts of a large frame that the pose network sees in full resolution, besides the whole frame."""

    enabled: Annotated[
        bool,
        Meta(
            description="visit tiles of frames that are larger than the network's input; `edgepose infer` visits all tiles of every frame"
        ),
    ] = False
    scale: Annotated[float, Meta(ge=1, le=2, description="pixels of the network's input per pixel of the frame in a tile; 2 enlarges")] = (
        1.0
    )
    period_s: Annotated[Seconds, Meta(description="time within which every tile is visited, as far as idle time allows")] = 2.0
    per_frame: Annotated[
        int, Meta(ge=0, le=1000, description="maximum number of tiles visited per frame; 0 adapts it: as many as no live frame waits for")
    ] = 0


class MotionConfig(_Section, frozen=True):
    """Motion of the camera, measured on the ground; people are tracked relative to it."""

    enabled: Annotated[
        bool,
        Meta(description="measure the motion of the camera from frame to frame, so that tracks, smoothing and events move with the ground"),
    ] = True


class PlausibilityConfig(_Section, frozen=True):
    """Geometric plausibility checks of a pose."""

    enabled: Annotated[bool, Meta(description="lower the confidence of keypoints at implausible positions")] = True
    maximum_bone_ratio: Annotated[float, Meta(gt=0, le=100, description="longest plausible limb, in body sizes")] = 1.0
    maximum_speed: Annotated[float, Meta(gt=0, le=1000, description="highest plausible speed of a keypoint, in body sizes per second")] = (
        12.0
    )


class TlsConfig(_Section, frozen=True):
    """TLS to the broker."""

    enabled: Annotated[bool, Meta(description="encrypt the connection and verify the broker")] = False
    ca_file: Annotated[
        str | None,
        Meta(
            description="CA certificates (PEM) that the broker is verified against; default: the system's",
            extra=_file("read", "the CA file of the broker"),
        ),
    ] = None
    certificate_file: Annotated[str | None, Meta(description="client certificate (PEM)", extra=_file("read", "the client certificate"))] = (
        None
    )
    key_file: Annotated[
        str | None,
        Meta(description="private key of the client certificate (PEM)", extra=_file("read", "the private key of the client certificate")),
    ] = None


class MqttConfig(_Section, frozen=True):
    """The MQTT broker."""

    enabled: Annotated[bool, Meta(description="publish to a broker")] = True
    host: Annotated[
        Host | HostList, Meta(description="host of the broker, or a list of hosts that are tried in turn until one accepts the connection")
    ] = "localhost"
    port: Annotated[int, Meta(ge=0, le=65535, description="port of the broker, on each host; 0 uses 8883 with TLS and 1883 without")] = 0
    protocol: Annotated[Literal["auto", "5", "3.1.1"], Meta(description="MQTT version; auto tries 5 first and falls back to 3.1.1")] = (
        "auto"
    )
    username: Annotated[str | None, Meta(description="user name")] = None
    password_file: Annotated[
        str | None, Meta(description="file whose first line is the password", extra=_file("read", "the password file of the broker"))
    ] = None
    prefix: Annotated[str, Meta(pattern=r"^[^+#\x00]+$", description="first level of every topic")] = "edgepose"
    keepalive_s: Annotated[int, Meta(ge=2, le=3600, description="keep-alive interval of the connection")] = 5
    connect_timeout_s: Annotated[Seconds, Meta(description="longest wait for a connection")] = 5.0
    reconnect_maximum_s: Annotated[Seconds, Meta(description="upper bound of the waits between attempts, which grow exponentially")] = 3.0
    pose_expiry_s: Annotated[Seconds, Meta(description="age after which the broker discards pose messages (MQTT 5)")] = 2.0
    encoding: Annotated[Literal["json", "msgpack"], Meta(description="encoding of the messages")] = "json"
    tls: TlsConfig = TlsConfig()

    @property
    def hosts(self) -> list[str]:
        """The hosts in the order in which they are tried."""
        return [self.host] if isinstance(self.host, str) else self.host


class FilesConfig(_Section, frozen=True):
    """Output files."""

    access: Annotated[
        Literal["owner", "group", "everyone"],
        Meta(description="who may read files that the daemon creates: owner (mode 0600), group (0640) or everyone (0644)"),
    ] = "owner"

    jsonl: Annotated[
        str | None,
        Meta(description="file to append pose messages to, one JSON object per line", extra=_file("write", "the JSON lines")),
    ] = None
    csv: Annotated[
        str | None, Meta(description="file to append keypoints to, one row per person", extra=_file("write", "the CSV table"))
    ] = None
    video: Annotated[
        VideoFile | None, Meta(description="MP4 file to write the annotated video to", extra=_file("write", "the annotated video"))
    ] = None
    images: Annotated[
        str | None, Meta(description="folder to write annotated frames to", extra=_file("folder", "the annotated frames"))
    ] = None


class EventsConfig(_Section, frozen=True):
    """Events: what people do, published once with its evidence, QoS 1."""

    enabled: Annotated[bool, Meta(description="detect and publish events")] = True
    disabled: Annotated[list[EventKind], Meta(min_length=0, max_length=10, description="kinds of events that are not published")] = []
    enter_after_s: Annotated[Seconds, Meta(description="a person visible for this long has entered")] = 1.0
    leave_after_s: Annotated[Seconds, Meta(description="a person not visible for this long has left")] = 3.0
    fall_within_s: Annotated[
        Seconds, Meta(description="longest transition from standing to lying that is a fall; a slower one is lying down")
    ] = 1.0
    fallen_after_s: Annotated[Seconds, Meta(description="a person who lies for this long (on balance) after a fall is fallen")] = 0.8
    still_after_s: Annotated[Seconds, Meta(description="a fallen person without movement for this long is still")] = 10.0
    wave_after_s: Annotated[Seconds, Meta(description="a person whose wrist swings above the shoulder for this long is waving")] = 1.5
    wave_amplitude: Annotated[
        float,
        Meta(gt=0, le=10, description="minimum swing of a wave from end to end, in body sizes (square root of the box's area)"),
    ] = 0.12
    arms_up_after_s: Annotated[Seconds, Meta(description="a person with both wrists above the head for this long has their arms up")] = 1.0
    zone_after_s: Annotated[
        Seconds, Meta(description="a person whose feet are on the other side of a zone's edge for this long has entered or left it")
    ] = 0.5
    loiter_after_s: Annotated[Seconds, Meta(description="a person who stays in a zone for this long is loitering")] = 60.0
    line_after_s: Annotated[
        Seconds, Meta(description="a person whose feet are on the other side of a line for this long has crossed it")
    ] = 0.2
    zones_follow_ground: Annotated[
        bool,
        Meta(
            description="move zones and lines with the ground when the camera moves (`motion.enabled`), from where they lie in the"
            " first frame of a stream"
        ),
    ] = False
    again_after_s: Annotated[Seconds, Meta(description="minimum time between two events of one kind for one person")] = 10.0
    store: Annotated[
        str | None,
        Meta(
            description="database that keeps events until the broker confirms them; default: in the service's state folder,"
            " or in memory without a service",
            extra=_file("write", "the event store"),
        ),
    ] = None
    store_limit: Annotated[int, Meta(ge=1, le=1_000_000, description="maximum number of events that wait; the oldest is dropped first")] = (
        10_000
    )


class CommandsConfig(_Section, frozen=True):
    """Commands over MQTT."""

    enabled: Annotated[bool, Meta(description="execute commands")] = False
    snapshot: Annotated[bool, Meta(description="execute `snapshot` too, which sends an image off the device")] = False
    response_topics: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=1024)]],
        Meta(
            max_length=32,
            description="topic filters, such as clients/+/replies, of the places outside the device's own `reply/` where a reply may go",
        ),
    ] = []
    audit: Annotated[
        str | None,
        Meta(
            description="file that records every command; default: in the service's state folder, or none without a service",
            extra=_file("write", "the command log"),
        ),
    ] = None


class BlackBoxConfig(_Section, frozen=True):
    """Black box: the last minutes on disk without pixels, for `edgepose replay`."""

    path: Annotated[
        str | None,
        Meta(description="folder of recordings; without it nothing is recorded", extra=_file("folder", "the black box")),
    ] = None
    minutes: Annotated[float, Meta(gt=0, le=1440, description="how far back a recording reaches")] = 5.0
    limit_mb: Annotated[
        int, Meta(ge=1, le=100_000, description="maximum size of the folder in MB; the oldest recording is deleted first")
    ] = 64


class MonitoringConfig(_Section, frozen=True):
    """An HTTP port for Prometheus and health checks."""

    enabled: Annotated[bool, Meta(description="serve /metrics and /healthz")] = False
    host: Annotated[
        Host,
        Meta(description="address to listen on; any but a loopback address needs `certificate_file`, `key_file` and `token_file`"),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 uses any free port")] = 9464
    certificate_file: Annotated[
        str | None,
        Meta(
            description="certificate of the port (PEM), for https; without it, the port speaks http",
            extra=_file("read", "the certificate of the monitoring port"),
        ),
    ] = None
    key_file: Annotated[
        str | None,
        Meta(description="private key of that certificate (PEM)", extra=_file("read", "the private key of the monitoring port")),
    ] = None
    token_file: Annotated[
        str | None,
        Meta(
            description="file whose first line is the token that callers must send (`Authorization: Bearer TOKEN`), 16 characters or more",
            extra=_file("read", "the token of the monitoring port"),
        ),
    ] = None


class HealthConfig(_Section, frozen=True):
    """Health messages and hang detection."""

    interval_s: Annotated[Seconds, Meta(description="interval of the health messages")] = 5.0
    stuck_after_s: Annotated[
        Seconds,
        Meta(description="a worker thread without progress for this long counts as stuck; after twice this time the daemon exits"),
    ] = 10.0


class LogConfig(_Section, frozen=True):
    """Log lines on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="lowest severity that is logged")] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="text for people, or one JSON object per line for a log collector")] = (
        "text"
    )


class Config(_Section, frozen=True):
    """The whole configuration."""

    device: Annotated[Name | None, Meta(description="name of this device in topics; default: the host name")] = None
    cameras: Annotated[dict[Name, CameraConfig], Meta(description="video sources by name")] = {}
    model: ModelConfig = ModelConfig()
    pose: PoseConfig = PoseConfig()
    track: TrackConfig = TrackConfig()
    refine: RefineConfig = RefineConfig()
    tiles: TilesConfig = TilesConfig()
    motion: MotionConfig = MotionConfig()
    smooth: SmoothConfig = SmoothConfig()
    plausibility: PlausibilityConfig = PlausibilityConfig()
    mqtt: MqttConfig = MqttConfig()
    files: FilesConfig = FilesConfig()
    events: EventsConfig = EventsConfig()
    commands: CommandsConfig = CommandsConfig()
    black_box: BlackBoxConfig = BlackBoxConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    health: HealthConfig = HealthConfig()
    log: LogConfig = LogConfig()
