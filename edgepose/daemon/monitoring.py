"""The local port for monitoring: Prometheus' `/metrics`, and whether the daemon is live and ready.

`/healthz/live` (`/livez`): the work loops turn. `/healthz/ready` (`/readyz`): poses can be published, that is, a camera streams and the
broker has accepted the connection. `/healthz` asks for both. Each answers 200 or 503 and names in JSON what is missing.
"""

import importlib.util
from collections.abc import Callable

import msgspec

from edgepose.config.schema import MonitoringConfig
from edgepose.daemon.health import DaemonSnapshot
from edgepose.errors import UnavailableError
from edgepose.telemetry.http_server import Answer, LocalHttpServer, Page


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


class MonitoringServer:
    """The server on the local port."""

    def __init__(self, settings: MonitoringConfig, metrics: Page, readiness_now: Callable[[], Readiness]) -> None:
        """Bind the port; requests are answered after `start`.

        Args:
            settings: address and port.
            metrics: writes the page `/metrics`.
            readiness_now: called at each request for health.

        Raises:
            UnavailableError: the port is in use, or the address does not belong to this machine.
        """
        pages: dict[str, Page] = {"/metrics": metrics}
        for paths, good in ((("/healthz/live", "/livez"), _live), (("/healthz/ready", "/readyz", "/healthz"), _ready)):
            pages.update({path: _health_page(readiness_now, good) for path in paths})
        try:
            self._server = LocalHttpServer(settings.host, settings.port, pages)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UnavailableError(
                f"cannot listen on {settings.host} port {settings.port}: {reason[:1].lower() + reason[1:]}; expected an address of this "
                "machine in monitoring.host and a free port in monitoring.port (0 uses any free one)"
            ) from error

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
