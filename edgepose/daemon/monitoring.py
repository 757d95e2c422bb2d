"""A local port for whoever watches the daemon: Prometheus' `/metrics`, and whether we are live and ready.

`/healthz/live` (`/livez`): the work loops turn. `/healthz/ready` (`/readyz`): poses can leave, that is a camera streams and the broker has
let us in. `/healthz` asks for both. Each answers 200 or 503 and says in JSON what is missing.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgepose.config.schema import MonitoringConfig
from edgepose.daemon.link import Link
from edgepose.errors import UnavailableError
from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import HealthMessage
from edgepose.telemetry.http_server import Answer, LocalHttpServer, Page
from edgepose.telemetry.metrics import Metrics

if TYPE_CHECKING:  # needs a library that is there only where it is used
    from edgepose.daemon.prometheus import Work


class Readiness(msgspec.Struct, frozen=True):
    """Whether the daemon is live and ready.

    Attributes:
        live: all work loops turn.
        ready: live, a camera streams, and the broker, where there is one, has let us in.
        missing: one sentence for each thing that is not as it should be.
    """

    live: bool
    ready: bool
    missing: list[str]


def readiness(stuck: Sequence[str], states: Sequence[CameraState], broker: str | None) -> Readiness:
    """Judges what is known.

    Args:
        stuck: loops that have not turned when they should have.
        states: of all cameras.
        broker: state of the publisher, None where nothing is published to a broker.
    """
    missing = [f"the {loop} loop has got stuck" for loop in stuck]
    live = not missing
    if not any(state.state == "streaming" for state in states):
        known = ", ".join(f"{state.camera} is {state.state}" + (f" ({state.cause})" if state.cause else "") for state in states)
        missing.append(f"no camera streams: {known or 'none is there'}")
    if broker is not None and broker != "connected":
        missing.append(f"the broker is not connected: {broker}")
    return Readiness(live, not missing, missing)


def check_library() -> None:
    """UnavailableError where the library that writes Prometheus' format is not installed: it is loaded only where it is used."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise UnavailableError(
            "monitoring.enabled needs the library prometheus-client, which is not installed here; expected it installed:"
            " pip install prometheus-client, or for a service deploy/install.sh --upgrade --extras cpu,metrics"
        )


class MonitoringServer:
    """The server on the local port."""

    def __init__(self, settings: MonitoringConfig, metrics: Page, readiness_now: Callable[[], Readiness]) -> None:
        """Takes the port; nobody is answered before `start`.

        Args:
            metrics: writes the page `/metrics`.
            stands: asked at each request for health.

        Raises:
            UnavailableError: the port is in use, or the address is not ours.
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
                "machine in monitoring.host and a free port in monitoring.port (0 takes any)"
            ) from error

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    @classmethod
    def of(
        cls,
        settings: MonitoringConfig,
        build: Callable[[], Mapping[str, str]],
        metrics: Metrics,
        work: "Work",
        link: Link,
        health: Callable[[], HealthMessage | None],
        stuck: Callable[[], Sequence[str]],
    ) -> "MonitoringServer":
        """One that looks at a daemon; `build`, `work`, `link` and `health` as in `Exporter`, `stuck` gives the loops that hang.

        Raises:
            UnavailableError: prometheus-client is not installed, or the port cannot be listened on.
        """
        check_library()
        from edgepose.daemon.prometheus import Exporter

        def readiness_now() -> Readiness:
            publisher = link.publisher
            return readiness(stuck(), work.states(), None if publisher is None else publisher.state)

        return cls(settings, Exporter(build, metrics, work, link, health).page, readiness_now)

    def start(self) -> None:
        """Begins to answer."""
        self._server.start()

    def stop(self) -> None:
        """Ends at once."""
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
