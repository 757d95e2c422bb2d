"""Who may read the files that a program creates: its owner only, unless the configuration says otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Readers = Literal["owner", "group", "everyone"]

_MASKS: dict[Readers, int] = {"owner": 0o077, "group": 0o027, "everyone": 0o022}


def limit_access(access: Readers) -> None:
    """Set who may read files that this process creates from now on: the one place that all of them go through, libraries included."""
    os.umask(_MASKS[access])


@contextmanager
def owner_only() -> Iterator[None]:
    """Create files for their owner only, until the end; the process's own mask is then restored."""
    before = os.umask(_MASKS["owner"])
    try:
        yield
    finally:
        os.umask(before)
