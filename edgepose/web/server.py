"""The server of the web page: one thread, bounded connections, TLS by itself where others can reach it."""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgepose.config.addresses import is_loopback
from edgepose.config.schema import WebConfig
from edgepose.errors import UnavailableError
from edgepose.telemetry.server_tls import server_tls
from edgepose.web.boundary import Boundary
from edgepose.web.certificate import own_certificate, readable

_log = logging.getLogger(__name__)

CONNECTIONS_LIMIT, OF_ADDRESS_LIMIT = 256, 64
"""Connections in all and from one address; a new one takes the place of the one that has been idle for longest."""

IDLE_S = 10.0
"""How long a connection may be without a request."""

_HEAD_BYTES = 32 * 1024
_HANDSHAKE_S = 5.0
_MESSAGE_BYTES = 16 * 1024
_SOCKET_BYTES = 64 * 1024  # of a WebSocket that wait to be sent
_FLUSH_S = 5.0
_STOP_S = 5
_BACKLOG = 64
_TURN_S = 0.2


class WebServer:
    """A server of an application on one address."""

    def __init__(self, app: Boundary, settings: WebConfig, folder: Path) -> None:
        """Bind the port; requests are answered by `run`.

        Args:
            app: what is served.
            settings: address, port and certificate.
            folder: where a certificate of its own is kept.

        Raises:
            UnavailableError: the port is in use, or the address does not belong to this machine.
            ConfigError: the certificate cannot be used.
        """
        try:
            found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self._socket = socket.socket(found[0], socket.SOCK_STREAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(found[4])
            self._socket.listen(_BACKLOG)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UnavailableError(
                f"cannot listen on {settings.host} port {settings.port}: {reason[:1].lower() + reason[1:]}; expected an address of this"
                " machine in web.host and a free port in web.port (0 uses any free one)"
            ) from error
        address, self.port = self._socket.getsockname()[:2]
        self._tls = _context(settings, folder, address)
        self.url = f"{'http' if self._tls is None else 'https'}://{_shown_host(settings.host, address)}:{self.port}"
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="websockets-sansio",
                ws_max_size=_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # the boundary reads them, of trusted proxies only
                server_header=False,
                date_header=False,
                h11_max_incomplete_event_size=_HEAD_BYTES,
                timeout_keep_alive=int(IDLE_S),
                timeout_graceful_shutdown=_STOP_S,
            ),
            self._tls,
        )
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # a caller's mistakes are no news

    def run(self, stop: threading.Event, started: Callable[[], None] = lambda: None, alive: Callable[[], None] = lambda: None) -> None:
        """Serve until told to stop.

        Args:
            stop: set by anybody.
            started: called when requests are answered.
            alive: called several times a second while they are.
        """
        asyncio.run(self._run(stop, started, alive))

    async def _run(self, stop: threading.Event, started: Callable[[], None], alive: Callable[[], None]) -> None:
        async def watch() -> None:
            told = False
            while not stop.is_set():
                if self._server.started:
                    if not told:
                        told = True
                        started()
                    alive()
                    _end_idle(time.monotonic())
                await asyncio.sleep(_TURN_S)
            self._server.should_exit = True

        watching = asyncio.create_task(watch())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            watching.cancel()
            self._socket.close()


class _Server(uvicorn.Server):
    """A server whose TLS handshakes have a deadline; signals are its caller's."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._tls = tls

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets is not None
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise UnavailableError("the web page cannot be started; expected no error in its log")
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return _Connection(self.config, self.server_state, self.lifespan.state)

        secure: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls, "ssl_handshake_timeout": _HANDSHAKE_S}
        self.servers = [await loop.create_server(connection, sock=sockets[0], backlog=_BACKLOG, **secure)]
        self.started = True


class _Connection(H11Protocol):
    """A connection that counts, and that ends where it asks for nothing for too long."""

    closed_s = 0.0  # when it began to close; 0 while it is open

    open: "dict[_Connection, float]" = {}  # noqa: RUF012 (of all: when each became idle; 0 while a request is answered)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        app = self.config.app
        if isinstance(app, Boundary) and app.is_flooded_by(address):
            self._cut_off()
            return
        mine = [each for each in self.open if each.client and each.client[0] == address]
        if len(self.open) >= CONNECTIONS_LIMIT or len(mine) >= OF_ADDRESS_LIMIT:
            crowd = mine if len(mine) >= OF_ADDRESS_LIMIT else list(self.open)
            idle = [each for each in crowd if not each.is_busy]
            (min(idle, key=lambda each: self.open[each]) if idle else self)._cut_off()
        self.open[self] = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.pop(self, None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self in self.open:
            self.open[self] = time.monotonic()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hold little for a client that does not read: what waits in buffers is old when it arrives."""
        kernel = self.transport.get_extra_info("socket")
        if kernel is not None:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        self.transport.set_write_buffer_limits(high=_SOCKET_BYTES)
        super().handle_websocket_upgrade(event)

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered, or a WebSocket is open."""
        if self.transport.get_protocol() is not self:
            return True
        return self.cycle is not None and not self.cycle.response_complete

    def _cut_off(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def _end_idle(now_s: float) -> None:
    """End connections that have asked for nothing for too long, and forget WebSockets that are over."""
    for connection, since_s in list(_Connection.open.items()):
        if connection.transport.is_closing():  # a WebSocket; what its client does not read is not kept for long
            closed_s = connection.closed_s = connection.closed_s or now_s
            if not connection.transport.get_write_buffer_size() or now_s - closed_s > _FLUSH_S:
                connection.transport.abort()
                _Connection.open.pop(connection, None)
        elif not connection.is_busy and now_s - since_s > IDLE_S:
            connection._cut_off()


def _context(settings: WebConfig, folder: Path, address: str) -> ssl.SSLContext | None:
    """Return the TLS settings; None where only this machine can reach the page and no certificate is configured."""
    if settings.certificate_file is None and is_loopback(address):
        return None
    certificate, key = settings.certificate_file, settings.key_file
    if certificate is None or key is None:
        with readable(*own_certificate(folder, [settings.host, *settings.allowed_hosts])) as (own, secret):
            return server_tls("web", own, secret)
    return server_tls("web", certificate, key)


def _shown_host(host: str, address: str) -> str:
    """Return the host as people type it; where all addresses are listened on, the name of this machine."""
    if address in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
