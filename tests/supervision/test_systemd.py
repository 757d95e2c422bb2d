import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepose.supervision.systemd import Notifier


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        name = str(tmp_path / "notify") if request.param == "file" else f"@edgepose-test-{os.getpid()}"
        receiver.bind(name.replace("@", "\0"))
        receiver.settimeout(5)
        yield receiver, name


def test_states_arrive_at_the_manager(manager: tuple[socket.socket, str]) -> None:
    receiver, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name}, pid=1)
    notifier.ready()
    notifier.alive()
    notifier.status("two\nlines")
    notifier.stopping()
    assert [receiver.recv(100) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"STATUS=two lines", b"STOPPING=1"]


@pytest.mark.parametrize(
    ("variables", "watchdog_s"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "/x"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000"}, 2.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, 2.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "2000000"}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_it_is_ours(variables: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier(variables, pid=7).watchdog_s == watchdog_s


def test_a_manager_that_is_gone_is_told_in_the_log(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, pid=1).ready()
    assert "did not take READY: No such file" in caplog.text


def test_nothing_happens_without_a_manager(caplog: pytest.LogCaptureFixture) -> None:
    Notifier({}, pid=1).ready()
    assert caplog.text == ""
