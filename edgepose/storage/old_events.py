"""Event stores of format 1, which were SQLite databases: their messages are taken over."""

import contextlib
import errno
from pathlib import Path

SQLITE_HEADER = b"SQLite format 3\0"

_APPLICATION_ID = 0x65647073  # "edps"


def read_old_events(path: Path) -> list[tuple[str, bytes]] | None:
    """Return topic and payload of each message in a database of format 1, oldest first; None where it is damaged.

    Raises:
        OSError: it is a database of another program, or a process has it open.
    """
    import sqlite3

    with contextlib.closing(sqlite3.connect(path, timeout=0)) as database:
        try:
            (owner,) = database.execute("PRAGMA application_id").fetchone()
            rows = database.execute("SELECT topic, payload FROM message ORDER BY number").fetchall() if owner == _APPLICATION_ID else None
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise BlockingIOError(errno.EWOULDBLOCK, "another process has it open") from error
            return None
    if rows is None:
        raise OSError("it is a database of another program; expected a file of edgepose")
    return [(topic, bytes(payload)) for topic, payload in rows if isinstance(topic, str) and isinstance(payload, bytes)]
