"""All rows of the fault matrix."""

from testing.faults import broker_rows, camera_rows, daemon_rows

ROWS = (*camera_rows.ROWS, *broker_rows.ROWS, *daemon_rows.ROWS)
