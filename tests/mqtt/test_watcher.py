import msgspec
import pytest

from edgepose.mqtt.watcher import as_json


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        (b'{"schema":1}', b'{"schema":1}'),
        (msgspec.msgpack.encode({"schema": 1}), b'{"schema":1}'),
        (b"\xc1 of another program", None),
        (b"\x91" * 5000, None),
        (b"", None),
    ],
)
def test_payloads_of_both_encodings_become_json(payload: bytes, line: bytes | None) -> None:
    assert as_json("edgepose/drone/cameras/front/poses", payload) == line


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b31m", "\u202e", "\u2028", "a\nforged"])
def test_a_payload_cannot_control_the_terminal_or_forge_a_line(evil: str) -> None:
    for payload in (msgspec.msgpack.encode({"a": evil}), ('{"a":"' + evil.replace("\n", "\\n") + '"}').encode()):
        line = as_json("edgepose/drone/status", payload)
        if line is not None:  # raw controls are no JSON
            assert line.isascii()
            assert b"\n" not in line
            assert msgspec.json.decode(line) == {"a": evil}
    assert as_json("edgepose/drone/status", b'{"a":1,\n"b":2}') == b'{"a":1,"b":2}'
