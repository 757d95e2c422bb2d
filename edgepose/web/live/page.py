"""The live page inside the daemon: a server in a thread of its own, handed to the daemon by the command that runs it."""

import logging
import threading
from pathlib import Path

from msgspec.structs import replace

from edgepose.config.load import LIVE_FOLDER
from edgepose.config.schema import Config
from edgepose.daemon.commands import ServiceHost
from edgepose.daemon.health import ServiceStats
from edgepose.errors import EdgeposeError
from edgepose.supervision.thread_names import show_thread_as
from edgepose.web.access import Door
from edgepose.web.app import make_live_app
from edgepose.web.greeting import greet
from edgepose.web.live.view import LiveView
from edgepose.web.server import WebServer

_log = logging.getLogger(__name__)

_AGAIN_S = 5.0  # after the server has ended unexpectedly


class LivePage:
    """The live page of one daemon: a `edgepose.daemon.commands.Service`."""

    def __init__(self, config: Config, folder: Path, *, guest: str | None = None) -> None:
        """
        Args:
            config: section `web`; what else is needed comes from the daemon.
            folder: of accounts, areas and audit log.
            guest: text of a link by which anybody looks on as a viewer for as long as this page runs; None for none.
        """
        self._config = config
        self._folder = folder
        self._guest = guest
        self._host: ServiceHost | None = None
        self._view: LiveView | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._ended_s: float | None = None
        self._past_dropped = 0
        self.url = ""
        """Address of the page, once it has started."""

    @property
    def guest_url(self) -> str:
        """Address that lets its reader look on; what follows `#` is sent to no server on the way."""
        return f"{self.url}/#guest/{self._guest}"

    def start(self, host: ServiceHost) -> None:
        """Open the port and serve.

        Raises:
            UnavailableError: the port is in use.
            ConfigError: the certificate cannot be used, or the accounts are damaged.
            OutputError: the folder cannot be written.
        """
        self._host = host
        self._begin()
        if self._guest is None:
            web = self._config.web
            _log.info("serving the live page on %s port %s", web.host, self.url.rpartition(":")[2])
            for line in greet(self.url, web, self._folder, terminal=False)[1:]:
                _log.info("live page: %s", line)

    def turn(self, now_s: float) -> None:
        """Execute commands, and serve again where the server has ended unexpectedly."""
        view, thread = self._view, self._thread
        if view is not None:
            view.turn(now_s)
        if thread is None or thread.is_alive() or self._stop.is_set():
            return
        if self._ended_s is None:
            self._ended_s = now_s
        elif now_s - self._ended_s > _AGAIN_S:
            self._ended_s = now_s
            try:
                self._begin()
            except EdgeposeError as error:
                _log.error("the live page cannot be served again: %s", error)

    def stop(self, timeout_s: float) -> None:
        """End within a time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def stats(self) -> ServiceStats:
        """Return how many look on, and what was dropped."""
        view = self._view
        return ServiceStats() if view is None else ServiceStats(view.viewers, self._past_dropped + view.dropped)

    def _begin(self) -> None:
        assert self._host is not None
        if self._view is not None:
            self._past_dropped += self._view.dropped
        door = Door.of(self._config, self._folder, ("live",), own=self._folder / LIVE_FOLDER, guest=self._guest)
        view = LiveView(self._host, door)
        web = replace(self._config.web, port=self._config.web.live_port)
        server = WebServer(make_live_app(door, view), web, self._folder)
        self.url = server.url
        self._view = view
        self._host.watch(view.feed)
        self._thread = threading.Thread(target=self._serve, args=(server,), name="live-page", daemon=True)
        self._thread.start()
        self._ended_s = None

    def _serve(self, server: WebServer) -> None:
        show_thread_as("live-page")
        try:
            server.run(self._stop)
        except Exception as error:  # nothing of the page may end the daemon
            _log.error("the live page has ended: %s: %s; it is served again soon", type(error).__name__, error)
