"""The parts of the daemon that an aircraft needs: telemetry, and the topic where it comes from there."""

from edgepose.config.schema import Config
from edgepose.daemon.flight.topic import FlightTopic
from edgepose.flight.service import FlightService, PreparedFlight
from edgepose.messages.structs import HealthMessage


class FlightParts:
    """Telemetry and its topic; for the main thread.

    Raises:
        ConfigError: as of `prepare_flight`.

    Attributes:
        service: telemetry.
    """

    def __init__(self, config: Config) -> None:
        self.service = FlightService(config)
        self._topic = FlightTopic()

    def start(self, config: Config) -> None:
        """Start to listen."""
        self.service.start()
        self._topic.follow(config, self.service.topic_reader)

    def change(self, config: Config, prepared: PreparedFlight) -> None:
        """Apply another configuration."""
        self.service.change(config, prepared)
        self._topic.follow(config, self.service.topic_reader)

    def close(self) -> None:
        """End what listens."""
        self._topic.close()
        self.service.close()

    def tell(self, health: HealthMessage) -> None:
        """Tell the autopilot of the daemon's health, where that is wanted."""
        self.service.tell_health(health.degraded, works=any(camera.state == "streaming" for camera in health.cameras.values()))

    @property
    def battery(self) -> float | None:
        """Charge of the vehicle's battery, 0 to 1; None where it is not known."""
        stats = self.service.stats()
        return None if stats is None else stats.battery
