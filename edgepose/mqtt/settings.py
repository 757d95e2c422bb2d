"""Settings of the MQTT side: the broker's address and credentials, and how messages are published."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from edgepose.config import schema
from edgepose.config.load import device_name
from edgepose.errors import ConfigError
from edgepose.ground import WorldPlaces
from edgepose.messages import compact
from edgepose.messages.camera_places import NOWHERE
from edgepose.messages.home_assistant import check_discovery, discovery
from edgepose.messages.occupancy_states import occupancy_addresses
from edgepose.messages.schema import topic_address
from edgepose.messages.structs import InfoMessage, Message, PosesMessage, encode
from edgepose.mqtt.connect_errors import HandshakeError, describe
from edgepose.mqtt.outbox import Outgoing, RetainedState
from edgepose.mqtt.protocol import PREFIX_LIMIT_BYTES, filter_fault, prefix_fault
from edgepose.printable import printable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Address and credentials of the broker; read before anything runs, so that an unreadable file is found then.

    Attributes:
        host: the first host; sessions replace it by the one whose turn it is.
    """

    host: str
    port: int
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None
    has_certificate: bool
    ca_file: str | None
    keepalive_s: int
    connect_timeout_s: float
    content_type: str

    @staticmethod
    def read(mqtt: schema.MqttConfig) -> "BrokerSettings":
        """Read password and certificates; ConfigError names the file, or the prefix of topics, that cannot be used."""
        if (fault := prefix_fault(mqtt.prefix)) is not None:
            raise ConfigError(
                f"mqtt.prefix: {printable(mqtt.prefix, 40)!r} cannot begin a topic: {fault}; expected up to {PREFIX_LIMIT_BYTES} bytes of "
                "printable text that does not begin with '$'"
            )
        return BrokerSettings(
            host=mqtt.hosts[0],
            port=mqtt.port or (8883 if mqtt.tls.enabled else 1883),
            username=mqtt.username,
            password=_read_password(mqtt.password_file) if mqtt.password_file else None,
            tls=_tls_context(mqtt.tls) if mqtt.tls.enabled else None,
            has_certificate=mqtt.tls.certificate_file is not None,
            ca_file=mqtt.tls.ca_file,
            keepalive_s=mqtt.keepalive_s,
            connect_timeout_s=mqtt.connect_timeout_s,
            content_type=f"application/{mqtt.message_encoding}",
        )


class ReloadingSettings:
    """Broker settings that follow their files: a password or a certificate may be replaced while the daemon runs.

    Args:
        mqtt: the configuration's section; ConfigError names the file that cannot be used.

    Attributes:
        current: as read last.
    """

    def __init__(self, mqtt: schema.MqttConfig) -> None:
        self._mqtt = mqtt
        self._stamps = self._read_stamps()
        self.current = BrokerSettings.read(mqtt)

    def refresh(self) -> BrokerSettings:
        """Return the settings, read again where the files have changed; an unusable file is logged once, and changes nothing."""
        stamps = self._read_stamps()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self.current = BrokerSettings.read(self._mqtt)
                _log.info("password and certificates for the MQTT broker have changed and were read again")
            except ConfigError as error:
                _log.warning("%s The previous credentials stay in use.", error)
        return self.current

    def _read_stamps(self) -> list[tuple[int, int, int] | None]:
        tls = self._mqtt.tls
        return [_stamp(path) for path in (self._mqtt.password_file, tls.ca_file, tls.certificate_file, tls.key_file) if path]


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """The settings of the publisher, as values.

    Attributes:
        mqtt: the section of the broker.
        device: name of this device in topics; ConfigError where it cannot be part of one.
        commands: whether commands are subscribed to.
        store: file that keeps messages with QoS 1 until the broker has them; None keeps them in memory only.
        queue_limit: most messages with QoS 1 that wait; the oldest is dropped first.
        response_topics: topic filters of the places outside the device's own `reply/` where replies may go; ConfigError where one is none.
        states: addresses of the retained states that this device has, or soon has: they are not cleared as those of a camera that is gone.
        bundle_topics: where bundles for this device and its groups arrive; none where they are off.
    """

    mqtt: schema.MqttConfig
    device: str
    commands: bool = False
    store: Path | None = None
    queue_limit: int = 1000
    response_topics: tuple[str, ...] = ()
    states: frozenset[str] = frozenset()
    bundle_topics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.response_topics:
            if (fault := filter_fault(pattern)) is not None:
                raise ConfigError(
                    f"commands.response_topics: {printable(pattern, 40)!r} is no topic filter: {fault}; "
                    "expected one such as clients/+/replies"
                )
        if not self.device or set(self.device) & set("/+#\0"):
            raise ConfigError(
                f"the device name {self.device!r} cannot be part of a topic; expected one that is not empty and has no '/', '+' or '#'"
            )
        if self.mqtt.home_assistant.enabled:
            check_discovery(self.mqtt, self.device)

    @classmethod
    def of(cls, config: schema.Config, on_map: WorldPlaces = NOWHERE) -> "PublisherSettings":
        """Return the settings of a configuration, and of the zones and lines on the map."""
        store = Path(config.events.store) if config.events.enabled and config.events.store is not None else None
        replies = tuple(config.commands.response_topics)
        return cls(
            config.mqtt,
            device_name(config),
            config.commands.enabled,
            store,
            config.events.store_limit,
            replies,
            state_addresses(config, on_map),
            bundle_topics(config),
        )

    @property
    def base(self) -> str:
        """The beginning of all topics: `<prefix>/<device>`."""
        return f"{self.mqtt.prefix.strip('/')}/{self.device}"

    def state_encoder(self, session: str) -> Callable[[RetainedState], Outgoing]:
        """Return what encodes retained states for one session, whose identifier goes into the info message."""

        def encoded(state: RetainedState) -> Outgoing:
            payload = state.payload
            if isinstance(payload, InfoMessage):
                payload = replace(payload, session=session)
            topic = state.address if state.whole else f"{self.base}/{state.address}"
            return Outgoing(topic, self.encode(payload), qos=1, retained=True)

        return encoded

    def encode(self, payload: Message | bytes) -> bytes:
        """Return a message as it is sent to the broker."""
        if isinstance(payload, bytes):
            return payload
        if self.mqtt.encoding == "compact" and isinstance(payload, PosesMessage):
            return compact.encode(payload)
        return encode(payload, self.mqtt.message_encoding)


def state_addresses(config: schema.Config, on_map: WorldPlaces = NOWHERE) -> frozenset[str]:
    """Return the addresses of all retained states: of cameras, of places with people, and of announcements.

    Args:
        config: names cameras, and places in their frames.
        on_map: zones and lines on the map.
    """
    cameras = [topic_address("camera-status", camera) for camera in config.cameras]
    return frozenset([*cameras, *occupancy_addresses(config, on_map), *discovery(config, device_name(config), on_map)])


def bundle_topics(config: schema.Config) -> tuple[str, ...]:
    """Return the topics on which bundles arrive: of the device, and of each of its groups; none where bundles are off."""
    if not config.bundles.enabled:
        return ()
    prefix = config.mqtt.prefix.strip("/")
    return tuple(f"{prefix}/{whose}/bundle/new" for whose in (device_name(config), *(f"groups/{group}" for group in config.bundles.groups)))


class _TlsSocket(ssl.SSLSocket):
    """A socket that closes itself when the handshake fails, which paho leaves to the garbage collector, and keeps the last alert."""

    fault: ssl.SSLError | None = None

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise HandshakeError(error) from error

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.fault = error
            raise


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read_password(path: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"mqtt.password_file: {path} cannot be read: {reason}; expected a readable file with the password in its first line"
        ) from error
    if not lines or not lines[0]:
        raise ConfigError(f"mqtt.password_file: the first line of {path} is empty; expected the password there")
    return lines[0]


def _tls_context(tls: schema.TlsConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise ConfigError(
            f"mqtt.tls.ca_file: {tls.ca_file} cannot be used: {describe(error)}; expected a file of PEM certificates"
        ) from error
    context.sslsocket_class = _TlsSocket
    if tls.certificate_file is not None:
        try:
            context.load_cert_chain(tls.certificate_file, tls.key_file, password=_no_password)
        except OSError as error:
            raise ConfigError(
                f"mqtt.tls.certificate_file: {tls.certificate_file} with its key in {tls.key_file or 'the same file'} cannot be used: "
                f"{describe(error)}; expected a PEM certificate and its unencrypted key"
            ) from error
    return context


def _no_password() -> str:
    raise OSError("the key is encrypted")  # otherwise OpenSSL asks at the terminal, and waits
