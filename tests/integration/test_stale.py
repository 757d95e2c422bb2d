"""After a stall of the camera, of the network or of ourselves only fresh frames are given; buffered ones are counted."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import SourceError
from testing.faults.relay import Relay
from testing.servers.rtsp import RtspServer
from testing.waiting import in_time, wait_for

STALL_S = 3.0
STALE_S = 1.5  # `stale_after_s`, and half a second for a machine that is busy
HELD_UP_S = 2.5  # frames that were held up, and given all the same, would be nearly STALL_S old


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    with RtspServer(tmp_path) as running:
        yield running


def test_a_camera_that_was_held_up(server: RtspServer) -> None:
    camera = CameraConfig(source=server.url(), read_timeout_s=10)
    with closing(open_source("front", camera)) as source:
        for _ in range(15):
            source.read()
        settled = source.stale_frames
        server.freeze()
        threading.Timer(STALL_S, server.thaw).start()
        frozen_at = time.monotonic()
        ages_s = []
        while time.monotonic() < frozen_at + STALL_S + 1:
            frame = source.read()
            ages_s.append((time.time_ns() - frame.captured_at_ns) / 1e9)
        assert in_time(max(ages_s), STALE_S, at_most_s=HELD_UP_S)
        assert 10 < source.stale_frames - settled < 45  # two of three seconds at 15 frames a second
        assert frame.sequence > 60  # the same connection: nothing was opened again


PROGRAM = """
import sys, time
from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig

source = open_source("front", CameraConfig(source=sys.argv[1], rtsp_transport=sys.argv[2], read_timeout_s=10))
while True:
    frame = source.read()
    print((time.time_ns() - frame.captured_at_ns) / 1e9, frame.clock, source.stale_frames, flush=True)
"""


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_we_were_held_up(server: RtspServer, transport: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, server.url(), transport], stdout=subprocess.PIPE, text=True)
    said: list[list[str]] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: said.extend(line.split() for line in process.stdout or ()))
    reader.start()
    try:
        wait_for(lambda: len(said) > 15, within_s=30)
        process.send_signal(signal.SIGSTOP)
        time.sleep(STALL_S)
        before = len(said)
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: len(said) > before + 15)
    finally:
        process.kill()
        process.wait(60)
        reader.join(60)
        process.stdout.close()
    assert in_time(max(float(age) for age, *_ in said), STALE_S, at_most_s=HELD_UP_S)
    assert int(said[-1][2]) - int(said[before - 1][2]) > 10


def test_a_network_slower_than_its_stream_is_given_up_and_found_again(server: RtspServer) -> None:
    """The frames of a connection come later and later; each new connection begins without a backlog."""
    with Relay(server.port) as relay:
        camera = CameraConfig(source=f"rtsp://127.0.0.1:{relay.port}/cam", stale_after_s=0.5)
        with closing(open_source("front", camera)) as source:
            for _ in range(15):
                source.read()
            relay.bytes_per_s = 6000
            slow_since = time.monotonic()
            error = None
            while error is None and time.monotonic() < slow_since + 25:
                try:
                    frame = source.read()
                except SourceError as lost:
                    error = lost
                else:
                    assert in_time((time.time_ns() - frame.captured_at_ns) / 1e9, STALE_S, at_most_s=HELD_UP_S)
            assert error is not None
            assert error.cause == "stalled"
            assert "late and does not catch up: the network is slower than the stream" in str(error)
            assert source.stale_frames > 0
        relay.bytes_per_s = None
        began = time.monotonic()
        with closing(open_source("front", camera, epoch=1)) as source:
            source.read()
            assert in_time(time.monotonic() - began, 5)
