"""What somebody else may say on our status topic."""

import pytest

from edgepose.messages.structs import StatusMessage, encode, timestamp
from edgepose.mqtt.presence import Presence


def status(state: str, session: str) -> bytes:
    return encode(StatusMessage(state=state, reason="-", session=session, at=timestamp(0)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b'{"state": "\xb3"}', b"[" * 5000, b'{"x": ' + b"[" * 5000, status("offline", "other")],
    ids=lambda payload: payload[:9],
)
def test_what_is_no_word_of_a_living_daemon_is_spoken_over(payload: bytes) -> None:
    presence = Presence("edgepose/drone/status", "json")
    assert presence.receive(payload, live=True) == "gone"
    assert presence.duplicate_session is None


def test_a_duplicate_session_is_reported_once_and_only_while_it_lives() -> None:
    presence = Presence("edgepose/drone/status", "json")
    assert presence.receive(status("online", presence.session), live=True) == "nothing"
    assert presence.receive(status("online", "before"), live=False) == "nothing"
    assert presence.receive(status("online", "other"), live=True) == "online"
    assert presence.receive(status("online", "other"), live=True) == "nothing"
    assert presence.duplicate_session == "other"
    assert presence.receive(status("offline", "other"), live=True) == "gone"
    assert presence.duplicate_session is None
