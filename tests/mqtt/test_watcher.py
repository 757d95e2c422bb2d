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
    assert as_json(payload) == line
