"""Sections of the configuration of the service itself: black box, monitoring, web page, health, log, bundles."""

from typing import Annotated, Literal

from msgspec import Meta

from edgepose.config.fields import Days, Host, Name, Seconds, Section, file_key


class BlackBoxConfig(Section, frozen=True):
    """Black box: the last minutes on disk without pixels, for `edgepose replay`."""

    path: Annotated[
        str | None,
        Meta(description="folder of recordings; without it nothing is recorded", extra=file_key("folder", "the black box")),
    ] = None
    minutes: Annotated[float, Meta(gt=0, le=1440, description="how far back a recording reaches")] = 5.0
    limit_mb: Annotated[
        int, Meta(ge=1, le=100_000, description="maximum size of the folder in MB; the oldest recording is deleted first")
    ] = 64


Profile = Literal["minimal", "standard", "full"]
"""What messages say about a person: that there is one, with box and track number, or with keypoints too."""


class PrivacyConfig(Section, frozen=True):
    """What of people may be kept and sent."""

    profile: Annotated[
        Profile,
        Meta(
            description="what poses say about a person: everything (`full`), no keypoints (`standard`), or only that there is one"
            " (`minimal`, which also takes box and evidence out of events); only `full` goes with a black box and with drawings of people"
        ),
    ] = "full"

    pixels: Annotated[
        Literal["never", "blurred", "allowed"],
        Meta(
            description="images that leave the process, as files, snapshots or input of a remote model: `never`, with mosaics on the heads"
            " of all people found (`blurred`), or as they are (`allowed`)"
        ),
    ] = "allowed"


class EncryptionConfig(Section, frozen=True):
    """Encryption of everything that is stored; needs the extra `encryption`."""

    enabled: Annotated[bool, Meta(description="encrypt every file of the state (AES-256-GCM)")] = False
    key: Annotated[
        str | None,
        Meta(
            description="file or systemd credential with the master key that `edgepose keys create` made; mode 0600",
            extra=file_key("read", "the master key"),
        ),
    ] = None


class RetentionConfig(Section, frozen=True):
    """How long stored data is kept; files have limits of their size besides."""

    days: Annotated[
        Days | None,
        Meta(
            description="age in days at which waiting events, recordings, poses, videos and images are deleted; default: 30 with"
            " `privacy.profile` full, 7 with standard, 1 with minimal",
        ),
    ] = None
    audit_days: Annotated[Days, Meta(description="age in days at which records of commands and of bundles are deleted")] = 365.0


class MonitoringConfig(Section, frozen=True):
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
            extra=file_key("read", "the certificate of the monitoring port"),
        ),
    ] = None
    key_file: Annotated[
        str | None,
        Meta(description="private key of that certificate (PEM)", extra=file_key("read", "the private key of the monitoring port")),
    ] = None
    token_file: Annotated[
        str | None,
        Meta(
            description="file whose first line is the token that callers must send (`Authorization: Bearer TOKEN`), 16 characters or more",
            extra=file_key("read", "the token of the monitoring port"),
        ),
    ] = None


class WebConfig(Section, frozen=True):
    """Web page and HTTP API, with accounts and limits: for uploads (`edgepose serve`), and of the running cameras inside the daemon."""

    enabled: Annotated[
        bool, Meta(description="show the live page of the cameras inside `edgepose run`, on `live_port`; `edgepose serve` needs it not")
    ] = False
    host: Annotated[
        Host, Meta(description="address to listen on; on any but a loopback address everything is encrypted, and plain HTTP is refused")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port of `edgepose serve`; 0 uses any free port")] = 9480
    live_port: Annotated[int, Meta(ge=0, le=65535, description="port of the live page; 0 uses any free port")] = 9481
    folder: Annotated[
        str | None,
        Meta(
            description="folder of accounts, results and the audit log; default: `web` in the state folder of the service, or"
            " `~/.local/state/edgepose/web`",
            extra=file_key("folder", "the accounts of the web page"),
        ),
    ] = None
    certificate_file: Annotated[
        str | None,
        Meta(
            description="certificate of the page (PEM); without it, one is made at the first start where one is needed",
            extra=file_key("read", "the certificate of the web page"),
        ),
    ] = None
    key_file: Annotated[
        str | None,
        Meta(description="private key of that certificate (PEM)", extra=file_key("read", "the private key of the web page")),
    ] = None
    allowed_hosts: Annotated[
        list[Host],
        Meta(
            max_length=16,
            description="names by which browsers may reach the page, beside its address and `localhost`; any other `Host` is refused",
        ),
    ] = []
    trusted_proxies: Annotated[
        list[Host], Meta(max_length=16, description="addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed")
    ] = []
    upload_limit_mb: Annotated[int, Meta(ge=1, le=16_384, description="largest upload in MB")] = 200
    uploads_per_minute: Annotated[int, Meta(ge=1, le=10_000, description="uploads of one account in a minute")] = 60
    disk_limit_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="uploads and results on disk together, in MB")] = 2000
    jobs_at_once: Annotated[int, Meta(ge=1, le=8, description="jobs that run at the same time, each in a process of its own")] = 1
    jobs_waiting: Annotated[int, Meta(ge=1, le=1000, description="jobs that may wait for their turn")] = 16
    job_timeout_s: Annotated[Seconds, Meta(description="longest run of a job")] = 900.0
    job_memory_mb: Annotated[int, Meta(ge=256, le=65_536, description="memory of a job in MB")] = 1500
    video_limit_s: Annotated[Seconds, Meta(description="longest video")] = 600.0
    video_limit_frames: Annotated[int, Meta(ge=1, le=10_000_000, description="frames of the longest video")] = 20_000
    frame_limit_mb: Annotated[
        int,
        Meta(ge=1, le=16_384, description="memory of one decoded picture or frame in MB, 3 bytes per pixel; a larger JPEG is read reduced"),
    ] = 200
    keep_minutes: Annotated[float, Meta(gt=0, le=10_080, description="results are deleted this long after their job has ended")] = 30.0


class HealthConfig(Section, frozen=True):
    """Health messages and hang detection."""

    interval_s: Annotated[Seconds, Meta(description="interval of the health messages")] = 5.0
    stuck_after_s: Annotated[
        Seconds,
        Meta(description="a worker thread without progress for this long counts as stuck; after twice this time the daemon exits"),
    ] = 10.0


class LogConfig(Section, frozen=True):
    """Log lines on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="lowest severity that is logged")] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="text for people, or one JSON object per line for a log collector")] = (
        "text"
    )


class BundlesConfig(Section, frozen=True):
    """Signed configuration and models over MQTT, for a fleet. No bundle changes this section."""

    enabled: Annotated[bool, Meta(description="take signed bundles of configuration and models")] = False
    keys_file: Annotated[
        str | None,
        Meta(
            description="public keys (Ed25519, PEM, one after the other) whose bundles are accepted",
            extra=file_key("read", "the public keys of bundles"),
        ),
    ] = None
    groups: Annotated[
        list[Name], Meta(max_length=16, description="groups of this device: it also takes bundles that are signed for one of them")
    ] = []
    folder: Annotated[
        str | None,
        Meta(
            description="folder of bundles, and of the record of them; default: in the service's state folder",
            extra=file_key("folder", "the bundles"),
        ),
    ] = None
    pinned: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=256)]],
        Meta(max_length=64, description="keys and sections, such as privacy, that no bundle may set, beside those that none ever may"),
    ] = []
    trial_s: Annotated[
        Seconds, Meta(description="time in which a new bundle must bring health messages, and frames of the cameras that delivered some")
    ] = 60.0
    fetch_within_s: Annotated[Seconds, Meta(description="longest time to fetch the files of a bundle, with all attempts")] = 3600.0
    size_limit_mb: Annotated[int, Meta(ge=1, le=16_384, description="largest sum of the files of a bundle in MB")] = 512
    media_folder: Annotated[
        str | None,
        Meta(
            description="folder below which bundles may name files by file:// URLs, such as a card; without it, by https:// only",
            extra=file_key("read", "the media folder of bundles"),
        ),
    ] = None
    ca_file: Annotated[
        str | None,
        Meta(
            description="CA certificates (PEM) that servers of files are verified against; default: the system's",
            extra=file_key("read", "the CA file of bundles"),
        ),
    ] = None
