"""Telemetry from a topic: a subscriber of its own, connected again whenever the broker is away."""

import logging
from typing import TYPE_CHECKING

from edgepose.config.schema import Config
from edgepose.errors import OutputError
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose.supervision.supervised_thread import SupervisedThread

if TYPE_CHECKING:
    from edgepose.flight.topic_telemetry import TopicReader

_log = logging.getLogger(__name__)

_TURN_S = 0.5
_CONNECTING_S = 120.0  # several brokers, each with its own time-out
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0
_CLOSING_S = 1.0


class FlightTopic:
    """The connection that `flight.topic` arrives on, where telemetry comes from there; for the main thread."""

    def __init__(self) -> None:
        self._listening: _Listening | None = None
        self._for: tuple[object, ...] = ()

    def follow(self, config: Config, reader: "TopicReader | None") -> None:
        """Listen for a reader, on the broker of a configuration; None ends that. What already listens so goes on."""
        wanted = (config.mqtt, config.flight.topic, reader)
        if wanted == self._for:
            return
        self.close()
        self._for = wanted
        if reader is not None:
            self._listening = _Listening(config, reader)
            self._listening.start()

    def close(self) -> None:
        """End the connection; a broker that does not answer is left behind."""
        if self._listening is not None:
            self._listening.ending.set()
            self._listening.join(_CLOSING_S)
            self._listening = None


class _Listening(SupervisedThread):
    """The thread of the connection.

    Args:
        config: sections `mqtt` and `flight`.
        reader: takes the messages.
    """

    def __init__(self, config: Config, reader: "TopicReader") -> None:
        super().__init__("flight-topic", _CONNECTING_S)
        assert config.flight.topic is not None
        self._mqtt, self._topic, self._reader = config.mqtt, config.flight.topic, reader

    def work(self) -> None:
        """Listen until the end."""
        from edgepose.mqtt.subscriber import Subscriber

        backoff, tells = FullJitterBackoff(_FIRST_WAIT_S, _LONGEST_WAIT_S), True
        while not self.ending.is_set():
            self.heartbeat.beat()
            try:
                with Subscriber(self._mqtt, [self._topic], lambda _, payload: self._reader.take(payload)):
                    while not self.ending.wait(_TURN_S):
                        self.heartbeat.beat()
            except OutputError as error:
                if tells:
                    _log.warning("telemetry on topic %s: %s; trying again", self._topic, error)
                tells = False
                self.ending.wait(backoff.next_s())
