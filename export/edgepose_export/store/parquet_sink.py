"""Rows as Parquet files in folders of days, each row once.

`poses/day=2026-11-30/part-LEVEL-NUMBER.parquet`: names hold nothing that a device says. A row's day is that of its capture time, so a
message that arrives twice lands in the same folder, where the row groups whose times overlap are searched for it. Small files of a day are
merged into larger ones. Each change is one rename; a merge, which is several, is written down first and is completed after a kill.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edgepose.errors import OutputError
from edgepose_export.store.forgotten import Oblivion
from edgepose_export.store.journal import sync_folder
from edgepose_export.store.parquet_tables import EVENTS, POSES, TABLES, TableLayout, events_table, poses_table
from edgepose_export.store.rows import DAY_US, EventRows, PosesRows

MERGE_FILES = 16
"""Files of one level that are merged into one of the next."""

MERGE_LIMIT_BYTES = 32 << 20
"""Longest sum of files that are merged: it bounds the memory of a merge."""

_ROW_GROUP = 16_384
_PART = re.compile(r"part-(\d+)-(\d+)\.parquet")
_MERGE = "merge.json"


class _Merge(msgspec.Struct):
    """A merge that is under way: paths relative to the store's folder."""

    new: str
    old: list[str]


@contextmanager
def files_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a store's Parquet files: one process changes them, or several read them."""
    descriptor = os.open(folder / "files.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class ParquetSink:
    """A store's folder of Parquet files.

    Args:
        folder: of the store.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._groups: dict[tuple[Path, int], Any] = {}  # earliest and latest times of the row groups by file and its size
        with _failures_named(folder):
            for layout in TABLES:
                (folder / layout.name).mkdir(parents=True, exist_ok=True)
            with files_lock(folder):
                self._complete_merge()
                for leftover in folder.glob("*/day=*/*.tmp"):
                    leftover.unlink()
        numbers = [int(found[2]) for layout in TABLES for path in self._parts(layout) if (found := _PART.fullmatch(path.name))]
        self._next = max(numbers, default=0) + 1

    def add(self, poses: PosesRows, events: EventRows) -> tuple[int, int, int]:
        """Keep rows that are not kept yet; see `TableSink`."""
        with _failures_named(self._folder), files_lock(self._folder):
            kept = self._add(POSES, poses_table(poses)) if len(poses) else POSES.schema.empty_table()
            kept_events = self._add(EVENTS, events_table(events)) if len(events) else EVENTS.schema.empty_table()
        people = pc.sum(pc.list_value_length(kept.column("people"))).as_py() or 0
        return len(kept), people, len(kept_events)

    def retain(self, days: int) -> int:
        """Remove whole days that ended more than some days ago, and return how many."""
        oldest = (datetime.now(timezone.utc) - timedelta(days=days)).strftime("day=%Y-%m-%d")
        removed = 0
        with _failures_named(self._folder), files_lock(self._folder):
            for layout in TABLES:
                for day in (self._folder / layout.name).glob("day=*"):
                    if day.name < oldest:
                        for path in day.iterdir():
                            path.unlink()
                        day.rmdir()
                        removed += 1
        return removed

    def forget(self, request: Oblivion) -> int:
        """Remove rows, and return how many."""
        removed = 0
        with _failures_named(self._folder), files_lock(self._folder):
            for layout in TABLES:
                for path in self._parts(layout):
                    removed += self._forget(layout, path, request)
        return removed

    def close(self) -> None:
        """Release nothing: no file stays open."""

    def _add(self, layout: TableLayout, table: pa.Table) -> pa.Table:
        """Write the rows that are new, a file for each day, and return them."""
        times = table.column(layout.time).cast(pa.int64()).to_numpy()
        days = times // DAY_US
        kept = []
        for day in np.unique(days).tolist():
            of_day = table.filter(pa.array(days == day)) if len(np.unique(days)) > 1 else table
            folder = self._folder / layout.name / f"day={_day_name(day)}"
            new = self._new_rows(layout, folder, of_day)
            if len(new):
                folder.mkdir(exist_ok=True)
                self._write(folder / f"part-0-{self._number():012d}.parquet", new.sort_by(layout.time))
                sync_folder(folder.parent)
                self._merge(layout, folder)
                kept.append(new)
        return pa.concat_tables(kept) if kept else layout.schema.empty_table()

    def _new_rows(self, layout: TableLayout, folder: Path, table: pa.Table) -> pa.Table:
        """Return the rows that are neither in the folder nor before them in the table."""
        known = self._known(layout, folder, table)
        mask = np.ones(len(table), bool)
        for number, key in enumerate(_names(layout, table)):
            if key in known:
                mask[number] = False
            known.add(key)
        return table if mask.all() else table.filter(pa.array(mask))

    def _known(self, layout: TableLayout, folder: Path, table: pa.Table) -> set[tuple[object, ...]]:
        """Return the names of the rows in a folder that have the time of a row of the table."""
        wanted = table.column(layout.time).unique()
        times = np.sort(wanted.cast(pa.int64()).to_numpy())
        known: set[tuple[object, ...]] = set()
        for path in sorted(folder.glob("part-*.parquet")):
            earliest, latest = self._ranges(layout, path)
            hits = np.flatnonzero(np.searchsorted(times, earliest, "left") < np.searchsorted(times, latest, "right"))
            if len(hits):
                with pq.ParquetFile(path) as file:
                    rows = file.read_row_groups(hits.tolist(), columns=[*layout.key, layout.time])
                known.update(_names(layout, rows.filter(pc.is_in(rows.column(layout.time), wanted))))
        return known

    def _ranges(self, layout: TableLayout, path: Path) -> Any:
        """Return the earliest and the latest time of each row group of a file, as two arrays of microseconds."""
        identity = (path, path.stat().st_size)
        if identity not in self._groups:
            if len(self._groups) > 10_000:
                self._groups.clear()
            metadata = pq.read_metadata(path)
            column = layout.schema.get_field_index(layout.time)
            statistics = [metadata.row_group(number).column(column).statistics for number in range(metadata.num_row_groups)]
            limits = [(_microseconds(one.min), _microseconds(one.max)) for one in statistics]
            self._groups[identity] = np.array(limits, np.int64).reshape(-1, 2).T
        return self._groups[identity]

    def _merge(self, layout: TableLayout, folder: Path) -> None:
        """Merge small files of a day, level by level."""
        level = 0
        while True:
            parts = sorted(folder.glob(f"part-{level}-*.parquet"))
            if not parts:
                return
            level += 1
            if len(parts) < MERGE_FILES or sum(path.stat().st_size for path in parts) > MERGE_LIMIT_BYTES:
                continue
            new = folder / f"part-{level}-{self._number():012d}.parquet"
            self._write(new.with_suffix(".tmp"), pa.concat_tables([_read(layout, path) for path in parts]).sort_by(layout.time))
            pa.default_memory_pool().release_unused()
            merge = _Merge(str(new.relative_to(self._folder)), [str(path.relative_to(self._folder)) for path in parts])
            self._write_bytes(self._folder / _MERGE, msgspec.json.encode(merge))
            self._complete_merge()

    def _complete_merge(self) -> None:
        """Complete the merge that is written down, if one is."""
        path = self._folder / _MERGE
        if not path.exists():
            return
        merge = msgspec.json.decode(path.read_bytes(), type=_Merge)
        new = self._folder / merge.new
        for old in merge.old:
            (self._folder / old).unlink(missing_ok=True)
        if new.with_suffix(".tmp").exists():
            new.with_suffix(".tmp").rename(new)
        sync_folder(new.parent)
        path.unlink()
        sync_folder(self._folder)

    def _forget(self, layout: TableLayout, path: Path, request: Oblivion) -> int:
        with pq.ParquetFile(path) as file:
            devices = file.read(columns=["device"]).column("device")
        if not pc.any(pc.equal(devices, request.device)).as_py():
            return 0
        table = _read(layout, path)
        goes = pc.and_(
            pc.equal(table.column("device"), request.device),
            pc.less(table.column(layout.time).cast(pa.int64()), request.before_us),
        )
        if request.camera is not None:
            goes = pc.and_(goes, pc.equal(table.column("camera"), request.camera))
        kept = table.filter(pc.invert(goes))
        if len(kept):
            self._write(path, kept)
        else:
            path.unlink()
            sync_folder(path.parent)
        return len(table) - len(kept)

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _parts(self, layout: TableLayout) -> list[Path]:
        return sorted((self._folder / layout.name).glob("day=*/part-*.parquet"))

    def _write(self, path: Path, table: pa.Table) -> None:
        """Write a file that is either whole on the disk under its name, or not there."""
        sink = pa.BufferOutputStream()
        texts = [field.name for field in table.schema if field.type == pa.string()]
        pq.write_table(table, sink, row_group_size=_ROW_GROUP, compression="zstd", use_dictionary=texts)
        self._write_bytes(path, sink.getvalue())

    def _write_bytes(self, path: Path, data: bytes | pa.Buffer) -> None:
        written = path.with_name(path.name + ".tmp")
        with written.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        written.rename(path)
        sync_folder(path.parent)


def _read(layout: TableLayout, path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read().cast(layout.schema)


def _names(layout: TableLayout, table: pa.Table) -> Iterator[tuple[object, ...]]:
    """Return the key and the time of each row, which a repeated delivery has in common with the first."""
    columns: Sequence[list[object]] = [table.column(name).to_pylist() for name in layout.key]
    columns = [*columns, table.column(layout.time).cast(pa.int64()).to_pylist()]
    return zip(*columns, strict=True)


def _day_name(day: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(days=day)).strftime("%Y-%m-%d")


def _microseconds(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


@contextmanager
def _failures_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(f"the Parquet files in {folder} cannot be changed: {reason}; expected a folder on a disk with room") from error
