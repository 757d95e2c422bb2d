"""The settings of the publisher: what of a configuration decides about publishing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from edgepose.config import schema
from edgepose.config.load import device_name
from edgepose.errors import ConfigError
from edgepose.messages.structs import InfoMessage, Message, encode
from edgepose.mqtt.outbox import Outgoing, RetainedState


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """The settings of the publisher, as values.

    Attributes:
        mqtt: the section of the broker.
        device: name of this device in topics; ConfigError where it cannot be part of one.
        commands: whether commands are subscribed to.
        store: file that keeps messages with QoS 1 until the broker has them; None keeps them in memory only.
        queue_limit: most messages with QoS 1 that wait; the oldest is dropped first.
    """

    mqtt: schema.MqttConfig
    device: str
    commands: bool = False
    store: Path | None = None
    queue_limit: int = 1000

    def __post_init__(self) -> None:
        if not self.device or set(self.device) & set("/+#\0"):
            raise ConfigError(
                f"the device name {self.device!r} cannot be part of a topic; expected one that is not empty and has no '/', '+' or '#'"
            )

    @classmethod
    def of(cls, config: schema.Config) -> "PublisherSettings":
        """Return the settings of a configuration."""
        store = Path(config.events.store) if config.events.enabled and config.events.store is not None else None
        return cls(config.mqtt, device_name(config), config.commands.enabled, store, config.events.store_limit)

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
            return Outgoing(f"{self.base}/{state.address}", self.encode(payload), qos=1, retained=True)

        return encoded

    def encode(self, payload: Message | bytes) -> bytes:
        """Return a message as it is sent to the broker."""
        return payload if isinstance(payload, bytes) else encode(payload, self.mqtt.encoding)
