"""Notifications to the service manager: readiness, watchdog, status (the protocol of sd_notify(3))."""

import logging
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Notifier:
    """A sender of states to the service manager; without one it does nothing.

    Attributes:
        watchdog_s: longest silence that the manager allows, or None without a watchdog.
    """

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        """
        Args:
            environment: variables; `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are used.
            pid: identifier of this process; the watchdog of another process is not fed.
        """
        self._address = environment.get("NOTIFY_SOCKET", "")
        for_us = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        interval = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s: float | None = int(interval) / 1e6 if self._address and for_us and interval.isdigit() else None

    @property
    def is_managed(self) -> bool:
        """Whether a service manager listens."""
        return bool(self._address)

    def ready(self) -> None:
        """Report that the model is loaded and the cameras are processed."""
        self._send("READY=1")

    def reloading(self, monotonic_ns: int) -> None:
        """Report that another configuration is applied since that reading of the monotonic clock; `ready` reports the end."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns // 1000}")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for that much more time, from now, for the start that is under way."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def alive(self) -> None:
        """Report that the work loops have made progress."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line in `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def stopping(self) -> None:
        """Report that the daemon ends."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # a service manager that does not read must not stop the daemon
            try:
                sender.sendto(state.encode(), address)
            except OSError as error:
                _log.warning("the service manager did not take %s: %s", state.partition("=")[0], error.strerror)
