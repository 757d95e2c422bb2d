"""Fuzzing of MQTT messages: malformed commands and states to a real daemon over a real broker."""

import json
import queue
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgepose.messages.command_requests import REQUESTS
from testing.faults.world import DEVICE, World, street_video
from testing.fuzz.tally import Tally
from testing.waiting import wait_for

_BASE = f"edgepose/{DEVICE}"
_TOGETHER = 25  # fewer than the daemon lets wait
_PATIENCE_S = 20.0
_FENCE = "fence/reply"
_ANSWERED = ("replies/a", "r" * 200, "é/ü")
_GOOD: dict[str, list[dict[str, Any]]] = {
    "reload": [{}],
    "set-threshold": [{"score_threshold": 0.3}, {"keypoint_threshold": 0.2, "low_score_threshold": 0.1}],
    "pause": [{}, {"camera": "front"}],
    "resume": [{}, {"camera": "front"}],
    "snapshot": [{"camera": "front"}, {"camera": "front", "width": 160}],
}


class Messages:
    """A generator of messages."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def __call__(self) -> tuple[str, bytes, int, bool, Properties | None]:
        """Return topic, payload, QoS, whether it is retained, and properties."""
        draw = self._draw
        name = draw.choice([*REQUESTS, *REQUESTS, *REQUESTS, self._word(), "x" * 300, "..", "%s", "é"]) or "x"
        topic = f"{_BASE}/status" if draw.random() < 0.1 else f"{_BASE}/command/{name}"
        return topic, self._payload(name), draw.choice((0, 1, 2)), draw.random() < 0.05, self._properties()

    def _payload(self, name: str) -> bytes:
        draw = self._draw
        good = json.dumps(draw.choice(_GOOD.get(name, [{}]))).encode()
        kind = draw.randrange(9)
        if kind == 0:
            return draw.randbytes(draw.choice((0, 1, 10, 1000)))
        if kind == 1:
            return good
        if kind == 2:
            inner = draw.choice((b"", b'{"state": ', b'{"camera": ', b'{"x": '))
            return inner + b"[" * draw.choice((1, 100, 5000)) + b"]" * draw.choice((0, 100))
        if kind == 3:
            return json.dumps({draw.choice([*self._keys(), self._text()]): self._value() for _ in range(draw.randrange(4))}).encode("utf-8")
        if kind == 4:
            return json.dumps(self._value()).encode()
        if kind == 5:
            return b"{" + b'"a":1,' * draw.choice((1, 100, 12_000)) + b'"b":2}'
        if kind == 6:
            state = {"schema": 1, "state": draw.choice(("online", "offline", "x")), "reason": self._text(), "session": self._text()}
            return json.dumps(state | {"at": "2026-01-01T00:00:00.000000Z"}).encode()
        damaged = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        return bytes(damaged)

    def _properties(self) -> Properties | None:
        draw = self._draw
        if draw.random() < 0.4:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if draw.random() < 0.7:
            # A wish to be answered on the device's own topics must not be granted.
            properties.ResponseTopic = draw.choice((*_ANSWERED, f"{_BASE}/command/pause", f"{_BASE}/status", f"{_BASE}/reply/x"))
        if draw.random() < 0.7:
            properties.CorrelationData = draw.randbytes(draw.choice((0, 1, 16, 2000)))
        if draw.random() < 0.2:
            properties.UserProperty = (self._word(), self._word())
        return properties

    def _keys(self) -> list[str]:
        return ["camera", "width", "score_threshold", "keypoint_threshold", "low_score_threshold"]

    def _value(self, depth: int = 0) -> Any:
        draw = self._draw
        if depth < 3 and draw.random() < 0.2:
            return [self._value(depth + 1) for _ in range(draw.randrange(4))]
        if depth < 3 and draw.random() < 0.2:
            return {self._text(): self._value(depth + 1)}
        choices = (None, True, 0, -1, 1, 0.5, 2**64, -(2**70), 1e308, float("nan"), float("inf"), "front", "", self._text(), "x" * 2000)
        return draw.choice(choices)

    def _text(self, letters: str = "ab/._- \t\n\"'\\{}[]%$é☃𝄞\u202e\ufeff") -> str:
        return "".join(self._draw.choice(letters) for _ in range(self._draw.randrange(12)))

    def _word(self) -> str:
        """Return text that a broker accepts in a topic or a property: mosquitto disconnects on control characters."""
        return self._text("ab._- \"'\\{}[]%$é☃𝄞\u202e\ufeff")


def fuzz(count: int, told: Callable[[], None] = lambda: None, seed: int = 12) -> Tally:
    """Send that many messages; those that get no reply (states, expired commands, oversized ones) count as passed over."""
    tally = Tally()
    with (
        tempfile.TemporaryDirectory(prefix="edgepose-fuzz-") as folder,
        World(Path(folder), street_video(Path(folder), minutes=60)) as world,
    ):
        world.settings |= {"commands.enabled": "true", "commands.snapshot": "true", "commands.audit": str(Path(folder) / "audit.jsonl")}
        world.settings["commands.response_topics"] = f'["{_FENCE}", "replies/+", "+", "{_ANSWERED[-1]}"]'
        world.start()
        replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        fences: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()
        client = _client(world, replies, fences)
        draw = Messages(seed)
        sent = 0
        while sent < count:
            batch = min(_TOGETHER, count - sent)
            said = []
            for _ in range(batch):
                topic, payload, qos, retained, properties = draw()
                said.append((topic, payload[:80]))
                client.publish(topic, payload, qos, retained, properties)
                told()
            sent += batch
            bad = _fence(world, client, fences, str(sent).encode())
            obeyed = refused = 0
            while not replies.empty():
                status = replies.get()
                obeyed, refused = obeyed + (status == "ok"), refused + (status == "refused")
            tally.counts["accepted"] += obeyed
            tally.counts["refused"] += refused
            if bad is not None:
                tally.add(bad, f"one of {said!r}: {world.last_words()}")
                break
        tally.counts["passed over"] = sent - tally.total
        try:
            world.healed()
            world.back()
            world.conclude()
        except AssertionError as error:
            tally.add("hang", str(error))
        for sentence in world.found.broken:
            if "event" not in sentence and "nobody" not in sentence:  # thresholds were changed and cameras paused meanwhile
                tally.add("wrong", sentence)
        client.disconnect()
        client.loop_stop()
    return tally


def _client(world: World, replies: "queue.SimpleQueue[str]", fences: "queue.SimpleQueue[tuple[bytes, bytes]]") -> Client:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)

    def take(_: Client, __: object, message: MQTTMessage) -> None:
        if message.topic == _FENCE:
            fences.put((bytes(message.properties.CorrelationData), bytes(message.payload)))  # type: ignore[union-attr]
            return
        try:
            status = json.loads(message.payload).get("status")
        except (ValueError, AttributeError, RecursionError):
            return
        if status in ("ok", "refused") and "/command/" not in message.topic:
            replies.put(status)

    subscribed = threading.Event()
    client.on_message = take

    def subscribe(*_: object) -> None:
        # Not to what this test itself publishes: paho hangs up on some of it.
        client.subscribe([(topic, 1) for topic in (*_ANSWERED, _FENCE, f"{_BASE}/reply/#")])

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: subscribed.set()
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", world.broker.port)
    client.loop_start()
    wait_for(subscribed.is_set)
    return client


def _fence(world: World, client: Client, fences: "queue.SimpleQueue[tuple[bytes, bytes]]", correlation: bytes) -> str | None:
    """Wait for the reply to a good command after the others; return `crash` or `hang` where there is none."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic, properties.CorrelationData = _FENCE, correlation
        # With QoS 2: a broker passes such a message on late, when it is released, so one with QoS 1 would overtake those before it.
        client.publish(f"{_BASE}/command/resume", b"{}", 2, properties=properties)
        try:
            answered, payload = fences.get(timeout=1)
        except queue.Empty:
            if world.daemon.poll() is not None:
                return "crash"
            continue
        if answered != correlation:
            continue  # to an earlier fence, which was sent again on a busy machine
        if json.loads(payload)["status"] == "ok":
            return None
        time.sleep(0.1)  # too many wait
    return "hang"
