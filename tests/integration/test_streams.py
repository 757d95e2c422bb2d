"""Streams that are no RTSP, from a sender that is a program of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from edgepose.capture.source import Source, open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import SourceError
from testing.reading import read_until_error
from testing.servers.mosquitto import free_port
from testing.waiting import in_time, wait_for


@contextmanager
def sending(name: str, url: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "testing.servers.sender", name, url]
    if name == "flv":  # PyAV cannot tell RTMP to listen; FFmpeg's own program can
        picture = ["-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=15", "-c:v", "libx264", "-tune", "zerolatency", "-g", "15"]
        command = ["ffmpeg", "-v", "error", *picture, "-f", "flv", "-listen", "1", url]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def opened(url: str) -> Source:
    """Opened as a daemon does it: again, until the sender is there."""

    def attempt() -> Source | None:
        try:
            return open_source("front", CameraConfig(source=url, open_timeout_s=8, read_timeout_s=1))
        except SourceError:
            return None

    source = wait_for(attempt, within_s=25, every_s=0.2)
    assert source is not None
    return source


@pytest.mark.parametrize(
    ("scheme", "name", "read", "sent"),
    [
        ("udp", "mpegts", "@:{port}", "{address}?pkt_size=1316"),
        ("rtp", "rtp_mpegts", "{address}", "{address}"),
        ("tcp", "mpegts", "{address}", "{address}?listen=1"),
        pytest.param(
            *("rtmp", "flv", "{address}/live/cam", "{address}/live/cam"),
            marks=pytest.mark.needs("ffmpeg"),
        ),
    ],
)
def test_a_stream_is_read_live_and_fresh_and_its_end_is_an_error(scheme: str, name: str, read: str, sent: str) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    target = f"{scheme}://{sent.format(address=address)}"
    url = f"{scheme}://{read.format(address=address, port=port)}"
    with sending(name, target) as sender, closing(opened(url)) as source:
        assert source.live
        frames, waits_s = [], []
        for _ in range(15):
            began = time.monotonic()
            frames.append(source.read())
            waits_s.append(time.monotonic() - began)
        assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
        assert {frame.clock for frame in frames} == {"stream"}
        # What came while FFmpeg probed is old and was dropped: from the first picture on they come as they are taken.
        taken_s = (frames[-1].captured_at_ns - frames[0].captured_at_ns) / 1e9
        assert taken_s == pytest.approx(14 / 15, abs=0.3)
        assert sum(waits_s[1:]) > 14 / 15 - 0.6
        assert in_time(sum(waits_s[1:]), 14 / 15 + 0.6)
        assert in_time(abs(time.time_ns() - frames[-1].captured_at_ns) / 1e9, 0.5)
        sender.kill()
        killed_at = time.monotonic()
        _, error = read_until_error(source)
        assert error.cause in ("stalled", "ended", "failed")
        assert in_time(time.monotonic() - killed_at, 4)


def test_nobody_sends() -> None:
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        open_source("front", CameraConfig(source=f"udp://127.0.0.1:{free_port()}", open_timeout_s=0.5))
    assert caught.value.cause == "timeout"
    assert in_time(time.monotonic() - began, 3)
