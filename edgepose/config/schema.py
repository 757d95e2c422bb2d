"""The whole configuration of the daemon: one tree of structs.

Values come from, later ones winning: the defaults here, a YAML file, the environment (`EDGEPOSE__MQTT__HOST=…`) and
`--set mqtt.host=…`. `load.py` joins them and refuses unknown keys and bad values.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgepose.event import EventKind

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
# No scheme, path or port: these would be looked up as a name, for ever. Two colons are an IPv6 address.
Host = Annotated[str, Meta(pattern=r"^([^\s/:@\[\]]+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%\w+)?)$")]
Polygon = Annotated[
    list[tuple[Fraction, Fraction]],
    Meta(
        min_length=3,
        max_length=64,
        description="corners x, y as fractions of the picture's width and height",
        extra={"words": "a list of 3 to 64 corners [x, y], fractions (0 to 1) of the picture's width and height"},
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
            description="rtsp(s)://, http(s)://, rtmp://, srt://, udp://, rtp://, tcp://, csi://, v4l2://, gst: and a pipeline,"
            " a video file, an image or a folder of images",
        ),
    ]
    reader: Annotated[
        Literal["auto", "ffmpeg", "gstreamer"],
        Meta(description="what reads rtsp:// and rtsps://; auto takes GStreamer where it decodes in hardware, else FFmpeg"),
    ] = "auto"
    rtsp_transport: Annotated[Literal["tcp", "udp"], Meta(description="how RTP travels; with rtsps:// always by tcp")] = "tcp"
    ca_file: Annotated[
        str | None, Meta(description="certificate authority that rtsps:// and https:// are verified against; the system's where absent")
    ] = None
    open_timeout_s: Annotated[Seconds, Meta(description="longest wait for a stream to open")] = 4.0
    read_timeout_s: Annotated[Seconds, Meta(description="longest wait for the next frame before a stream counts as stalled")] = 4.0
    stale_after_s: Annotated[
        float, Meta(ge=0, le=86400, description="a live picture that comes so much later than the fastest one did is dropped; 0 never")
    ] = 1.0
    frozen_after_s: Annotated[
        float, Meta(ge=0, le=86400, description="a live stream of one and the same picture for so long counts as frozen; 0 never")
    ] = 10.0
    reconnect_initial_s: Annotated[Seconds, Meta(description="upper bound of the first wait before reconnecting")] = 0.25
    reconnect_maximum_s: Annotated[Seconds, Meta(description="upper bound that the waits grow to")] = 4.0
    loop: Annotated[bool, Meta(description="start a file again at its end")] = False
    realtime: Annotated[bool, Meta(description="play a file at the speed of its time-stamps, dropping frames like a live source")] = False
    zones: Annotated[dict[Name, Polygon], Meta(description="areas whose entering and leaving are events, by name")] = {}


class ModelConfig(_Section, frozen=True):
    """The network."""

    path: Annotated[str, Meta(min_length=1, description="name of a shipped model, or path of an ONNX file")] = "default"
    backend: Annotated[Literal["auto", "cpu", "cuda", "tensorrt"], Meta(description="where to run; auto takes the fastest that works")] = (
        "auto"
    )
    threads: Annotated[int, Meta(ge=0, le=256, description="threads of the CPU backend; 0 is one a physical core, four at most")] = 0
    input_size: Annotated[
        int, Meta(ge=0, le=4096, description="long side of the network input in pixels, a multiple of 32; 0 is the model's own")
    ] = 0


class PoseConfig(_Section, frozen=True):
    """From candidates to people."""

    score_threshold: Annotated[
        Fraction, Meta(description="people below this score are dropped, unless they continue a track (`track.low_score_threshold`)")
    ] = 0.3
    nms_oks: Annotated[Fraction, Meta(description="of two people whose poses are more alike than this, the weaker is dropped")] = 0.7
    nms_iou: Annotated[Fraction, Meta(description="of two people whose boxes overlap more than this, the weaker is dropped")] = 0.85
    keypoint_threshold: Annotated[
        Fraction, Meta(description="keypoints below this confidence count as unseen in tracking, checks and drawing")
    ] = 0.2
    maximum_people: Annotated[int, Meta(ge=1, le=1000, description="most people a frame")] = 50


class TrackConfig(_Section, frozen=True):
    """Who is who from frame to frame."""

    enabled: Annotated[bool, Meta(description="give people track numbers")] = True
    match_threshold: Annotated[Fraction, Meta(description="least similarity (mean of OKS and box IoU) of one person in two frames")] = 0.1
    max_lost_s: Annotated[Seconds, Meta(description="how long a person who is not seen is remembered")] = 1.5
    min_hits: Annotated[int, Meta(ge=1, le=100, description="sightings before a track gets a number")] = 2
    low_score_threshold: Annotated[Fraction, Meta(description="a known person is followed down to this score")] = 0.15


class RefineConfig(_Section, frozen=True):
    """The second look at people, in regions cut from the full-resolution frame."""

    path: Annotated[str, Meta(min_length=1, description="name of a shipped refiner, or path of an ONNX file")] = "refine-n"
    people: Annotated[int, Meta(ge=0, le=1000, description="most people a frame that are looked at again; 0 turns it off")] = 0
    budget_ms: Annotated[
        float, Meta(ge=0, le=10000, description="milliseconds a frame that looking again may take on average; 0 is no limit")
    ] = 0.0


class SmoothConfig(_Section, frozen=True):
    """One-Euro filter of the keypoints."""

    enabled: Annotated[bool, Meta(description="smooth keypoints of tracked people")] = True
    minimum_cutoff_hz: Annotated[float, Meta(gt=0, le=1000, description="cut-off for a person at rest; lower is steadier")] = 1.5
    speed_coefficient: Annotated[
        float, Meta(ge=0, le=1000, description="how fast the cut-off rises with speed, Hz for each body size a second")
    ] = 8.0
    speed_cutoff_hz: Annotated[float, Meta(gt=0, le=1000, description="cut-off of the speed estimate")] = 2.0


class PlausibilityConfig(_Section, frozen=True):
    """Geometric checks of a pose."""

    enabled: Annotated[bool, Meta(description="lower the confidence of keypoints that cannot be where they are")] = True
    maximum_bone_ratio: Annotated[float, Meta(gt=0, le=100, description="longest limb, in body sizes, that is believed")] = 1.0
    maximum_speed: Annotated[float, Meta(gt=0, le=1000, description="fastest keypoint, in body sizes a second, that is believed")] = 12.0


class TlsConfig(_Section, frozen=True):
    """TLS towards the broker."""

    enabled: Annotated[bool, Meta(description="encrypt, and verify the broker")] = False
    ca_file: Annotated[str | None, Meta(description="certificate authority; the system's where absent")] = None
    certificate_file: Annotated[str | None, Meta(description="client certificate")] = None
    key_file: Annotated[str | None, Meta(description="key of the client certificate")] = None


class MqttConfig(_Section, frozen=True):
    """The broker."""

    enabled: Annotated[bool, Meta(description="publish to a broker")] = True
    host: Annotated[Host, Meta(description="where the broker is")] = "localhost"
    port: Annotated[int, Meta(ge=0, le=65535, description="port; 0 is 8883 with TLS and 1883 without")] = 0
    protocol: Annotated[Literal["auto", "5", "3.1.1"], Meta(description="MQTT version; auto tries 5 and falls back")] = "auto"
    username: Annotated[str | None, Meta(description="user name")] = None
    password_file: Annotated[str | None, Meta(description="file whose first line is the password")] = None
    prefix: Annotated[str, Meta(pattern=r"^[^+#\x00]+$", description="first part of every topic")] = "edgepose"
    keepalive_s: Annotated[int, Meta(ge=2, le=3600, description="longest silence towards the broker")] = 5
    connect_timeout_s: Annotated[Seconds, Meta(description="longest wait for a connection")] = 5.0
    reconnect_maximum_s: Annotated[Seconds, Meta(description="upper bound that waits between attempts grow to")] = 3.0
    pose_expiry_s: Annotated[Seconds, Meta(description="the broker forgets poses older than this (MQTT 5)")] = 2.0
    encoding: Annotated[Literal["json", "msgpack"], Meta(description="how messages are written")] = "json"
    tls: TlsConfig = TlsConfig()


class FilesConfig(_Section, frozen=True):
    """Files beside the broker."""

    jsonl: Annotated[str | None, Meta(description="append pose messages to this file, one JSON object a line")] = None
    csv: Annotated[str | None, Meta(description="append keypoints to this file, one row a person")] = None
    video: Annotated[VideoFile | None, Meta(description="write an annotated MP4")] = None
    images: Annotated[str | None, Meta(description="write annotated pictures into this folder")] = None


class EventsConfig(_Section, frozen=True):
    """What people do, said once with its evidence, QoS 1."""

    enabled: Annotated[bool, Meta(description="publish events")] = True
    disabled: Annotated[list[EventKind], Meta(min_length=0, max_length=8, description="kinds that are not said")] = []
    enter_after_s: Annotated[Seconds, Meta(description="somebody seen for so long has entered")] = 1.0
    leave_after_s: Annotated[Seconds, Meta(description="somebody not seen for so long has left")] = 3.0
    fall_within_s: Annotated[Seconds, Meta(description="from standing to lying in less is a fall, in more is lying down")] = 1.0
    fallen_after_s: Annotated[Seconds, Meta(description="lying for so long after a fall, on balance, is fallen")] = 0.8
    still_after_s: Annotated[Seconds, Meta(description="fallen and without movement for so long is still")] = 10.0
    wave_after_s: Annotated[Seconds, Meta(description="a wrist above the shoulder that goes to and fro for so long waves")] = 1.5
    wave_amplitude: Annotated[
        float, Meta(gt=0, le=10, description="least swing of a wave from end to end, in body sizes (square root of the box's area)")
    ] = 0.12
    arms_up_after_s: Annotated[Seconds, Meta(description="both wrists above the head for so long are arms up")] = 1.0
    zone_after_s: Annotated[Seconds, Meta(description="feet inside or outside of a zone for so long have changed sides")] = 0.5
    again_after_s: Annotated[Seconds, Meta(description="the same of the same person is not said again sooner")] = 10.0
    store: Annotated[
        str | None,
        Meta(description="file that keeps events until the broker has them; in the service's state folder where absent, else in memory"),
    ] = None
    store_limit: Annotated[int, Meta(ge=1, le=1_000_000, description="most events that wait; the oldest is dropped first")] = 10_000


class CommandsConfig(_Section, frozen=True):
    """Commands over MQTT."""

    enabled: Annotated[bool, Meta(description="obey commands")] = False
    snapshot: Annotated[bool, Meta(description="obey `snapshot` too: a picture leaves the device")] = False
    audit: Annotated[str | None, Meta(description="file that every command is written to; in the service's state folder where absent")] = (
        None
    )


class BlackBoxConfig(_Section, frozen=True):
    """The last minutes without pixels, on disk, to be played again with `edgepose replay`."""

    path: Annotated[str | None, Meta(description="folder of recordings; nothing is kept where absent")] = None
    minutes: Annotated[float, Meta(gt=0, le=1440, description="how far back a recording goes")] = 5.0
    limit_mb: Annotated[int, Meta(ge=1, le=100_000, description="most that the folder holds; the oldest recording goes first")] = 64


class MonitoringConfig(_Section, frozen=True):
    """A local port for Prometheus and for whoever asks after health."""

    enabled: Annotated[bool, Meta(description="serve /metrics and /healthz")] = False
    host: Annotated[Host, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port; 0 is any free one")] = 9464


class HealthConfig(_Section, frozen=True):
    """What the daemon says of itself."""

    interval_s: Annotated[Seconds, Meta(description="time between two health messages")] = 5.0
    stuck_after_s: Annotated[
        Seconds, Meta(description="longest turn of a work loop; then it counts as stuck, and after as long again the daemon ends itself")
    ] = 10.0


class LogConfig(_Section, frozen=True):
    """Log lines on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least severe level that is written")] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="lines for people, or JSON objects for a collector of logs")] = "text"


class Config(_Section, frozen=True):
    """The whole configuration."""

    device: Annotated[Name | None, Meta(description="name of this device in topics; the host name where absent")] = None
    cameras: Annotated[dict[Name, CameraConfig], Meta(description="video sources by name")] = {}
    model: ModelConfig = ModelConfig()
    pose: PoseConfig = PoseConfig()
    track: TrackConfig = TrackConfig()
    refine: RefineConfig = RefineConfig()
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
