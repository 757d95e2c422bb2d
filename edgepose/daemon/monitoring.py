"""The port for monitoring: Prometheus' `/metrics`, and whether the daemon is live and ready.

On the loopback address everyone on this machine may ask. On any other address the port speaks TLS and wants a token.

`/healthz/live` (`/livez`): the work loops turn. `/healthz/ready` (`/readyz`): poses can be published, that is, a camera streams and the
broker has accepted the connection. `/healthz` asks for both. Each answers 200 or 503 and names in JSON what is missing.
"""

import importlib.util
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgepose.config.addresses import is_loopback
from edgepose.config.schema import MonitoringConfig
from edgepose.daemon.health import DaemonSnapshot
from edgepose.errors import ConfigError, UnavailableError
from edgepose.telemetry.http_server import Answer, LocalHttpServer, Page
from edgepose.telemetry.server_tls import server_tls

_log = logging.getLogger(__name__)

_TOKEN_CHARACTERS = 16  # fewer can be guessed
_TOKEN_LIMIT_BYTES = 4096


class Readiness(msgspec.Struct, frozen=True):
    """The answer to whether the daemon is live and ready.

    Attributes:
        live: all work loops turn.
        ready: live, a camera streams, and the broker, where one is configured, has accepted the connection.
        missing: one sentence for each thing that is missing.
    """

    live: bool
    ready: bool
    missing: list[str]


def readiness(snapshot: DaemonSnapshot) -> Readiness:
    """Return whether the daemon of a snapshot is live and ready; a writer of files that hangs does not count."""
    missing = [f"the {loop} loop is stuck" for loop in snapshot.stuck if loop != "writer"]
    live = not missing
    states = [camera.state for camera in snapshot.pipeline.cameras.values()]
    if not any(state.state == "streaming" for state in states):
        known = ", ".join(f"{state.camera} is {state.state}" + (f" ({state.cause})" if state.cause else "") for state in states)
        missing.append(f"no camera is streaming: {known or 'none is configured'}")
    if snapshot.publisher.enabled and not snapshot.publisher.connected:
        missing.append(f"the broker is not connected: {snapshot.publisher.state}")
    return Readiness(live, not missing, missing)


def check_library() -> None:
    """Raise UnavailableError where the library that writes Prometheus' format is not installed: it is loaded only where it is used."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise UnavailableError(
            "monitoring.enabled needs the library prometheus-client, which is not installed here; expected it to be installed:"
            " pip install prometheus-client, or for a service deploy/install.sh --upgrade --extras cpu,metrics"
        )


def read_tls(settings: MonitoringConfig) -> ssl.SSLContext | None:
    """Return the TLS settings of the port, None for http; ConfigError where certificate or key cannot be used."""
    if settings.certificate_file is None:
        return None
    return server_tls("monitoring", settings.certificate_file, settings.key_file)


def read_token(settings: MonitoringConfig) -> str | None:
    """Return the token that callers must send, None where everyone is answered; ConfigError where it cannot be read or is short."""
    if settings.token_file is None:
        return None
    where = f"monitoring.token_file {settings.token_file}"
    try:
        with Path(settings.token_file).open("rb") as file:
            lines = file.read(_TOKEN_LIMIT_BYTES).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"{where} cannot be read: {reason}; expected a file whose first line is the token") from error
    token = lines[0].strip() if lines else ""
    if len(token) < _TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where}: its first line is no token; expected {_TOKEN_CHARACTERS} or more visible ASCII characters without spaces,"
            " such as those of `openssl rand -hex 32`"
        )
    return token


class MonitoringServer:
    """The server on the port for monitoring."""

    def __init__(self, settings: MonitoringConfig, metrics: Page, readiness_now: Callable[[], Readiness]) -> None:
        """Bind the port; requests are answered after `start`.

        Args:
            settings: address and port.
            metrics: writes the page `/metrics`.
            readiness_now: called at each request for health.

        Raises:
            ConfigError: certificate, key or token cannot be used, or others can reach the address and there is none of them.
            UnavailableError: the port is in use, or the address does not belong to this machine.
        """
        self._host = settings.host
        tls, token = read_tls(settings), read_token(settings)
        pages: dict[str, Page] = {"/metrics": metrics}
        for paths, good in ((("/healthz/live", "/livez"), _live), (("/healthz/ready", "/readyz", "/healthz"), _ready)):
            pages.update({path: _health_page(readiness_now, good) for path in paths})
        try:
            self._server = LocalHttpServer(settings.host, settings.port, pages, tls=tls, token=token)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UnavailableError(
                f"cannot listen on {settings.host} port {settings.port}: {reason[:1].lower() + reason[1:]}; expected an address of this "
                "machine in monitoring.host and a free port in monitoring.port (0 uses any free one)"
            ) from error
        if (tls is None or token is None) and not is_loopback(self._server.host):  # a name that leads elsewhere
            self._server.stop()
            raise ConfigError(
                f"monitoring.host {settings.host} is {self._server.host} here, which other machines can reach;"
                " expected monitoring.certificate_file, key_file and token_file, or 127.0.0.1"
            )

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.port

    @classmethod
    def of(cls, settings: MonitoringConfig, snapshot: Callable[[], DaemonSnapshot]) -> "MonitoringServer":
        """Return a server for a daemon.

        Args:
            settings: address and port.
            snapshot: called at each request.

        Raises:
            UnavailableError: prometheus-client is not installed, or the port cannot be bound.
        """
        check_library()
        from edgepose.daemon.prometheus import metrics_page

        return cls(settings, lambda accept: metrics_page(snapshot(), accept), lambda: readiness(snapshot()))

    def start(self) -> None:
        """Start answering requests."""
        self._server.start()
        _log.info("serving /metrics and /healthz on %s port %d", self._host, self.port)

    def stop(self) -> None:
        """Stop immediately."""
        self._server.stop()


def _live(now: Readiness) -> bool:
    return now.live


def _ready(now: Readiness) -> bool:
    return now.ready


def _health_page(readiness_now: Callable[[], Readiness], good: Callable[[Readiness], bool]) -> Page:
    def page(accept: str) -> Answer:
        now = readiness_now()
        return Answer(200 if good(now) else 503, "application/json", msgspec.json.encode(now) + b"\n")

    return page
