"""Talks to the service manager: readiness, watchdog, status (the protocol of sd_notify(3), in thirty lines)."""

import logging
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Notifier:
    """Sends states to the service manager; does nothing where there is none.

    Attributes:
        watchdog_s: longest silence that the manager allows, or None where it does not watch.
    """

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        """
        Args:
            environment: variables, of which `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` count.
            pid: number of this process; a watchdog that is meant for another one is not ours to feed.
        """
        self._address = environment.get("NOTIFY_SOCKET", "")
        for_us = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        interval = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s: float | None = int(interval) / 1e6 if self._address and for_us and interval.isdigit() else None

    def ready(self) -> None:
        """The model is loaded and the cameras are being worked on."""
        self._send("READY=1")

    def reloading(self, monotonic_ns: int) -> None:
        """Another configuration is being applied, since that reading of the monotonic clock; `ready` says that it is done."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns // 1000}")

    def alive(self) -> None:
        """The work loop has made progress."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def stopping(self) -> None:
        """On the way out."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # a manager that does not read must not stop the daemon
            try:
                sender.sendto(state.encode(), address)
            except OSError as error:
                _log.warning("the service manager did not take %s: %s", state.partition("=")[0], error.strerror)
