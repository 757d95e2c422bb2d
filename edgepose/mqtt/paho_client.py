"""paho-mqtt's client, guarded against what a broker may send."""

from collections.abc import Callable

from paho.mqtt import properties
from paho.mqtt.client import Client
from paho.mqtt.enums import MessageType, MQTTErrorCode

RECEIVE_LIMIT_BYTES = 128 * 1024
"""Longest packet that is taken: a version 5 broker is told so and keeps longer ones, an older one is hung up on."""

_read_text: Callable[[bytes, int], tuple[str, int]] = properties.readUTF


def _read_any_text(buffer: bytes, limit: int) -> tuple[str, int]:
    """Paho takes U+FEFF for forbidden and hangs up; MQTT 5 (1.5.4) allows it, and one in a retained message would keep us out for ever."""
    return _read_text(buffer.replace(b"\xef\xbb\xbf", b"\xef\xbf\xbd"), limit)  # U+FFFD, which is as long


properties.readUTF = _read_any_text


class GuardedClient(Client):
    """Paho collects a packet of any length, up to 256 MB of whatever somebody published: this one hangs up instead.

    And where a broker refuses version 3.1.1, paho only says that the connection is over: this one remembers why. Nor does paho let
    anybody ask for a sign of life, or hear of the answer: it does so itself, when nothing has come for `keepalive`.

    Attributes:
        on_pong: called when the broker has answered a `ping`.
    """

    overlong = False
    outdated = False
    on_pong: Callable[[], None] | None = None

    def ping(self) -> None:
        """Ask the broker for a sign of life (PINGREQ, MQTT 5 3.12); one that never comes ends the connection no earlier than ever."""
        self._send_simple_command(MessageType.PINGREQ)

    def _handle_pingresp(self) -> MQTTErrorCode:
        code = super()._handle_pingresp()
        if self.on_pong is not None:
            self.on_pong()
        return code

    def _handle_connack(self) -> MQTTErrorCode:
        code = super()._handle_connack()
        self.outdated = code == MQTTErrorCode.MQTT_ERR_PROTOCOL
        return code

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._in_packet["remaining_length"] > RECEIVE_LIMIT_BYTES:
            self.overlong = True
            raise ConnectionError
        return super()._sock_recv(bufsize)
