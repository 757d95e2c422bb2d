"""A live view of what daemons publish, for `edgepose watch` and other programs."""

import re
import threading
import time
from collections.abc import Callable
from types import TracebackType

import msgspec

from edgepose.config.schema import MqttConfig
from edgepose.errors import OutputError
from edgepose.messages.live_table import LiveTable, decode_poses
from edgepose.messages.structs import encode
from edgepose.mqtt.subscriber import Subscriber, Take

_TURN_S = 0.1

# What JSON allows in a text and a terminal obeys: DEL, the controls of Latin-1, line separators, and marks that turn the direction of text.
# Line breaks between values make several lines of one message.
_UNSAFE = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


class Watcher:
    """A subscription to one device or all, with a live table of them; a context manager.

    What the broker retains of cameras whose device is not online, or no longer has them, is not in the table.

    Attributes:
        table: latest state from all received messages.
    """

    def __init__(self, mqtt: MqttConfig, device: str | None = None, *, poses: bool = True, take: Take | None = None) -> None:
        """
        Args:
            mqtt: the broker and the prefix of topics.
            device: name of the only device; None for all.
            poses: whether to subscribe to poses, too.
            take: takes topic and payload of each message after the table did, in the subscriber's thread.

        Raises:
            ConfigError: the password or a certificate cannot be read.
        """
        self.table = LiveTable(mqtt.prefix)
        self._base = f"{mqtt.prefix.strip('/')}/{device or '+'}"
        self._also_take = take
        self._heard = threading.Event()
        topics = ["status", "info", "cameras/+/status", "cameras/+/events", *(["cameras/+/poses"] if poses else [])]
        self._subscriber = Subscriber(mqtt, [f"{self._base}/{topic}" for topic in topics], self._take)
        self._start_s = time.monotonic()

    def __enter__(self) -> "Watcher":
        """Connect; OutputError where the broker refuses the connection or does not answer within the connect timeout."""
        self._start_s = time.monotonic()
        self._subscriber.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Disconnect."""
        self._subscriber.__exit__(kind, error, trace)

    def wait(self, stop: threading.Event, seconds: float | None = None, turn: Callable[[], bool] = lambda: True) -> None:
        """Wait until `stop` is set or the time is over.

        Args:
            seconds: longest time since the connection began; None for no limit.
            turn: called several times a second; False ends the wait.
        """
        end_s = self._start_s + seconds if seconds is not None else float("inf")
        while time.monotonic() < end_s and not stop.wait(_TURN_S) and turn():
            pass

    def silence(self) -> str | None:
        """Return a sentence where no message has arrived so far, None otherwise."""
        if self._heard.is_set():
            return None
        return f"received nothing under {self._base} in {time.monotonic() - self._start_s:.0f} s"

    def _take(self, topic: str, payload: bytes) -> None:
        self._heard.set()
        self.table.take(topic, payload, time.monotonic())
        if self._also_take is not None:
            self._also_take(topic, payload)


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"".join(b"\\u%04x" % ord(character) for character in found[0].decode("utf-8", "replace"))


def as_json(topic: str, payload: bytes) -> bytes | None:
    """Return the payload of a message as JSON, None where it is in no encoding of ours."""
    try:
        if topic.endswith("/poses") and payload[:1] == b"\x01":
            return _UNSAFE.sub(_escaped, encode(decode_poses(payload, topic.split("/")[-2])))
        if payload[:1] != b"{":
            return _UNSAFE.sub(_escaped, msgspec.json.encode(msgspec.msgpack.decode(payload)))
        if _UNSAFE.search(payload) is None:
            return payload
        return _UNSAFE.sub(_escaped, msgspec.json.encode(msgspec.json.decode(payload)))
    except (msgspec.MsgspecError, OutputError, UnicodeDecodeError, RecursionError):
        return None
