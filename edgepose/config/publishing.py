"""Sections of the configuration that say what leaves the daemon: broker, files, events, commands."""

from typing import Annotated, Literal

from msgspec import Meta

from edgepose.config.fields import Host, HostList, Seconds, Section, VideoFile, file_key
from edgepose.event import EventKind


class TlsConfig(Section, frozen=True):
    """TLS to the broker."""

    enabled: Annotated[bool, Meta(description="encrypt the connection and verify the broker")] = False
    ca_file: Annotated[
        str | None,
        Meta(
            description="CA certificates (PEM) that the broker is verified against; default: the system's",
            extra=file_key("read", "the CA file of the broker"),
        ),
    ] = None
    certificate_file: Annotated[
        str | None, Meta(description="client certificate (PEM)", extra=file_key("read", "the client certificate"))
    ] = None
    key_file: Annotated[
        str | None,
        Meta(
            description="private key of the client certificate (PEM)", extra=file_key("read", "the private key of the client certificate")
        ),
    ] = None


class PosesConfig(Section, frozen=True):
    """Which pose messages are published; those left out are counted as `thinned`. At least one a second follows while video flows."""

    rate_hz: Annotated[
        Annotated[float, Meta(ge=1, le=1000)] | None,
        Meta(description="maximum number of pose messages a second of a camera; null publishes every processed frame"),
    ] = None
    only_changes: Annotated[bool, Meta(description="leave out a frame whose people are where the last message shows them")] = False


class HomeAssistantConfig(Section, frozen=True):
    """Discovery by Home Assistant: occupancy, people and events of each camera and zone, without YAML."""

    enabled: Annotated[bool, Meta(description="announce this device to Home Assistant")] = False
    prefix: Annotated[str, Meta(pattern=r"^[^+#\x00]+$", description="first level of Home Assistant's discovery topics")] = "homeassistant"


class MqttConfig(Section, frozen=True):
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
        str | None, Meta(description="file whose first line is the password", extra=file_key("read", "the password file of the broker"))
    ] = None
    prefix: Annotated[str, Meta(pattern=r"^[^+#\x00]+$", description="first level of every topic")] = "edgepose"
    keepalive_s: Annotated[int, Meta(ge=2, le=3600, description="keep-alive interval of the connection")] = 5
    connect_timeout_s: Annotated[Seconds, Meta(description="longest wait for a connection")] = 5.0
    reconnect_maximum_s: Annotated[Seconds, Meta(description="upper bound of the waits between attempts, which grow exponentially")] = 3.0
    pose_expiry_s: Annotated[Seconds, Meta(description="age after which the broker discards pose messages (MQTT 5)")] = 2.0
    encoding: Annotated[
        Literal["json", "msgpack", "compact"],
        Meta(description="encoding of the messages; compact writes poses in 98 bytes a person (130 with a place), all else in JSON"),
    ] = "json"
    poses: PosesConfig = PosesConfig()
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()
    tls: TlsConfig = TlsConfig()

    @property
    def hosts(self) -> list[str]:
        """The hosts in the order in which they are tried."""
        return [self.host] if isinstance(self.host, str) else self.host

    @property
    def message_encoding(self) -> Literal["json", "msgpack"]:
        """The encoding of all messages but poses."""
        return "msgpack" if self.encoding == "msgpack" else "json"


class FilesConfig(Section, frozen=True):
    """Output files."""

    access: Annotated[
        Literal["owner", "group", "everyone"],
        Meta(description="who may read files that the daemon creates: owner (mode 0600), group (0640) or everyone (0644)"),
    ] = "owner"

    jsonl: Annotated[
        str | None,
        Meta(description="file to append pose messages to, one JSON object per line", extra=file_key("write", "the JSON lines")),
    ] = None
    csv: Annotated[
        str | None, Meta(description="file to append keypoints to, one row per person", extra=file_key("write", "the CSV table"))
    ] = None
    video: Annotated[
        VideoFile | None, Meta(description="MP4 file to write the annotated video to", extra=file_key("write", "the annotated video"))
    ] = None
    images: Annotated[
        str | None, Meta(description="folder to write annotated frames to", extra=file_key("folder", "the annotated frames"))
    ] = None
    limit_mb: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="maximum size in MB of `jsonl` and of `csv`, each with its older half in `….1`, of all videos, and of all images;"
            " the oldest goes first",
        ),
    ] = 1000


class EventsConfig(Section, frozen=True):
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
    wave_after_s: Annotated[
        Seconds, Meta(description="a person whose wrist swings for this long, above the shoulder in each swing, is waving")
    ] = 1.5
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
            extra=file_key("write", "the event store"),
        ),
    ] = None
    store_limit: Annotated[int, Meta(ge=1, le=1_000_000, description="maximum number of events that wait; the oldest is dropped first")] = (
        10_000
    )


class WebhookConfig(Section, frozen=True):
    """Events over HTTPS, for those without a broker."""

    url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+([/?#][^\s]*)?$")] | None,
        Meta(
            description="where each event is posted to; null posts none. http:// is for this machine, or with allow_http",
        ),
    ] = None
    allow_http: Annotated[bool, Meta(description="post to other machines without encryption, too")] = False
    secret_file: Annotated[
        str | None,
        Meta(
            description="file whose first line is the secret that requests are signed with", extra=file_key("read", "the webhook's secret")
        ),
    ] = None
    ca_file: Annotated[
        str | None,
        Meta(
            description="CA certificates (PEM) that the receiver is verified against; default: the system's",
            extra=file_key("read", "the CA file of the webhook"),
        ),
    ] = None
    kinds: Annotated[list[EventKind], Meta(max_length=10, description="kinds of events that are posted; an empty list posts all")] = []
    timeout_s: Annotated[Seconds, Meta(description="longest duration of a request, from the connection to the answer")] = 5.0
    attempts: Annotated[
        int, Meta(ge=1, le=1000, description="requests for one event that the receiver may fail to accept; then the event is dropped")
    ] = 10
    retry_maximum_s: Annotated[Seconds, Meta(description="upper bound of the waits between requests, which grow exponentially")] = 30.0
    store: Annotated[
        str | None,
        Meta(
            description="database that keeps events until the receiver accepts them; default: in the service's state folder,"
            " or in memory without a service",
            extra=file_key("write", "the webhook's event store"),
        ),
    ] = None


class CommandsConfig(Section, frozen=True):
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
            extra=file_key("write", "the command log"),
        ),
    ] = None
