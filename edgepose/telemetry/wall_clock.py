"""Whether the wall clock of this machine can be believed: a board without a battery wakes in the past, until a time server is reached.

While the clock is not set, times in messages and names of recordings are wrong, certificates look as if they were not yet valid, and what
was written last looks oldest. Durations are never affected: they come from the monotonic clock.
"""

import ctypes
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from edgepose.encryption.files import state_files, write_whole

KIND = "clock"
"""What `edgepose.encryption` calls the file that keeps a time."""

Synchronization = Literal["synchronized", "waiting", "unknown"]

BUILT = datetime(2026, 11, 1, tzinfo=timezone.utc)
"""No clock that is right shows an earlier time: this version did not exist. Raised with each release."""

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_TIMEX_BYTES = 512  # struct timex takes 208 on 64-bit systems; zeros in `modes` only read
_TIMESYNCD = Path("/run/systemd/timesync")
_SYNCHRONIZED = _TIMESYNCD / "synchronized"  # written by systemd-timesyncd(8)
_SERVICES = (_TIMESYNCD, Path("/run/chrony"), Path("/run/ntpd.pid"), Path("/run/ntpsec"))
_TOLERANCE_NS = 60_000_000_000  # a clock that is corrected steps back, but not by minutes
_STORE_EVERY_S = 600.0


def synchronization() -> Synchronization:
    """Return whether a time service has set the clock, or has yet to, as far as this process can know.

    The kernel knows (adjtimex), but a container or the unit's `ProtectClock` may not ask it, and a machine without a time service looks
    like one whose service has not reached its server yet. So only a service that is seen to run can be waited for.
    """
    kernel = _kernel_synchronized()
    if kernel or _SYNCHRONIZED.exists():
        return "synchronized"
    if _TIMESYNCD.exists() or (kernel is False and any(service.exists() for service in _SERVICES)):
        return "waiting"
    return "unknown"


def _kernel_synchronized() -> bool | None:
    """Return whether the kernel's clock is synchronized, None where it may not be asked."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


class WallClock:
    """The wall clock, and whether it is set; used by the main thread."""

    def __init__(
        self,
        store: Path | None,
        witnesses: Iterable[Path] = (),
        *,
        now_ns: Callable[[], int] = time.time_ns,
        synchronization: Callable[[], Synchronization] = synchronization,
    ) -> None:
        """
        Args:
            store: file that keeps the last time that was believed, over restarts; None keeps none.
            witnesses: files and folders that this program wrote; a time before theirs is wrong.
            now_ns: reads the clock, nanoseconds since the Unix epoch.
            synchronization: asks the system.
        """
        self._store = store
        self._now_ns = now_ns
        self._synchronization = synchronization
        self._stored_s: float | None = None
        self._floor_ns = max(int(BUILT.timestamp() * 1e9), _stored_ns(store), *(_modified_ns(place) for place in witnesses))

    def unset(self) -> str | None:
        """Return why the clock is not to be believed, in a few words; None where it may be right."""
        state, now_ns = self._synchronization(), self._now_ns()
        if state == "waiting":
            return f"it shows {_minute(now_ns)}, and no time server has set it yet"
        if state == "unknown" and now_ns < self._floor_ns - _TOLERANCE_NS:
            return f"it shows {_minute(now_ns)}, which is before {_minute(self._floor_ns)}, a time that has passed"
        return None

    def remember(self, now_s: float) -> None:
        """Store the present time from time to time, where it is to be believed.

        Args:
            now_s: monotonic seconds.
        """
        if self._store is None or (self._stored_s is not None and now_s - self._stored_s < _STORE_EVERY_S) or self.unset() is not None:
            return
        self._stored_s = now_s
        with suppress(OSError):  # without the file, the time of the build and of other files still tells
            write_whole(self._store, f"{datetime.fromtimestamp(self._now_ns() / 1e9, timezone.utc).isoformat()}\n".encode(), KIND)


def _stored_ns(store: Path | None) -> int:
    if store is None:
        return 0
    try:
        return int(datetime.fromisoformat(state_files().load(store, KIND)[:64].decode().strip()).timestamp() * 1e9)
    except (OSError, ValueError, OverflowError):  # not there yet, or damaged
        return 0


def _modified_ns(place: Path) -> int:
    try:
        return state_files().place(place).stat().st_mtime_ns
    except OSError:
        return 0


def _minute(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
