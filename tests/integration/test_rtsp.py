"""The capture room against a real RTSP server: GStreamer's."""

import itertools
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import SourceError
from testing.reading import read_until_error
from testing.servers.mosquitto import free_port
from testing.servers.rtsp import RtspServer
from testing.waiting import in_time, wait_for


def ended(name: str) -> bool:
    return all(thread.name != name for thread in threading.enumerate())


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_come_with_the_cameras_clock(shared_server: RtspServer, transport: str) -> None:
    began = time.monotonic()
    camera = CameraConfig(source=shared_server.url(), rtsp_transport=transport)  # type: ignore[arg-type]
    with closing(open_source("front", camera, epoch=3)) as source:
        first = source.read()
        assert in_time(time.monotonic() - began, 2.5)  # FFmpeg's own probing alone takes 1 to 3 s
        assert source.live
        assert (first.camera, first.epoch, first.sequence) == ("front", 3, 0)
        assert first.image.shape == (240, 320, 3)
        assert (source.width, source.height) == (320, 240)
        assert first.image.max() > 200  # the ball is white

        frames = [first]
        deadline = time.monotonic() + 120
        while frames[-1].clock != "rtcp" or frames[-2].clock != "rtcp":
            assert time.monotonic() < deadline, f"no sender report; clocks were {[frame.clock for frame in frames]}"
            frames.append(source.read())
        for _ in range(10):
            frames.append(source.read())
            age_s = (time.time_ns() - frames[-1].captured_at_ns) / 1e9  # server and client share one clock
            assert age_s > -0.05
            assert in_time(age_s, 0.5)
    numbers = [frame.sequence for frame in frames]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] + 1 == len(frames) + source.stale_frames  # the first few, which came at no pace yet
    assert source.stale_frames < 5
    reported = [frame.captured_at_ns for frame in frames if frame.clock == "rtcp"]
    steps_ms = [(after - before) / 1e6 for before, after in itertools.pairwise(reported)]
    assert steps_ms == pytest.approx([1000 / 15] * len(steps_ms), abs=2)
    assert source.corrupt_frames == 0
    assert wait_for(lambda: ended("capture-front"))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_frozen_server_counts_as_stalled_in_time(server: RtspServer, transport: str) -> None:
    camera = CameraConfig(source=server.url(), rtsp_transport=transport, read_timeout_s=1)  # type: ignore[arg-type]
    with closing(open_source("front", camera)) as source:
        source.read()
        server.freeze()
        frozen_at = time.monotonic()
        _, error = read_until_error(source)
        assert error.cause == "stalled"
        took_s = time.monotonic() - frozen_at
        assert took_s > 0.9
        assert in_time(took_s, 2)
        assert str(error).startswith("camera front: rtsp://127.0.0.1 delivered no frame for 1 s")
        with pytest.raises(SourceError) as closed:
            source.read()
        assert closed.value.cause == "closed"
    # PyAV lets go after twice its time-out: no thread stays behind.
    assert wait_for(lambda: ended("capture-front"), within_s=10)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_killed_server_is_noticed_at_once_and_found_again(server: RtspServer, transport: str) -> None:
    camera = CameraConfig(source=server.url(), rtsp_transport=transport, read_timeout_s=2)  # type: ignore[arg-type]
    with closing(open_source("front", camera)) as source:
        source.read()
        server.kill()
        killed_at = time.monotonic()
        _, error = read_until_error(source)
        assert error.cause in ("ended", "stalled") if transport == "udp" else error.cause == "ended"
        assert in_time(time.monotonic() - killed_at, 3 if transport == "udp" else 1)
    with pytest.raises(SourceError) as refused:
        open_source("front", camera)
    assert refused.value.cause == "refused"
    server.start()
    with closing(open_source("front", camera, epoch=1)) as source:
        again = source.read()
        assert (again.epoch, again.sequence) == (1, 0)


def test_a_server_frozen_before_opening_is_a_timeout(server: RtspServer) -> None:
    server.freeze()
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"did not open within 0\.7 s") as caught:
        open_source("front", CameraConfig(source=server.url(), open_timeout_s=0.7))
    assert caught.value.cause == "timeout"
    assert in_time(time.monotonic() - began, 1.2)
    assert wait_for(lambda: ended("capture-front"), within_s=10)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="refused the connection") as caught:
        open_source("front", CameraConfig(source=f"rtsp://pilot:s3cret@127.0.0.1:{free_port()}/cam"))
    assert caught.value.cause == "refused"
    assert "s3cret" not in str(caught.value)
    assert "pilot" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "credentials", "cause"),
    [
        ("/nothing", "", "not_found"),
        ("/guarded", "", "unauthorized"),
        ("/guarded", "pilot:wrong@", "unauthorized"),
    ],
)
def test_what_cannot_be_opened_has_a_cause(shared_server: RtspServer, path: str, credentials: str, cause: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("front", CameraConfig(source=shared_server.url(path, credentials)))
    assert caught.value.cause == cause
    assert "wrong" not in str(caught.value)


def test_the_right_password_opens(shared_server: RtspServer) -> None:
    with closing(open_source("front", CameraConfig(source=shared_server.url("/guarded", "pilot:s3cret@")))) as source:
        assert source.read().image.shape == (240, 320, 3)
        assert source.url == "rtsp://127.0.0.1"


def test_close_ends_a_read_in_another_thread(server: RtspServer) -> None:
    source = open_source("front", CameraConfig(source=server.url(), read_timeout_s=3))
    source.read()
    server.freeze()
    errors: list[SourceError] = []
    reader = threading.Thread(target=lambda: errors.append(read_until_error(source)[1]))
    reader.start()
    began = time.monotonic()
    source.close()
    source.close()
    reader.join(60)
    assert not reader.is_alive()
    assert [error.cause for error in errors] == ["closed"]
    assert in_time(time.monotonic() - began, 1.5)  # two courtesy waits of 0.5 s for the hanging thread
