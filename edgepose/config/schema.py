"""The configuration of the daemon as one tree of structs.

Values come from the defaults here, a YAML file, the environment (`EDGEPOSE__MQTT__HOST=…`) and `--set mqtt.host=…`; later ones win.
`load.py` merges them and refuses unknown keys and invalid values. The descriptions are the text of `docs/configuration.md`.
"""

from typing import Annotated, Literal

from msgspec import Meta

from edgepose.config.aircraft import (
    FixedConfig,
    FlightConfig,
    FlightReportConfig,
    IntrinsicsConfig,
    MavlinkConfig,
    MountConfig,
)
from edgepose.config.fields import FileMark, Fraction, Line, Name, Polygon, Seconds, Section, file_key
from edgepose.config.heat import HeatConfig
from edgepose.config.perception import (
    ModelConfig,
    MotionConfig,
    PlausibilityConfig,
    PoseConfig,
    RefineConfig,
    RemoteConfig,
    SmoothConfig,
    TilesConfig,
    TrackConfig,
)
from edgepose.config.publishing import (
    CommandsConfig,
    EventsConfig,
    FilesConfig,
    HomeAssistantConfig,
    MqttConfig,
    PosesConfig,
    TlsConfig,
    WebhookConfig,
)
from edgepose.config.service import (
    BlackBoxConfig,
    BundlesConfig,
    EncryptionConfig,
    HealthConfig,
    LogConfig,
    MonitoringConfig,
    PrivacyConfig,
    Profile,
    RetentionConfig,
    WebConfig,
)

__all__ = [
    "BlackBoxConfig",
    "BundlesConfig",
    "CameraConfig",
    "CommandsConfig",
    "Config",
    "EncryptionConfig",
    "EventsConfig",
    "FileMark",
    "FilesConfig",
    "FixedConfig",
    "FlightConfig",
    "FlightReportConfig",
    "Fraction",
    "HealthConfig",
    "HeatConfig",
    "HomeAssistantConfig",
    "IntrinsicsConfig",
    "LogConfig",
    "MavlinkConfig",
    "ModelConfig",
    "MonitoringConfig",
    "MotionConfig",
    "MountConfig",
    "MqttConfig",
    "Name",
    "PlausibilityConfig",
    "PoseConfig",
    "PosesConfig",
    "PrivacyConfig",
    "Profile",
    "RefineConfig",
    "RemoteConfig",
    "RetentionConfig",
    "SmoothConfig",
    "TilesConfig",
    "TlsConfig",
    "TrackConfig",
    "WebConfig",
    "WebhookConfig",
]


class CameraConfig(Section, frozen=True):
    """One video source."""

    source: Annotated[
        str,
        Meta(
            min_length=1,
            description="URL (rtsp://, rtsps://, http://, https://, rtmp://, srt://, udp://, rtp://, tcp://, csi:// or v4l2://),"
            " gst: followed by a GStreamer pipeline, video file, image, or folder of images",
            extra=file_key("source", "the source of camera <name>"),
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
            extra=file_key("read", "the CA file of camera <name>"),
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
    gray16_span: Annotated[
        tuple[float, float] | None,
        Meta(description="counts of 16-bit gray video (thermal cameras) that are shown as black and white; default: what the frames hold"),
    ] = None
    loop: Annotated[bool, Meta(description="restart a file at its end")] = False
    realtime: Annotated[bool, Meta(description="play a file at the speed of its timestamps and drop frames like a live source")] = False
    priority: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="share of the network's time that this live camera gets where there is too little for all: twice the share of a"
            " camera with half the number",
        ),
    ] = 1
    maximum_rate: Annotated[
        float,
        Meta(ge=0, le=1000, description="most frames per second of a live source that are used; the others are dropped; 0 uses all"),
    ] = 0.0
    skip_decoding: Annotated[
        bool,
        Meta(
            description="while the network takes less than half of the frames of a live stream, do not decode those that no other frame"
            " needs (B-frames, upper temporal layers), unless too few would remain; FFmpeg only"
        ),
    ] = True
    zones: Annotated[dict[Name, Polygon], Meta(description="areas by name; entering and leaving them are events")] = {}
    masks: Annotated[
        dict[Name, Polygon],
        Meta(description="areas by name that are blacked out in every frame before anything sees it: networks, files, videos, snapshots"),
    ] = {}
    lines: Annotated[dict[Name, Line], Meta(description="lines by name; crossing them is an event, with its direction")] = {}
    mount: MountConfig | None = None


class Config(Section, frozen=True):
    """The whole configuration."""

    device: Annotated[Name | None, Meta(description="name of this device in topics; default: the host name")] = None
    cameras: Annotated[dict[Name, CameraConfig], Meta(description="video sources by name")] = {}
    model: ModelConfig = ModelConfig()
    pose: PoseConfig = PoseConfig()
    track: TrackConfig = TrackConfig()
    refine: RefineConfig = RefineConfig()
    tiles: TilesConfig = TilesConfig()
    motion: MotionConfig = MotionConfig()
    flight: FlightConfig = FlightConfig()
    smooth: SmoothConfig = SmoothConfig()
    plausibility: PlausibilityConfig = PlausibilityConfig()
    mqtt: MqttConfig = MqttConfig()
    files: FilesConfig = FilesConfig()
    events: EventsConfig = EventsConfig()
    webhook: WebhookConfig = WebhookConfig()
    commands: CommandsConfig = CommandsConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    encryption: EncryptionConfig = EncryptionConfig()
    retention: RetentionConfig = RetentionConfig()
    black_box: BlackBoxConfig = BlackBoxConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    web: WebConfig = WebConfig()
    heat: HeatConfig = HeatConfig()
    bundles: BundlesConfig = BundlesConfig()
    health: HealthConfig = HealthConfig()
    log: LogConfig = LogConfig()
