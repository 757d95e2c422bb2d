"""The two tables of a store as Arrow tables: their columns, and how rows become one."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import UNSET
from numpy.typing import NDArray

from edgepose.messages.structs import EventMessage
from edgepose_export.store.rows import EventRows, PosesRows

_TIME = pa.timestamp("us", tz="UTC")
_KEYPOINTS = pa.list_(pa.struct([("x", pa.float32()), ("y", pa.float32()), ("confidence", pa.float32())]))
_PERSON = pa.struct(
    [
        ("track", pa.int64()),
        ("score", pa.float32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("width", pa.float32()),
        ("height", pa.float32()),
        ("keypoints", _KEYPOINTS),
    ]
)


@dataclass(frozen=True, slots=True)
class TableLayout:
    """The layout of a table.

    Attributes:
        name: of the table, and of its folder.
        schema: its columns.
        time: column that days are cut by.
        key: columns that name a row for ever.
    """

    name: str
    schema: pa.Schema
    time: str
    key: tuple[str, ...]


POSES = TableLayout(
    "poses",
    pa.schema(
        [
            ("device", pa.string()),
            ("session", pa.string()),
            ("camera", pa.string()),
            ("epoch", pa.int64()),
            ("sequence", pa.int64()),
            ("captured_at", _TIME),
            ("received_at", _TIME),
            ("clock", pa.string()),
            ("age_ms", pa.float32()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("pixel_aspect", pa.float32()),
            ("people", pa.list_(_PERSON)),
        ]
    ),
    "captured_at",
    ("device", "session", "camera", "epoch", "sequence"),
)

EVENTS = TableLayout(
    "events",
    pa.schema(
        [
            ("device", pa.string()),
            ("id", pa.string()),
            ("kind", pa.string()),
            ("camera", pa.string()),
            ("epoch", pa.int64()),
            ("sequence", pa.int64()),
            ("track", pa.int64()),
            ("at", _TIME),
            ("since", _TIME),
            ("received_at", _TIME),
            ("clock", pa.string()),
            ("score", pa.float32()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("box", pa.list_(pa.float32())),
            ("zone", pa.string()),
            ("line", pa.string()),
            ("direction", pa.string()),
            ("evidence", pa.string()),
        ]
    ),
    "at",
    ("device", "id"),
)

TABLES = (POSES, EVENTS)


def poses_table(rows: PosesRows) -> pa.Table:
    """Return pose messages as a table."""
    keys = list(zip(*rows.keys, strict=True)) or [()] * len(POSES.key)
    columns: list[Sequence[object]] = [*keys, rows.captured_us, rows.received_us, rows.clocks]
    columns += [rows.age_ms, rows.widths, rows.heights, rows.pixel_aspects]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, POSES.schema.types, strict=False)]
    people = people_array(rows.counts, rows.tracks, rows.scores, rows.boxes, rows.keypoints)
    return pa.Table.from_arrays([*arrays, people], schema=POSES.schema)


def people_array(
    counts: Sequence[int],
    tracks: Sequence[int | None],
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    keypoints: NDArray[np.float32],
) -> pa.Array:
    """Return the column `people` of as many rows as there are counts; the other arguments are those of `PosesRows`."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    points = np.ascontiguousarray(keypoints.reshape(-1, 3).T)
    lists = pa.ListArray.from_arrays(
        np.arange(0, 17 * len(tracks) + 1, 17, dtype=np.int32),
        pa.StructArray.from_arrays([pa.array(values) for values in points], fields=list(_KEYPOINTS.value_type)),
    )
    edges = [pa.array(values) for values in np.ascontiguousarray(boxes.T)]
    people = pa.StructArray.from_arrays([pa.array(tracks, pa.int64()), pa.array(scores), *edges, lists], fields=list(_PERSON))
    return pa.ListArray.from_arrays(offsets, people)


def events_table(rows: EventRows) -> pa.Table:
    """Return events as a table; the evidence is a text in JSON."""
    values = [
        _event_row(key, message, at_us, since_us, received_us)
        for key, message, at_us, since_us, received_us in zip(
            rows.keys, rows.messages, rows.at_us, rows.since_us, rows.received_us, strict=True
        )
    ]
    return pa.Table.from_pylist(values, EVENTS.schema)


def _event_row(key: tuple[str, str], message: EventMessage, at_us: int, since_us: int, received_us: int) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(message, name) for name in message.__struct_fields__ if name in EVENTS.schema.names}
    row |= {"device": key[0], "at": at_us, "since": since_us, "received_at": received_us, "box": list(message.box)}
    row["evidence"] = msgspec.json.encode(message.evidence).decode()
    return {name: None if value is UNSET else value for name, value in row.items()}
