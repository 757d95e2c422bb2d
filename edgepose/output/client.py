"""paho-mqtt's client, guarded against what a broker may send."""

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

RECEIVE_LIMIT_BYTES = 128 * 1024
"""Longest packet that is taken: a version 5 broker is told so and keeps longer ones, an older one is hung up on."""


class GuardedClient(Client):
    """Paho collects a packet of any length, up to 256 MB of whatever somebody published: this one hangs up instead.

    And where a broker refuses version 3.1.1, paho only says that the connection is over: this one remembers why.
    """

    overlong = False
    outdated = False

    def _handle_connack(self) -> MQTTErrorCode:
        code = super()._handle_connack()
        self.outdated = code == MQTTErrorCode.MQTT_ERR_PROTOCOL
        return code

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._in_packet["remaining_length"] > RECEIVE_LIMIT_BYTES:
            self.overlong = True
            raise ConnectionError
        return super()._sock_recv(bufsize)
