"""A store that is killed again and again while a fleet publishes: the scene of its test, of its bar and of the chapter in docs/store.md."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from edgepose.event import Event
from edgepose.messages.compose import event_message
from edgepose.messages.structs import encode, timestamp
from testing.fleet_publisher import FleetPublisher, some_poses
from testing.waiting import wait_for

_BATCH = 50
_MESSAGES_A_SECOND = 1000


@dataclass(slots=True)
class Published:
    """What the broker has acknowledged, and so must be kept, each once."""

    poses: int = 0
    events: int = 0


def fleet_messages(first: int, count: int, devices: int = 20) -> list[tuple[str, bytes]]:
    """Return pose messages with topics, each of a key of its own."""
    poses = some_poses(20)
    now_ns = time.time_ns()
    return [
        (
            f"edgepose/drone-{number % devices}/cameras/front/poses",
            encode(replace(poses[number % 20], session="5e55", sequence=number // devices, captured_at=timestamp(now_ns + number * 1000))),
        )
        for number in range(first, first + count)
    ]


def fleet_event(number: int) -> tuple[str, bytes]:
    """Return an event with its topic."""
    at_ns = time.time_ns()
    event = Event("fallen", "front", 0, number, at_ns, at_ns, "rtcp", 3, 0.9, (1.0, 2.0, 3.0, 4.0), 1280, 720)
    return f"edgepose/drone-{number % 20}/cameras/front/events", encode(event_message(event))


def store_command(folder: Path, port: int, *options: str) -> list[str]:
    """Return the command line of a store at a broker on this machine."""
    return [sys.executable, "-m", "edgepose_export", "store", "--to", str(folder), "--set", f"mqtt.port={port}", *options]


def killed_store(folder: Path, port: int, *, kills: int, every_s: float, options: Sequence[str] = ()) -> Published:
    """Kill a store (SIGKILL) at random moments while messages arrive, start it each time, and end when the journal is in the tables.

    Args:
        folder: of the store.
        port: of a broker that keeps what a session has not acknowledged.
        kills: how many.
        every_s: longest time from the start of receiving to the kill, seconds.
        options: of the store.
    """
    command = store_command(folder, port, "--client-id", folder.name, "--flush-s", "0.1", *options)
    published, stop = Published(), threading.Event()
    draw = random.Random(7)

    def start() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        for line in process.stderr:  # until it receives
            if b"subscribed to" in line:
                return process
        raise AssertionError("the store ended")

    def publish() -> None:
        with FleetPublisher(port, f"{folder.name}-fleet") as publisher:
            while not stop.is_set():
                published.poses += publisher.publish(fleet_messages(published.poses, _BATCH))
                published.events += publisher.publish([fleet_event(published.events)])
                stop.wait(_BATCH / _MESSAGES_A_SECOND)

    def end(process: "subprocess.Popen[bytes]", number: int) -> None:
        process.send_signal(number)
        process.communicate(timeout=120)

    process = start()
    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(kills):
            time.sleep(draw.uniform(0, every_s))
            end(process, signal.SIGKILL)
            process = start()
    finally:
        stop.set()
        thread.join(60)
    with FleetPublisher(port, f"{folder.name}-last") as publisher:
        published.events += publisher.publish([fleet_event(published.events)])
    # Everything is received when the last event is.
    wait_for(lambda: _holds_event(folder, published.events - 1, options), within_s=60, every_s=0.2)
    end(process, signal.SIGTERM)
    return published


def _holds_event(folder: Path, number: int, options: Sequence[str]) -> bool:
    if options:  # the tables are elsewhere: a moment without segments must do
        time.sleep(2)
        return not any((folder / "journal").glob("*.segment"))
    from edgepose.errors import UsageError
    from edgepose_export.store.query import run_query

    try:
        found = list(run_query(folder, f"SELECT count(*) FROM events WHERE sequence = {number}"))
    except UsageError:
        return False
    return bool(found[1][0])
