"""Services: parts that live in the daemon's process and are handed to it from outside, such as the live page. The daemon imports none."""

from typing import Protocol

from edgepose.daemon.commands import CommandTarget
from edgepose.daemon.health import ServiceStats
from edgepose.pipeline.delivery import Onlooker


class ServiceHost(CommandTarget, Protocol):
    """All that a service may ask of the daemon: what commands may, and to look on; `edgepose.daemon.daemon.Daemon`."""

    def watch(self, onlooker: Onlooker) -> None:
        """Pass the result of each frame to `onlooker` too, from the postprocess thread."""
        ...


class Service(Protocol):
    """A part beside the daemon's work, whose faults do not reach the work."""

    def start(self, host: ServiceHost) -> None:
        """Begin, once the daemon has started; EdgeposeError where that is not possible."""
        ...

    def turn(self, now_s: float) -> None:
        """Do what belongs to the main thread; called several times a second, and returns at once."""
        ...

    def stop(self, timeout_s: float) -> None:
        """End within a time."""
        ...

    def stats(self) -> ServiceStats:
        """Return its state; from any thread."""
        ...
