"""Whether the clock of the device is set, checked with each health message and logged when it changes."""

import logging
from pathlib import Path

from edgepose.config.schema import Config
from edgepose.telemetry.wall_clock import WallClock

_log = logging.getLogger(__name__)


class DeviceClock:
    """The clock of a daemon's device.

    Its last time is kept beside the event store, and no file that the daemon wrote is newer than now.

    Attributes:
        unset: why the clock is not set, one clause; None where it is.
    """

    def __init__(self, config: Config) -> None:
        store = Path(config.events.store) if config.events.store is not None else None
        written = (store, config.commands.audit, config.black_box.path)
        witnesses = [Path(place) for place in written if place is not None]
        self._clock = WallClock(store.with_name("clock") if store is not None else None, witnesses)
        self.unset = self._clock.unset()

    def log(self) -> None:
        """Log whether the clock is set."""
        if self.unset is None:
            _log.info("the clock of this device is set")
        else:
            _log.warning("the clock of this device is not set: %s; times in messages are wrong until a time server is reached", self.unset)

    def check(self, now_s: float) -> None:
        """Look at the clock again, and remember its time; `now_s` is a reading of the monotonic clock."""
        before, self.unset = self.unset, self._clock.unset()
        if (self.unset is None) != (before is None):
            self.log()
        self._clock.remember(now_s)
