"""The announcement of the device to Home Assistant: its retained discovery messages, as the configuration has them."""

from edgepose.config.load import device_name
from edgepose.config.schema import Config
from edgepose.messages.home_assistant import discovery
from edgepose.messages.occupancy_states import StatePublisher


class Announcements:
    """The discovery messages that a publisher retains.

    Args:
        publisher: of the messages.
    """

    def __init__(self, publisher: StatePublisher) -> None:
        self._publisher = publisher
        self._messages: dict[str, bytes] = {}

    def withdraw(self, config: Config) -> None:
        """Clear the messages that a configuration does not have, before the states that they are about are cleared."""
        wanted = discovery(config, device_name(config))
        for topic in [topic for topic in self._messages if topic not in wanted]:
            del self._messages[topic]
            self._publisher.clear(topic, whole=True)

    def configure(self, config: Config) -> None:
        """Publish the messages of a configuration."""
        for topic, message in discovery(config, device_name(config)).items():
            if self._messages.get(topic) != message:
                self._messages[topic] = message
                self._publisher.publish_retained(topic, message, whole=True)
