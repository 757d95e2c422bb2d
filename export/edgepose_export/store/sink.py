"""The place where rows are kept: what a store needs of it."""

from typing import Protocol

from edgepose_export.store.forgotten import Oblivion
from edgepose_export.store.rows import EventRows, PosesRows


class TableSink(Protocol):
    """A place for rows; used by one thread at a time."""

    def add(self, poses: PosesRows, events: EventRows) -> tuple[int, int, int]:
        """Keep rows that are not kept yet, durably, and return how many messages, people and events were new.

        A call that fails, or whose process is killed, may be repeated: no row is kept twice.

        Raises:
            OutputError: they cannot be kept now.
        """
        ...

    def retain(self, days: int) -> int:
        """Remove whole days that ended more than some days ago, and return how many."""
        ...

    def forget(self, request: Oblivion) -> int:
        """Remove rows, and return how many messages and events that were."""
        ...

    def close(self) -> None:
        """Release what is open."""
        ...
