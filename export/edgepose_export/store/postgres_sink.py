"""Rows in PostgreSQL: partitions of days, binary COPY, each row once by the primary key.

The role needs INSERT and SELECT on two tables and the right to call two functions (`postgres_tables.sql`). No text of a device is ever
part of a statement: rows travel as COPY data.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
import psycopg
from msgspec import UNSET
from numpy.typing import NDArray
from psycopg import conninfo

from edgepose.errors import ConfigError, OutputError
from edgepose_export.store.forgotten import Oblivion
from edgepose_export.store.rows import DAY_US, EventRows, PosesRows

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONNECT_S = 10
_STATEMENT_MS = 120_000
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
_POSTGRES_EPOCH_US = 10_957 * DAY_US  # 2000-01-01
_INT8, _FLOAT4 = 20, 700  # OIDs of the types of elements
_NULL = struct.pack(">i", -1)
_BIG, _INT, _REAL = struct.Struct(">iq"), struct.Struct(">ii"), struct.Struct(">if")
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])
_SUMS = "SELECT count(*), coalesce(sum(cardinality(scores)), 0) FROM new"


def tables_sql() -> str:
    """Return the statements that make the tables, functions and roles."""
    return files("edgepose_export.store").joinpath("postgres_tables.sql").read_text(encoding="utf-8")


def checked_address(address: str) -> str:
    """Return a connection string with TLS and time-outs.

    Args:
        address: a URL or keywords and values, as libpq takes them.

    Raises:
        ConfigError: it holds a password, or names another machine without verified TLS.
    """
    try:
        values: dict[str, Any] = conninfo.conninfo_to_dict(address)
    except psycopg.Error as error:
        raise ConfigError(
            f"--postgres is no address of a database ({error}); expected one such as postgresql://store@host/poses"
        ) from error
    if values.get("password"):
        raise ConfigError(
            "--postgres holds a password, which other users of this machine can see; expected it in a file (passfile=FILE, ~/.pgpass)"
        )
    hosts = [host for key in ("host", "hostaddr") for host in str(values.get(key) or "").split(",")]
    away = [host for host in hosts if host and host not in _LOOPBACK and not host.startswith("/")]
    mode = values.get("sslmode")
    if away and mode not in (None, "verify-full"):
        raise ConfigError(f"--postgres has sslmode={mode} for host {away[0]}; expected verify-full off this machine")
    if away:
        values["sslmode"] = "verify-full"
        values.setdefault("sslrootcert", "system")
    values.setdefault("connect_timeout", _CONNECT_S)
    values.setdefault("application_name", "edgepose-export store")
    values.setdefault("options", f"-c statement_timeout={_STATEMENT_MS} -c timezone=UTC")
    return str(conninfo.make_conninfo(**values))


class PostgresSink:
    """The tables of a store in a PostgreSQL database; connects when it is used, and again after a failure.

    Args:
        address: as `checked_address` takes it.

    Raises:
        ConfigError: as `checked_address`.
    """

    def __init__(self, address: str) -> None:
        self._address = checked_address(address)
        self._connection: psycopg.Connection[Any] | None = None
        self._days: set[int] = set()

    def add(self, poses: PosesRows, events: EventRows) -> tuple[int, int, int]:
        """Keep rows that are not kept yet; see `TableSink`."""
        with self._transaction() as cursor:
            self._make_days(cursor, [*poses.captured_us, *events.at_us])
        new_poses, people = len(poses), len(poses.tracks)
        try:
            with self._transaction() as cursor:
                _copy(cursor, "edgepose.poses", _poses_copy(poses))
                _copy(cursor, "edgepose.events", _events_copy(events))
            return new_poses, people, len(events)
        except _NotNewError:
            pass
        # Rare: some rows were kept before the process was killed, or were delivered twice.
        with self._transaction() as cursor:
            new_poses, people = self._merge(cursor, "poses", _poses_copy(poses), _SUMS)
            new_events, _ = self._merge(cursor, "events", _events_copy(events), "SELECT count(*), 0 FROM new")
        return new_poses, people, new_events

    def retain(self, days: int) -> int:
        """Drop the partitions of days that ended more than some days ago, and return how many."""
        with self._transaction() as cursor:
            cursor.execute("SELECT edgepose.drop_days(current_date - %s)", (days,))
            row = cursor.fetchone()
            self._days.clear()
            return int(row[0]) if row else 0

    def forget(self, request: Oblivion) -> int:
        """Remove rows, and return how many; the role needs DELETE, which that of a running store should not have."""
        removed = 0
        with self._transaction() as cursor:
            for table, time in (("poses", "captured_at"), ("events", "at")):
                cursor.execute(
                    f"DELETE FROM edgepose.{table} WHERE device = %s AND (%s::text IS NULL OR camera = %s)"
                    f" AND {time} < to_timestamp(%s::double precision / 1e6)",
                    (request.device, request.camera, request.camera, request.before_us),
                )
                removed += cursor.rowcount
        return removed

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _make_days(self, cursor: psycopg.Cursor[Any], times_us: Sequence[int]) -> None:
        for day in sorted({time // DAY_US for time in times_us} - self._days):
            cursor.execute("SELECT edgepose.make_day(date '1970-01-01' + %s)", (day,))
            self._days.add(day)

    @staticmethod
    def _merge(cursor: psycopg.Cursor[Any], table: str, data: bytes, sums: str) -> tuple[int, int]:
        cursor.execute(f"CREATE TEMP TABLE staged_{table} (LIKE edgepose.{table}) ON COMMIT DROP")
        _copy(cursor, f"staged_{table}", data)
        cursor.execute(f"WITH new AS (INSERT INTO edgepose.{table} SELECT * FROM staged_{table} ON CONFLICT DO NOTHING RETURNING *) {sums}")
        row = cursor.fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._address)
            with self._connection.transaction(), self._connection.cursor() as cursor:
                yield cursor
        except psycopg.errors.UniqueViolation as error:
            raise _NotNewError from error
        except psycopg.Error as error:
            self._days.clear()  # the partitions of a transaction that failed are not there
            self.close()
            reason = " ".join(str(error).split())
            raise OutputError(
                f"PostgreSQL does not take the rows: {reason}; "
                "expected the tables of `edgepose-export store sql`, and a role that may write them"
            ) from error


class _NotNewError(Exception):
    """A row is kept already."""


def _copy(cursor: psycopg.Cursor[Any], table: str, data: bytes) -> None:
    with cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(_COPY_HEAD)
        copy.write(data)
        copy.write(_COPY_END)


def _poses_copy(rows: PosesRows) -> bytes:
    """Return rows in the binary format of COPY, without its head and end."""
    boxes, keypoints, scores = (_elements(values) for values in (rows.boxes, rows.keypoints, rows.scores))
    out: list[bytes] = []
    begin = 0
    fields = struct.pack(">h", 16)
    for number, (device, session, camera, epoch, sequence) in enumerate(rows.keys):
        count = rows.counts[number]
        end = begin + count
        out += (fields, _text(device), _text(session), _text(camera), _BIG.pack(8, epoch), _BIG.pack(8, sequence))
        out += (_time(rows.captured_us[number]), _time(rows.received_us[number]), _text(rows.clocks[number]))
        out += (_REAL.pack(4, rows.age_ms[number]), _INT.pack(4, rows.widths[number]), _INT.pack(4, rows.heights[number]))
        out += (_REAL.pack(4, rows.pixel_aspects[number]), _tracks(rows.tracks[begin:end]))
        for values, width, shape in ((scores, 1, ()), (boxes, 4, (4,)), (keypoints, 51, (17, 3))):
            out.append(_array(_FLOAT4, (count, *shape), values[8 * width * begin : 8 * width * end]))
        begin = end
    return b"".join(out)


def _events_copy(rows: EventRows) -> bytes:
    out: list[bytes] = []
    for number, message in enumerate(rows.messages):
        box = _elements(np.array(message.box, np.float32))
        evidence = b"\x01" + msgspec.json.encode(message.evidence)  # jsonb, version 1
        out += (struct.pack(">h", 19), _text(rows.keys[number][0]), _text(message.id), _text(message.kind), _text(message.camera))
        out += (_BIG.pack(8, message.epoch), _BIG.pack(8, message.sequence), _BIG.pack(8, message.track))
        out += (_time(rows.at_us[number]), _time(rows.since_us[number]), _time(rows.received_us[number]), _text(message.clock))
        out += (_REAL.pack(4, message.score), _INT.pack(4, message.width), _INT.pack(4, message.height), _array(_FLOAT4, (4,), box))
        out += [_NULL if text is UNSET else _text(text) for text in (message.zone, message.line, message.direction)]
        out.append(struct.pack(">i", len(evidence)) + evidence)
    return b"".join(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">i", len(data)) + data


def _time(us: int) -> bytes:
    return _BIG.pack(8, us - _POSTGRES_EPOCH_US)


def _elements(values: NDArray[np.float32]) -> bytes:
    elements = np.empty(values.size, _ELEMENT)
    elements["length"], elements["value"] = 4, values.reshape(-1)
    return elements.tobytes()


def _tracks(tracks: Sequence[int | None]) -> bytes:
    return _array(_INT8, (len(tracks),), b"".join(_NULL if track is None else _BIG.pack(8, track) for track in tracks), None in tracks)


def _array(kind: int, shape: tuple[int, ...], elements: bytes, has_null: bool = False) -> bytes:
    """Return an array with its length: dimensions, whether there are nulls, type, and size and first index of each dimension."""
    if not shape[0]:
        shape = ()
    head = struct.pack(">iii", len(shape), has_null, kind) + b"".join(struct.pack(">ii", size, 1) for size in shape)
    return struct.pack(">i", len(head) + len(elements)) + head + elements
