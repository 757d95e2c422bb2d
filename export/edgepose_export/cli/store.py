"""`edgepose-export store`: keeps what a fleet publishes."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepose.cli.options import configuration_options

if TYPE_CHECKING:
    from edgepose_export.store.sink import TableSink

_folder = click.Path(path_type=Path, file_okay=False)


@click.group(
    invoke_without_command=True,
    epilog="Example: edgepose-export store --to poses --retain 30 --set mqtt.host=broker.local",
)
@click.option("--to", "folder", type=_folder, metavar="DIR", help="Folder of the journal and of the Parquet files.")
@click.option("--postgres", metavar="ADDRESS", help="Keep rows in this PostgreSQL database; the journal stays in DIR. No password here.")
@click.option("--retain", type=click.IntRange(1, 366), metavar="DAYS", help="Remove days that ended longer ago; never if absent.")
@click.option("--client-id", default="edgepose-store", show_default=True, help="Name of the session that the broker keeps.")
@click.option("--session-days", type=click.IntRange(1, 365), default=7, show_default=True, help="How long the broker keeps it (MQTT 5).")
@click.option(
    "--flush-s", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds until a message is in the tables."
)
@click.option("--message-limit-kb", type=click.IntRange(1, 65_536), default=1024, show_default=True, help="Longest message that is kept.")
@click.option("--journal-limit-mb", type=click.IntRange(64), default=4096, show_default=True, help="What may wait for the tables.")
@configuration_options
@click.pass_context
def store(
    context: click.Context,
    folder: Path | None,
    postgres: str | None,
    retain: int | None,
    client_id: str,
    session_days: int,
    flush_s: float,
    message_limit_kb: int,
    journal_limit_mb: int,
    config_file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Subscribe to a fleet and keep its poses and events, each message once, until Ctrl-C or SIGTERM.

    A message is acknowledged when it is on the disk. Standard output gets the counters as one JSON object at the end.
    """
    if context.invoked_subcommand is not None:
        return
    import logging

    import msgspec

    from edgepose.cli.log import log_to_stderr
    from edgepose.config.load import load
    from edgepose.errors import UsageError
    from edgepose.supervision.signals import signals
    from edgepose_export.store.service import Store, StoreSettings, only_writer

    if folder is None:
        raise UsageError("--to is missing; expected the folder of the store")
    if not (client_id.isprintable() and 0 < len(client_id) <= 64):
        raise UsageError(f"--client-id is {client_id!r}; expected up to 64 printable characters")
    log_to_stderr("info")
    logging.getLogger("edgepose_export").parent = logging.getLogger("edgepose")  # which has the handlers
    mqtt = load(config_file, settings).mqtt
    with only_writer(folder), signals() as (stop, _):
        values = StoreSettings(
            folder=folder,
            client_id=client_id,
            session_days=session_days,
            flush_s=flush_s,
            retain_days=retain,
            message_limit_bytes=message_limit_kb << 10,
            journal_limit_bytes=journal_limit_mb << 20,
        )
        running = Store(values, mqtt, _sink(folder, postgres))
        try:
            running.run(stop)
        finally:
            click.echo(msgspec.json.encode(running.counts.values()))


@store.command(epilog="Example: edgepose-export store forget poses --device drone-7")
@click.argument("folder", type=_folder)
@click.option("--device", required=True, help="Name of the device.")
@click.option("--camera", help="Name of its camera; all of them if absent.")
@click.option("--before", metavar="TIME", help="Forget what was captured before, such as 2026-11-29T10:00:00Z; now if absent.")
@click.option("--postgres", metavar="ADDRESS", help="The database that keeps the rows, with a role that may delete.")
def forget(folder: Path, device: str, camera: str | None, before: str | None, postgres: str | None) -> None:
    """Remove the poses and events of a device from the store in FOLDER, also while it runs.

    Messages that are still in the journal are not kept either: those of a running store within its --flush-s.
    """
    import time

    from edgepose.errors import UsageError
    from edgepose_export.store.forgotten import Oblivion, remember

    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; expected that of `edgepose-export store --to`")
    now_ns = time.time_ns()
    before_us = now_ns // 1000 if before is None else _time_us(before)
    request = Oblivion(device=device, camera=camera, before_us=before_us)
    remember(folder, request)
    sink = _sink(folder, postgres)
    try:
        removed = sink.forget(request)
    finally:
        sink.close()
    click.echo(f"{removed} messages and events are removed", err=True)


@store.command(epilog='Example: edgepose-export store query poses "SELECT device, count(*) FROM people GROUP BY device"')
@click.argument("folder", type=_folder)
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a row; CSV if absent.")
def query(folder: Path, sql: str, as_json: bool) -> None:
    """Run one SQL statement over the Parquet files of the store in FOLDER: views poses, people and events (DuckDB).

    The statement can read the store's folder and nothing else, and changes nothing.
    """
    import csv
    import sys

    import msgspec

    from edgepose_export.store.query import run_query

    rows = run_query(folder, sql)
    columns = next(rows)
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(dict(zip(columns, row, strict=True))))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


@store.command()
def sql() -> None:
    """Write the statements that make the tables, functions and roles in PostgreSQL."""
    from edgepose_export.store.postgres_sink import tables_sql

    click.echo(tables_sql(), nl=False)


def _sink(folder: Path, postgres: str | None) -> "TableSink":
    if postgres is None:
        from edgepose_export.store.parquet_sink import ParquetSink

        return ParquetSink(folder)
    from edgepose_export.store.postgres_sink import PostgresSink

    return PostgresSink(postgres)


def _time_us(text: str) -> int:
    from datetime import datetime, timedelta, timezone

    from edgepose.errors import UsageError

    try:
        time = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        if time.tzinfo is None:
            raise ValueError
    except ValueError as error:
        raise UsageError(f"--before is {text!r}; expected a time with its zone, such as 2026-11-29T10:00:00Z") from error
    return (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
