"""What paho-mqtt makes of text in properties, once our client is there."""

import pytest
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import edgepose.mqtt.paho_client  # noqa: F401


def unpacked(text: bytes) -> Properties:
    value = b"\x08" + len(text).to_bytes(2, "big") + text  # 8: response topic
    properties = Properties(PacketTypes.PUBLISH)
    properties.unpack(bytes([len(value)]) + value)
    return properties


def test_a_byte_order_mark_ends_no_connection() -> None:
    assert getattr(unpacked("a\ufeffb".encode()), "ResponseTopic", None) == "a\ufffdb"


@pytest.mark.parametrize("text", [b"a\0", b"\xef\xbb\xbf\0"])
def test_what_is_forbidden_is_still_refused(text: bytes) -> None:
    with pytest.raises(MalformedPacket):
        unpacked(text)
