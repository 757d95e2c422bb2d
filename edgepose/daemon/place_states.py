"""What a publisher retains about the places of a configuration: their announcement to Home Assistant, and the people in each."""

from edgepose.config.load import device_name
from edgepose.config.schema import Config
from edgepose.ground import WorldPlaces
from edgepose.messages.home_assistant import discovery
from edgepose.messages.occupancy_states import OccupancyStates, StatePublisher


class PlaceStates:
    """The retained messages about cameras, and about the zones in their frames and on the map.

    Args:
        publisher: of the messages.

    Attributes:
        occupancy: the people in each place.
    """

    def __init__(self, publisher: StatePublisher) -> None:
        self.occupancy = OccupancyStates(publisher)
        self._publisher = publisher
        self._announced: dict[str, bytes] = {}

    def withdraw(self, config: Config, on_map: WorldPlaces) -> None:
        """Clear the messages that a configuration does not have; before the broker changes, so that none stays at the former one."""
        wanted = discovery(config, device_name(config), on_map)
        for topic in [topic for topic in self._announced if topic not in wanted]:
            del self._announced[topic]
            self._publisher.clear(topic, whole=True)
        self.occupancy.withdraw(config, on_map)  # after the announcements: Home Assistant shall not read an empty state

    def configure(self, config: Config, on_map: WorldPlaces, now_ns: int) -> None:
        """Publish the messages of a configuration; nobody is in new places.

        Args:
            config: in use from now on.
            on_map: zones and lines on the map.
            now_ns: nanoseconds since the Unix epoch.
        """
        self.occupancy.configure(config, on_map, now_ns)
        for topic, message in discovery(config, device_name(config), on_map).items():
            if self._announced.get(topic) != message:
                self._announced[topic] = message
                self._publisher.publish_retained(topic, message, whole=True)
