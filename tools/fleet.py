"""Load test of one mosquitto with many devices: throughput, latency and cost (`make fleet`).

Each simulated device has its own connection and publishes pose messages of one to three people ten times a second. The program's own
encoder writes each message at the moment when it is sent. One subscriber receives all. Devices, broker and subscriber are three processes
that share this machine, so the table gives the load of each: where devices or subscriber reach their limit, the broker has not.

Run it from the root of a checkout; needs `mosquitto`.
"""

import asyncio
import contextlib
import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from multiprocessing.synchronize import Event
from pathlib import Path

import click
import msgspec
import numpy as np

from edgepose.frame import Frame
from edgepose.messages.compose import poses_message
from edgepose.messages.structs import PosesMessage, encode, timestamp
from edgepose.person import Person
from testing.fleet_publisher import packet, string
from testing.servers.mosquitto import Mosquitto
from tools.machine import core_s, machine
from tools.write_reference import with_table

RATE_HZ = 10
_WARM_UP_S = 3.0
_FILES = 8192


class _Pose(msgspec.Struct):
    captured_at: str


@dataclass(frozen=True)
class Row:
    """Results of one fleet: messages per second, shares of one core, megabytes, milliseconds."""

    devices: int
    sent: float
    received: float
    lost: int
    bytes_each: float
    devices_cpu: float
    broker_cpu: float
    subscriber_cpu: float
    broker_mb: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def _people(rng: np.random.Generator) -> list[Person]:
    """Return one to three people of a typical size in a 720p frame."""
    people = []
    for track in range(int(rng.integers(1, 4))):
        corner, size = rng.uniform((0, 0), (1100, 400)), rng.uniform((60, 150), (180, 320))
        keypoints = np.concatenate([corner + rng.uniform(0, 1, (17, 2)) * size, rng.uniform(0, 1, (17, 1))], axis=1)
        people.append(Person(np.concatenate([corner, corner + size]).astype(np.float32), 0.8, keypoints.astype(np.float32), track))
    return people


def _messages() -> list[PosesMessage]:
    rng = np.random.default_rng(0)
    frame = Frame(image=np.zeros((720, 1280, 3), np.uint8), captured_at_ns=0, clock="rtcp", sequence=0, camera="front")
    return [poses_message(frame, _people(rng), 0) for _ in range(100)]


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the next packet: its first byte and its body."""
    head = (await reader.readexactly(1))[0]
    size = shift = 0
    while True:
        group = (await reader.readexactly(1))[0]
        size |= (group & 127) << shift
        shift += 7
        if group < 128:
            return head, await reader.readexactly(size)


async def _connect(port: int, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open an MQTT 3.1.1 session.

    Raises:
        AssertionError: the broker refuses.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(packet(0x10, string("MQTT") + b"\x04\x02\x00\x00" + string(name)))
    head, body = await read_packet(reader)
    assert (head, body[1]) == (0x20, 0), f"the broker refused {name}: {body!r}"
    return reader, writer


async def _devices(port: int, count: int, go: Event, stop: Event, sent: "multiprocessing.Queue[tuple[int, int, float]]") -> None:
    messages = _messages()
    writers = [(await _connect(port, f"device-{number}"))[1] for number in range(count)]
    topics = [string(f"edgepose/device-{number}/cameras/front/poses") for number in range(count)]
    while not go.is_set():
        await asyncio.sleep(0.01)
    turn, published, size, cpu_s = 0, 0, 0, time.process_time()
    began_s = time.monotonic()
    while not stop.is_set():
        # Device n has its turn n / count of a period after the first, so that the fleet does not publish all at the same time.
        await asyncio.sleep(max(0.0, began_s + turn / (count * RATE_HZ) - time.monotonic()))
        number = turn % count
        message = msgspec.structs.replace(messages[turn % len(messages)], sequence=turn // count, captured_at=timestamp(time.time_ns()))
        message_packet = packet(0x30, topics[number] + encode(message))
        writers[number].write(message_packet)
        turn, published, size = turn + 1, published + 1, size + len(message_packet)
    used_s = time.process_time() - cpu_s
    for writer in writers:
        with contextlib.suppress(OSError):
            await asyncio.wait_for(writer.drain(), 5)
    sent.put((published, size, used_s / (time.monotonic() - began_s)))
    for writer in writers:
        writer.close()


async def _subscriber(port: int, ready: Event, stop: Event, heard: "multiprocessing.Queue[tuple[list[float], float]]") -> None:
    reader, writer = await _connect(port, "subscriber")
    writer.write(packet(0x82, b"\x00\x01" + string("edgepose/#") + b"\x00"))
    await read_packet(reader)
    decoder = msgspec.json.Decoder(_Pose)
    ready.set()
    ages_ms: list[float] = []
    began_s, cpu_s = time.monotonic(), time.process_time()
    while True:
        try:
            _, body = await asyncio.wait_for(read_packet(reader), 1.0)
        except TimeoutError:
            if stop.is_set():  # and no message for a second
                break
            continue
        now_s = time.time()
        said = decoder.decode(body[2 + int.from_bytes(body[:2], "big") :]).captured_at
        ages_ms.append((now_s - datetime.fromisoformat(said.replace("Z", "+00:00")).astimezone(timezone.utc).timestamp()) * 1e3)
    heard.put((ages_ms, (time.process_time() - cpu_s) / (time.monotonic() - began_s)))
    writer.close()


def _run(coroutine: object, *arguments: object) -> None:
    asyncio.run(coroutine(*arguments))  # type: ignore[operator]


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(count: int, seconds: float) -> Row:
    """Measure one fleet of `count` devices for `seconds`."""
    context = multiprocessing.get_context("spawn")
    go, ready, stop = context.Event(), context.Event(), context.Event()
    sent, heard = context.Queue(), context.Queue()
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder), lines="max_connections -1\nset_tcp_nodelay true") as broker:
        subscriber = context.Process(target=_run, args=(_subscriber, broker.port, ready, stop, heard))
        devices = context.Process(target=_run, args=(_devices, broker.port, count, go, stop, sent))
        subscriber.start()
        devices.start()
        try:
            assert ready.wait(30), "the subscriber did not come up"
            time.sleep(_WARM_UP_S)
            pid = broker.pid
            began_s, cpu_s = time.monotonic(), core_s(pid)
            go.set()
            time.sleep(seconds)
            broker_cpu, memory_mb = (core_s(pid) - cpu_s) / (time.monotonic() - began_s), _rss_mb(pid)
            stop.set()
            published, size, devices_cpu = sent.get(timeout=60)
            ages_ms, subscriber_cpu = heard.get(timeout=60)
        finally:
            for process in (devices, subscriber):
                process.join(10)
                process.kill()
    p50, p95, p99 = np.percentile(ages_ms, (50, 95, 99))
    return Row(
        devices=count,
        sent=published / seconds,
        received=len(ages_ms) / seconds,
        lost=published - len(ages_ms),
        bytes_each=size / published,
        devices_cpu=devices_cpu,
        broker_cpu=broker_cpu,
        subscriber_cpu=subscriber_cpu,
        broker_mb=memory_mb,
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
    )


def table(rows: list[Row], seconds: float, load: float) -> str:
    """Return the rows as Markdown, with the machine and its load."""
    version = os.popen("mosquitto -h").readline().split()[-1]
    lines = [
        f"mosquitto {version} on {machine()}, beside other work (load {load:.0f}); {seconds:g} s each, messages of "
        f"{rows[-1].bytes_each:.0f} bytes on average, without TLS.",
        "",
        "| devices | messages/s sent | received | lost | broker: core | memory | devices: core | subscriber: core | p50 | p95 | p99 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.devices} | {row.sent:.0f} | {row.received:.0f} | {row.lost} | {row.broker_cpu:.0%} | {row.broker_mb:.0f} MB "
        f"| {row.devices_cpu:.0%} | {row.subscriber_cpu:.0%} | {row.p50_ms:.1f} ms | {row.p95_ms:.1f} ms | {row.p99_ms:.1f} ms |"
        for row in rows
    ]
    return "\n".join(lines)


@click.command(epilog="Example: python -m tools.fleet docs/operations.md --devices 10,100")
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--devices", default="10,50,100,200,500,1000", help="sizes of the fleet")
@click.option("--seconds", type=float, default=15.0, help="duration of each measurement")
def main(document: Path, devices: str, seconds: float) -> None:
    """Measure fleets of simulated devices and write the table into DOCUMENT."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most) if most > 0 else _FILES, most))
    rows = []
    load = os.getloadavg()[0]
    for count in devices.split(","):
        rows.append(measure(int(count), seconds))
        click.echo(table(rows[-1:], seconds, load).splitlines()[-1])
    document.write_text(with_table(document.read_text(encoding="utf-8"), "fleet", table(rows, seconds, load)), encoding="utf-8")


if __name__ == "__main__":
    main()
