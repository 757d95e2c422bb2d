"""Queries over a store's Parquet files with DuckDB, which may read the store's folder and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from edgepose.errors import UsageError
from edgepose_export.store.parquet_sink import files_lock
from edgepose_export.store.parquet_tables import TABLES, TableLayout

_PEOPLE = """
CREATE VIEW people AS
SELECT device, session, camera, epoch, sequence, captured_at, person.track, person.score, person.x, person.y, person.width, person.height,
    person.keypoints
FROM (SELECT *, unnest(people) AS person FROM poses)
"""

_TYPES = {
    "int64": "BIGINT",
    "int32": "INTEGER",
    "float": "FLOAT",
    "string": "VARCHAR",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
    "box": "FLOAT[]",
    "people": "STRUCT(track BIGINT, score FLOAT, x FLOAT, y FLOAT, width FLOAT, height FLOAT,"
    " keypoints STRUCT(x FLOAT, y FLOAT, confidence FLOAT)[])[]",
}
"""Types of the columns in DuckDB, by the type in Parquet or, for lists, by the name of the column."""


def run_query(folder: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    """Yield the names of the columns, then the rows of a query over the views `poses`, `people` and `events`.

    Args:
        folder: of the store.
        sql: one statement; it can change nothing.

    Raises:
        UsageError: DuckDB does not accept it.
    """
    if not any((folder / layout.name).is_dir() for layout in TABLES):
        raise UsageError(f"{folder} is no store; expected the folder of `edgepose-export store --to`")
    with files_lock(folder, shared=True), duckdb.connect(config={"temp_directory": ""}) as database:
        try:
            for layout in TABLES:
                database.execute(_view(folder, layout))
            database.execute(_PEOPLE)
            database.execute(f"SET allowed_directories = ['{_quoted(folder)}']")
            database.execute("SET enable_external_access = false")
            database.execute("SET TimeZone = 'UTC'")
            database.execute("SET lock_configuration = true")
            result = database.execute(sql)
            yield tuple(column[0] for column in result.description or ())
            while row := result.fetchone():
                yield row
        except duckdb.Error as error:
            raise UsageError(f"DuckDB does not accept the query: {error}; expected SQL over the views poses, people and events") from error


def _view(folder: Path, layout: TableLayout) -> str:
    """Return the statement that makes the view of a table, which may have no file yet."""
    place = folder / layout.name
    if next(place.glob("day=*/*.parquet"), None) is None:
        columns = ", ".join(f'NULL::{_TYPES.get(field.name) or _TYPES[str(field.type)]} AS "{field.name}"' for field in layout.schema)
        return f"CREATE VIEW {layout.name} AS SELECT {columns}, NULL::DATE AS day WHERE false"
    return f"CREATE VIEW {layout.name} AS SELECT * FROM read_parquet('{_quoted(place)}/day=*/*.parquet', hive_partitioning = true)"


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("'", "''")
