"""The results of one video: pose messages as JSON lines, the same as Parquet, and its events."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edgepose.output.files import FilePosesMessage
from edgepose_export.store.parquet_tables import POSES, people_array

_BATCH = 2000

SCHEMA = pa.schema([("source", pa.string()), *(field for field in POSES.schema if field.name not in ("device", "session", "received_at"))])
"""Columns of the Parquet file: those of the store's table of poses, with the source in the place of the device."""


def write_parquet(jsonl: Path, target: Path) -> int:
    """Write the pose messages of a file of JSON lines as Parquet, and return their number; memory stays small."""
    total = 0
    with pq.ParquetWriter(target, SCHEMA, compression="zstd") as writer:
        for messages in _batches(jsonl):
            writer.write_table(_table(messages))
            total += len(messages)
    return total


def _batches(jsonl: Path) -> Iterator[list[FilePosesMessage]]:
    decoder = msgspec.json.Decoder(FilePosesMessage)
    batch: list[FilePosesMessage] = []
    with jsonl.open("rb") as file:
        for line in file:
            batch.append(decoder.decode(line))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _table(messages: list[FilePosesMessage]) -> pa.Table:
    people = [person for message in messages for person in message.people]
    columns = {
        "source": [message.source for message in messages],
        "camera": [message.camera for message in messages],
        "epoch": [message.epoch for message in messages],
        "sequence": [message.sequence for message in messages],
        "captured_at": np.array([message.captured_at.rstrip("Z") for message in messages], "datetime64[us]"),
        "clock": [message.clock for message in messages],
        "age_ms": [message.age_ms for message in messages],
        "width": [message.width for message in messages],
        "height": [message.height for message in messages],
        "pixel_aspect": [1.0 if message.pixel_aspect is msgspec.UNSET else message.pixel_aspect for message in messages],
        "people": people_array(
            [len(message.people) for message in messages],
            [None if person.track is msgspec.UNSET else person.track for person in people],
            np.array([person.score for person in people], np.float32),
            np.array([person.box for person in people], np.float32).reshape(-1, 4),
            np.array([person.keypoints for person in people], np.float32).reshape(-1, 17, 3),
        ),
    }
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values).cast(pa.timestamp("us")).cast(field.type)
        if field.name == "captured_at" else pa.array(values, field.type)
        for field, values in zip(SCHEMA, (columns[field.name] for field in SCHEMA), strict=True)
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
