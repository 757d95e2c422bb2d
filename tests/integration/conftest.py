"""Servers that tests share; tests against servers are skipped, with the reason, where a server is not installed."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from testing.servers import mosquitto, rtsp


@cache
def rtsp_server_is_there() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    return Path(rtsp.PYTHON).exists() and subprocess.run([rtsp.PYTHON, "-c", probe], capture_output=True).returncode == 0


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = vars(getattr(item, "module", item))
        if names.get("Mosquitto") is mosquitto.Mosquitto and not Path(mosquitto.EXECUTABLE).exists():
            item.add_marker(pytest.mark.skip(reason=f"{mosquitto.EXECUTABLE} is not installed (Debian package mosquitto)"))
        if names.get("RtspServer") is rtsp.RtspServer and not rtsp_server_is_there():
            item.add_marker(pytest.mark.skip(reason="GStreamer's RTSP server is not installed (Debian package gir1.2-gst-rtsp-server-1.0)"))
