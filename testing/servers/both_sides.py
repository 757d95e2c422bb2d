"""Both sides of a broker: a plain subscriber that keeps all messages, and the publisher under test."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edgepose.config.schema import MqttConfig
from edgepose.messages.structs import BackendMessage, InfoMessage, ModelMessage
from edgepose.mqtt.command_inbox import Command
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
from testing.waiting import PATIENCE

STATUS = "edgepose/drone/status"
INFO = InfoMessage(
    device="drone",
    started_at="2026-11-22T10:00:00.000000Z",
    versions={"edgepose": "0"},
    model=ModelMessage(name="n.onnx", sha256="0" * 64),
    backend=BackendMessage(name="onnxruntime-cpu", device="cpu", precision="int8", reason="the only one"),
    cameras=[],
)


class Listener:
    """A plain subscriber that keeps all messages."""

    def __init__(self, port: int, topics: str = "#", *, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5):
        self.messages: list[MQTTMessage] = []
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self._client.on_message = lambda _client, _data, message: self.messages.append(message)
        self._subscribed = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe(topics, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10 * PATIENCE)

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def on(self, topic: str) -> list[MQTTMessage]:
        return [message for message in self.messages if message.topic == topic]

    def states(self) -> list[str]:
        return [json.loads(message.payload)["state"] for message in self.on(STATUS)]


@contextmanager
def publishing(
    port: int,
    *,
    start: bool = True,
    commands: Callable[[Command], None] | None = None,
    store: Path | None = None,
    queue_limit: int = 1000,
    response_topics: tuple[str, ...] = (),
    **settings: Any,
) -> Iterator[MqttPublisher]:
    """Run a publisher with these settings of `mqtt`."""
    options: dict[str, Any] = {"keepalive_s": 2, "host": "127.0.0.1"} | settings
    mqtt = MqttConfig(port=port, **options)
    publisher = MqttPublisher(PublisherSettings(mqtt, "drone", commands is not None, store, queue_limit, response_topics), commands)
    try:
        if start:
            publisher.start(INFO)
        yield publisher
    finally:
        publisher.stop()
