"""Load and kills of `edgepose-export store`, with Parquet and with PostgreSQL; writes docs/store.md (`make store`).

The load: 10,000 messages of two people a second through one mosquitto, all with QoS 1, for some seconds. The kills: SIGKILL at random
moments while messages arrive, and then each message that the broker has acknowledged must be there once.
"""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from testing.fleet_publisher import FleetPublisher
from testing.killed_store import fleet_messages, killed_store, store_command
from testing.requirements import missing
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for
from tools.machine import core_s, machine
from tools.write_reference import with_table

RATE_HZ = 10_000
_BATCH = 500
_BROKER = "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true"


def measured_load(folder: Path, port: int, seconds: float, options: list[str]) -> str:
    """Return a row of the table: what a store made of the load."""
    process = subprocess.Popen(store_command(folder, port, "--flush-s", "2", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b"subscribed to" not in process.stderr.readline():
        pass
    total = round(seconds * RATE_HZ)
    batches = [fleet_messages(first, _BATCH, devices=200) for first in range(0, total, _BATCH)]
    before_s, began_s = core_s(process.pid), time.monotonic()
    with FleetPublisher(port, "load") as publisher:
        for number, batch in enumerate(batches):
            time.sleep(max(0.0, began_s + number * _BATCH / RATE_HZ - time.monotonic()))
            publisher.publish(batch)
    published_s = time.monotonic() - began_s
    time.sleep(2.5)  # the last segment is closed by then, or soon
    wait_for(lambda: not any((folder / "journal").glob("*.segment")), within_s=60, every_s=0.1)
    kept_s, used_s = time.monotonic() - began_s, core_s(process.pid) - before_s
    memory_mb = int(Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    process.send_signal(signal.SIGTERM)
    written = process.communicate(timeout=60)[0]
    assert f'"poses":{total},"people":{2 * total},'.encode() in written, written
    return (
        f"| {2 * total / published_s:,.0f} rows/s in {total / published_s:,.0f} messages/s | {total:,} of {total:,}"
        f" | {kept_s - published_s:.1f} s"
        f" | {1e6 * used_s / total:.0f} µs a message, {used_s / published_s:.0%} of a core | {memory_mb:.0f} MB |"
    )


@click.command()
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seconds", default=20.0, show_default=True, help="Duration of the load.")
@click.option("--kills", default=20, show_default=True, help="Number of SIGKILLs.")
def main(document: Path, seconds: float, kills: int) -> None:
    """Measure both kinds of store and write the table into DOCUMENT."""
    load = os.getloadavg()[0]
    lines = [
        f"{machine()}, beside other work (load {load:.0f}); broker, publisher, database and store share it. {seconds:g} s of messages"
        f" with two people, QoS 1; then {kills} SIGKILLs at random moments while 1,000 messages a second arrive.",
        "",
        "| | received | kept | after the last message | processor time of the store | memory | kills: messages and events, each once |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name, Mosquitto(Path(name), lines=_BROKER) as broker, ExitStack() as opened:
        folder = Path(name)
        row = measured_load(folder / "load", broker.port, seconds, [])
        done = killed_store(folder / "kills", broker.port, kills=kills, every_s=1.0)
        from edgepose_export.store.query import run_query

        found = [
            *list(run_query(folder / "kills", "SELECT count(*), count(DISTINCT (device, session, camera, epoch, sequence)) FROM poses"))[1],
            *list(run_query(folder / "kills", "SELECT count(*), count(DISTINCT id) FROM events"))[1],
        ]
        assert found == [done.poses, done.poses, done.events, done.events], (found, done)
        lines.append(f"| Parquet {row} {done.poses:,} and {done.events:,} |")
        click.echo(lines[-1])
        if (reason := missing("psycopg", "postgres")) is not None:
            click.echo(f"without PostgreSQL: {reason}")
        else:
            import psycopg

            from edgepose_export.store.postgres_sink import tables_sql
            from testing.servers.postgres import Postgres

            server = opened.enter_context(Postgres())
            with psycopg.connect(server.address(), autocommit=True) as owner:
                owner.execute(tables_sql())
                owner.execute("CREATE ROLE store LOGIN; GRANT edgepose_writer TO store")
                options = ["--postgres", server.address("store"), "--client-id", "postgres"]
                row = measured_load(folder / "load-postgres", broker.port, seconds, options)
                owner.execute("TRUNCATE edgepose.poses, edgepose.events")
                done = killed_store(folder / "kills-postgres", broker.port, kills=kills, every_s=1.0, options=options[:2])
                counted = "SELECT (SELECT count(*) FROM edgepose.poses), (SELECT count(*) FROM edgepose.events)"
                assert owner.execute(counted).fetchone() == (done.poses, done.events), done  # the primary keys hold each once
            lines.append(f"| PostgreSQL {row} {done.poses:,} and {done.events:,} |")
            click.echo(lines[-1])
    document.write_text(with_table(document.read_text(encoding="utf-8"), "store", "\n".join(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()
