"""A subscriber that keeps all messages of a device, with their times of arrival."""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from testing.waiting import wait_for

_TURN_S = 0.02


class _Poses(msgspec.Struct):
    sequence: int
    captured_at: str
    age_ms: float
    width: int
    height: int
    people: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Pose:
    """A pose message.

    Attributes:
        heard_s: monotonic time of its arrival.
        captured_ns: when the frame was captured, ns since the epoch, as the message says.
        written_s: age of the frame when the message was written, seconds, as the message says.
        age_s: age of the frame when the message arrived.
        people: their number.
    """

    heard_s: float
    captured_ns: int
    written_s: float
    age_s: float
    sequence: int
    width: int
    height: int
    people: int


@dataclass
class Said:
    """Messages so far; each with the monotonic time of its arrival."""

    poses: list[Pose] = field(default_factory=list)
    cameras: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    device: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    health: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    info: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


class Recorder:
    """A subscriber to all topics of one device, which reconnects within some hundredths of a second; a context manager.

    Args:
        base: first parts of the device's topics.
        offsets_s: how far the device's wall clock is ahead of the host's; two while it is being put, and the better one counts.
    """

    def __init__(self, port: int, base: str, username: str | None = None, password: str | None = None) -> None:
        self.said = Said()
        self.offsets_s: Sequence[float] = (0.0,)
        self._base = base
        self._port = port
        self._connected = threading.Event()
        self._ending = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(username, password)
        self._client.on_message = self._take
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._connected.set()
        self._client.on_disconnect = lambda *_: self._connected.clear()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(5)

    def ready(self, within_s: float = 10.0) -> None:
        """Wait until it is subscribed (again)."""
        wait_for(self._connected.is_set, within_s=within_s)

    def deaf(self) -> None:
        """Note that the broker was ended, so that `ready` waits for the next connection."""
        wait_for(lambda: not self._connected.is_set(), within_s=10)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._client.connect("127.0.0.1", self._port, keepalive=600)
                while not self._ending.is_set() and self._client.loop(_TURN_S) == 0:
                    pass
            except OSError:
                pass
            self._ending.wait(_TURN_S)
        self._client.disconnect()

    def _subscribe(self, client: Client, *_: object) -> None:
        client.subscribe(f"{self._base}/#", 1)

    def _take(self, client: Client, _: object, message: MQTTMessage) -> None:
        heard_s, now_ns = time.monotonic(), time.time_ns()
        address = message.topic.removeprefix(f"{self._base}/")
        if address.endswith("/poses"):
            poses = msgspec.json.decode(message.payload, type=_Poses)
            captured_ns = nanoseconds(poses.captured_at)
            age_s = min(((now_ns - captured_ns) / 1e9 + offset_s for offset_s in self.offsets_s), key=abs)
            written_s = poses.age_ms / 1000
            pose = Pose(heard_s, captured_ns, written_s, age_s, poses.sequence, poses.width, poses.height, len(poses.people))
            self.said.poses.append(pose)
            return
        kept = {"status": self.said.device, "health": self.said.health, "info": self.said.info}.get(address)
        if kept is None and address.startswith("cameras/"):
            kept = self.said.events if address.endswith("/events") else self.said.cameras
        if kept is not None:
            with contextlib.suppress(ValueError, RecursionError):  # somebody else may write there
                kept.append((heard_s, msgspec.json.decode(message.payload)))


def nanoseconds(rfc3339: str) -> int:
    """Return a time of a message as nanoseconds since the epoch."""
    moment = datetime.fromisoformat(rfc3339.replace("Z", "+00:00"))
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
