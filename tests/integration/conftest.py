"""Servers that tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.servers import mosquitto, rtsp


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[mosquitto.Mosquitto]:
    with mosquitto.Mosquitto(tmp_path) as started:
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[rtsp.RtspServer]:
    with rtsp.RtspServer(tmp_path) as started:
        yield started


@pytest.fixture
def camera(server: rtsp.RtspServer) -> rtsp.RtspServer:
    """The same, by what it stands for beside a daemon."""
    return server


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rtsp.RtspServer]:
    """For tests that leave it as it was."""
    with rtsp.RtspServer(tmp_path_factory.mktemp("rtsp")) as started:
        yield started
