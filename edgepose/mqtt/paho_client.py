"""paho-mqtt's client, guarded against what a broker may send."""

from collections.abc import Callable

from paho.mqtt import properties
from paho.mqtt.client import Client
from paho.mqtt.enums import MessageType, MQTTErrorCode

RECEIVE_LIMIT_BYTES = 128 * 1024
"""Longest packet that is accepted: a version 5 broker learns the limit and withholds longer ones; an older one is disconnected."""

_read_text: Callable[[bytes, int], tuple[str, int]] = properties.readUTF


def _read_any_text(buffer: bytes, limit: int) -> tuple[str, int]:
    """Decode a string with U+FEFF replaced.

    Paho treats U+FEFF as forbidden and disconnects; MQTT 5 (1.5.4) allows it, and one in a retained message would end every connection.
    """
    return _read_text(buffer.replace(b"\xef\xbb\xbf", b"\xef\xbf\xbd"), limit)  # U+FFFD, which is as long


properties.readUTF = _read_any_text


class GuardedClient(Client):
    """Paho's client with three additions.

    - Paho collects a packet of any length, up to 256 MB; this client disconnects instead.
    - Where a broker refuses version 3.1.1, paho reports only that the connection has ended; this client remembers the reason.
    - Paho sends PINGREQ only by itself, when nothing has arrived for `keepalive`; this client can `ping` and reports the answer.

    Attributes:
        overlong: whether a packet exceeded `RECEIVE_LIMIT_BYTES`.
        outdated: whether the broker refused the protocol version.
        on_pong: called when the broker has answered a `ping`.
    """

    overlong = False
    outdated = False
    on_pong: Callable[[], None] | None = None

    def ping(self) -> None:
        """Send PINGREQ (MQTT 5, 3.12); a missing answer ends the connection no earlier than without this method."""
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
