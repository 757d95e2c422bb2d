"""A fleet at a cluster of two brokers, one of which is killed in mid-run; writes docs/operations.md (`make fleet-cluster`).

Each simulated device has its own connection to one of two ejabberd nodes, publishes events with QoS 1 one after the other, and does what
the daemon does: an event that is not acknowledged is sent again, at the other node where this one does not answer.
`edgepose-export store` receives them with a session that the broker keeps, and keeps each once. Its node is the one that is killed.

Run it from the root of a checkout; needs Debian's package `ejabberd`.
"""

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import click

from edgepose.event import Event
from edgepose.messages.compose import event_message
from edgepose.messages.structs import encode
from edgepose_export.store.query import run_query
from testing.fleet_publisher import packet, publish_packet, string
from testing.killed_store import store_command
from testing.servers.ejabberd import ADDRESSES, EjabberdCluster
from tools.fleet import read_packet
from tools.machine import machine
from tools.write_reference import with_table

_FILES = 8192
_ANSWER_S = 20.0
_SETTLE_S = 60.0


@dataclass(slots=True)
class FleetLog:
    """What the devices know.

    Attributes:
        published: identifiers of all events.
        acknowledged: by the broker.
        sent_again: sent at another connection, since the first one ended before the acknowledgment.
        reconnects: connections that ended or failed.
    """

    published: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    sent_again: set[str] = field(default_factory=set)
    reconnects: int = 0


async def _connected(port: int, address: str, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), _ANSWER_S)
    body = string("MQTT") + b"\x04\xc2\x00\x3c" + string(name) + string(f"{name}@localhost") + string("x")
    writer.write(packet(0x10, body))
    head, answer = await asyncio.wait_for(read_packet(reader), _ANSWER_S)
    if head != 0x20 or answer[1]:
        writer.close()
        raise ConnectionError(f"refused: {answer!r}")
    return reader, writer


async def _device(number: int, port: int, interval_s: float, stop: asyncio.Event, log: FleetLog) -> None:
    """Publish events until `stop` is set, and the last one until it is acknowledged."""
    name, node, sequence = f"drone-{number}", number % 2, 0
    waiting: tuple[str, bytes] | None = None
    await asyncio.sleep(interval_s * (number % 1000) / 1000)
    while not (stop.is_set() and waiting is None):
        writer = None
        try:
            reader, writer = await _connected(port, ADDRESSES[node], name)
            if waiting is not None:
                log.sent_again.add(waiting[0])
            while not (stop.is_set() and waiting is None):
                if waiting is None:
                    waiting = _event(name, sequence)
                    log.published.add(waiting[0])
                    sequence += 1
                began_s = time.monotonic()
                writer.write(publish_packet(f"edgepose/{name}/cameras/front/events", waiting[1], sequence % 65_535 + 1))
                head = 0
                while head != 0x40:
                    head, _ = await asyncio.wait_for(read_packet(reader), _ANSWER_S)
                log.acknowledged.add(waiting[0])
                waiting = None
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), max(0.0, began_s + interval_s - time.monotonic()))
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            log.reconnects += 1
            node = 1 - node
            await asyncio.sleep(0.25 + (number % 100) / 50)  # not all at the same moment
        finally:
            if writer is not None:
                writer.close()


def _event(device: str, sequence: int) -> tuple[str, bytes]:
    at_ns = time.time_ns()
    event = Event("fallen", device, 0, sequence, at_ns, at_ns, "rtcp", 3, 0.9, (1.0, 2.0, 3.0, 4.0), 1280, 720)
    message = event_message(event)  # its identifier comes from the name of the camera, which is another one for each device
    return message.id, encode(message).replace(f'"camera":"{device}"'.encode(), b'"camera":"front"')


async def _fleet(count: int, port: int, interval_s: float, seconds: float, log: FleetLog) -> None:
    stop = asyncio.Event()
    devices = [asyncio.create_task(_device(number, port, interval_s, stop, log)) for number in range(count)]
    await asyncio.sleep(seconds)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*devices), 10 * _ANSWER_S)


def measure(count: int, rate_hz: float, seconds: float) -> str:
    """Return what happened, in sentences."""
    load = os.getloadavg()[0]
    log = FleetLog()
    with tempfile.TemporaryDirectory() as name, EjabberdCluster(Path(name)) as cluster:
        folder = Path(name) / "store"
        (Path(name) / "password").write_text("x\n")
        settings = [f"mqtt.host={json.dumps(list(ADDRESSES))}", "mqtt.username=store@localhost", f"mqtt.password_file={name}/password"]
        command = store_command(folder, cluster.port, "--flush-s", "1", *(word for setting in settings for word in ("--set", setting)))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr is not None
        while b"subscribed to" not in (line := process.stderr.readline()):
            assert line, "the store ended"
        lines: list[str] = []
        threading.Thread(target=lambda: lines.extend(text.decode() for text in process.stderr or ()), daemon=True).start()
        killed_at: list[float] = []

        def kill() -> None:
            cluster.kill(0)
            killed_at.append(time.monotonic())

        memory_mb = 0.0
        timer = threading.Timer(seconds / 2, kill)
        timer.start()
        asyncio.run(_fleet(count, cluster.port, count / rate_hz, seconds, log))
        memory_mb = cluster.memory_mb(1)
        began_s = time.monotonic()
        kept: set[str] = set()
        while time.monotonic() - began_s < _SETTLE_S and not log.published <= kept:
            time.sleep(2)
            kept = {str(row[0]) for row in list(run_query(folder, "SELECT id FROM events"))[1:]}
        process.send_signal(signal.SIGTERM)
        counts = json.loads(process.communicate(timeout=120)[0])
        rows = int(list(run_query(folder, "SELECT count(*) FROM events"))[1][0])
    vanished = log.published - kept
    lost_unacknowledged = {one for one in vanished if one in log.sent_again}
    assert log.published == log.acknowledged, "a device ended with an event that is not acknowledged"
    assert not lost_unacknowledged, f"{len(lost_unacknowledged)} events that were sent again did not arrive"
    assert rows == len(kept), "an event is kept twice"
    return "\n".join(
        [
            f"Two nodes of ejabberd {EjabberdCluster.version()} on {machine()}, beside other work (load {load:.0f}): {count} devices with"
            f" a connection each, half at each node, {rate_hz:g} events a second in all with QoS 1 for {seconds:g} s; after half of it the"
            " node of the store and of half of the devices was killed (SIGKILL).",
            "",
            "| published | acknowledged at last | sent again through the other node | of these arrived"
            " | acknowledged, and vanished in the broker | kept twice | repeated deliveries | memory of a node |",
            "|---|---|---|---|---|---|---|---|",
            f"| {len(log.published):,} | {len(log.acknowledged):,} | {len(log.sent_again):,} | {len(log.sent_again & kept):,}"
            f" | {len(vanished):,} | 0 | {counts['drops'].get('duplicate', 0):,} | {memory_mb:.0f} MB |",
        ]
    )


@click.command()
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--devices", default=1000, show_default=True)
@click.option("--rate", "rate_hz", default=200.0, show_default=True, help="Events a second of all devices.")
@click.option("--seconds", default=60.0, show_default=True)
def main(document: Path, devices: int, rate_hz: float, seconds: float) -> None:
    """Run it and write the figures into DOCUMENT."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most) if most > 0 else _FILES, most))
    text = measure(devices, rate_hz, seconds)
    document.write_text(with_table(document.read_text(encoding="utf-8"), "cluster", text), encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    sys.exit(main())
