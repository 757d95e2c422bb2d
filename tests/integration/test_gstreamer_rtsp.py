"""GStreamer as the reader of network cameras, against a real RTSP server: the same errors and clocks as FFmpeg's reader."""

import gc
import itertools
import os
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from edgepose.capture.gstreamer.source import GStreamerSource
from edgepose.capture.source import Source, open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import SourceError
from testing import jetson
from testing.gstreamer import needs_gstreamer
from testing.reading import read_until_error
from testing.servers.certificates import Authority
from testing.servers.mosquitto import free_port
from testing.servers.rtsp import RtspServer
from testing.waiting import in_time, wait_for

pytestmark = needs_gstreamer


def camera(url: str, transport: str = "tcp", **settings: object) -> CameraConfig:
    # On a machine that is busy with other things pictures are late, which is not what is tested here.
    return CameraConfig(source=url, reader="gstreamer", rtsp_transport=transport, stale_after_s=0, **settings)  # type: ignore[arg-type]


def ended(name: str) -> bool:
    return all(thread.name != name for thread in threading.enumerate())


def element_names(source: Source) -> list[str]:
    """What the running pipeline consists of."""
    assert isinstance(source, GStreamerSource)
    elements = source._video._pipeline.iterate_recurse()  # type: ignore[attr-defined]
    names = []
    while (found := elements.next())[0] == 1:
        names.append(found[1].get_factory().get_name())
    return names


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_come_with_the_cameras_clock(shared_server: RtspServer, transport: str) -> None:
    with closing(open_source("front", camera(shared_server.url(), transport), epoch=3)) as source:
        first = source.read()
        assert source.live
        assert (first.camera, first.epoch) == ("front", 3)
        assert first.image.shape == (240, 320, 3)
        assert first.image.max() > 200  # the ball is white
        frames = [first]
        deadline = time.monotonic() + 120
        while frames[-1].clock != "rtcp":
            assert time.monotonic() < deadline, f"no sender report; clocks were {[frame.clock for frame in frames]}"
            frames.append(source.read())
        reported = []
        for _ in range(10):
            reported.append(source.read())
            age_s = (time.time_ns() - reported[-1].captured_at_ns) / 1e9  # server and client share one clock
            assert age_s > -0.05
            assert in_time(age_s, 0.5)
    assert {frame.clock for frame in frames[:-1]} <= {"stream"}
    assert {frame.clock for frame in reported} == {"rtcp"}
    steps_ms = [
        (after.captured_at_ns - before.captured_at_ns) / (after.sequence - before.sequence) / 1e6
        for before, after in itertools.pairwise(reported)
    ]
    assert steps_ms == pytest.approx([1000 / 15] * len(steps_ms), abs=2)
    assert wait_for(lambda: ended("capture-front"))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_frozen_server_counts_as_stalled_in_time(server: RtspServer, transport: str) -> None:
    with closing(open_source("front", camera(server.url(), transport, read_timeout_s=1))) as source:
        source.read()
        server.freeze()
        frozen_at = time.monotonic()
        _, error = read_until_error(source)
        assert error.cause == "stalled"
        took_s = time.monotonic() - frozen_at
        assert took_s > 0.9
        assert in_time(took_s, 2.5)
        assert str(error).startswith("camera front: rtsp://127.0.0.1 delivered no frame for 1 s")
    # A frozen server does not answer the goodbye either.
    assert wait_for(lambda: ended("capture-front"))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_killed_server_is_noticed_and_found_again(server: RtspServer, transport: str) -> None:
    settings = camera(server.url(), transport, read_timeout_s=2)
    with closing(open_source("front", settings)) as source:
        source.read()
        server.kill()
        killed_at = time.monotonic()
        _, error = read_until_error(source)
        assert error.cause in (("ended", "stalled", "failed") if transport == "udp" else ("ended",))
        assert in_time(time.monotonic() - killed_at, 4)
    with pytest.raises(SourceError) as refused:
        open_source("front", settings)
    assert refused.value.cause == "refused"
    server.start()
    with closing(open_source("front", settings, epoch=1)) as source:
        assert source.read().epoch == 1


def test_a_server_frozen_before_opening_is_a_timeout(server: RtspServer) -> None:
    server.freeze()
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"did not open within 0\.7 s") as caught:
        open_source("front", camera(server.url(), open_timeout_s=0.7))
    assert caught.value.cause == "timeout"
    assert in_time(time.monotonic() - began, 2)
    assert wait_for(lambda: ended("capture-front"))


@pytest.mark.parametrize(
    ("path", "credentials", "cause"),
    [
        ("/nothing", "", "not_found"),
        ("/guarded", "", "unauthorized"),
        ("/guarded", "pilot:wrong@", "unauthorized"),
        ("/sound", "", "no_video"),
        ("/future", "", "unsupported"),
    ],
)
def test_what_cannot_be_opened_has_a_cause(shared_server: RtspServer, path: str, credentials: str, cause: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("front", camera(shared_server.url(path, credentials)))
    assert caught.value.cause == cause
    assert "wrong" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_nobody_listens_and_nobody_is_called_so() -> None:
    with pytest.raises(SourceError, match="refused the connection") as refused:
        open_source("front", camera(f"rtsp://pilot:s3cret@127.0.0.1:{free_port()}/cam"))
    assert refused.value.cause == "refused"
    assert "s3cret" not in str(refused.value)
    with pytest.raises(SourceError, match="host name that cannot be resolved") as unknown:
        open_source("front", camera("rtsp://camera.invalid/cam"))
    assert unknown.value.cause == "not_found"


@pytest.mark.parametrize("password", ["s3cret", "s3%63ret"])
def test_the_right_password_opens(shared_server: RtspServer, password: str) -> None:
    with closing(open_source("front", camera(shared_server.url("/guarded", f"pilot:{password}@")))) as source:
        assert source.read().image.shape == (240, 320, 3)
        assert source.url == "rtsp://127.0.0.1"


def test_a_camera_is_verified_against_its_authority(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "authority"), Authority(tmp_path, "stranger")
    certificate, key = authority.issue("camera", host="localhost")
    with RtspServer(tmp_path, "--certificate", str(certificate), "--key", str(key)) as server:
        url = f"rtsps://localhost:{server.port}/cam"
        with closing(open_source("front", camera(url, ca_file=str(authority.certificate)))) as source:
            assert source.read().image.shape == (240, 320, 3)
        # UDP would pass beside the encryption.
        with closing(open_source("front", camera(url, "udp", ca_file=str(authority.certificate)))) as source:
            assert "udpsrc" not in element_names(source)
        for ca_file, address in ((stranger, url), (authority, url.replace("localhost", "127.0.0.1"))):
            with pytest.raises(SourceError) as refused:
                open_source("front", camera(address, ca_file=str(ca_file.certificate)))
            assert refused.value.cause == "tls", str(refused.value)
            assert "certificate" in str(refused.value)
        with pytest.raises(SourceError) as system:
            open_source("front", camera(url))
        assert system.value.cause == "tls"
        with pytest.raises(SourceError) as nothing:
            open_source("front", camera(url, ca_file=str(tmp_path / "nothing.pem")))
        assert nothing.value.cause == "tls"
    with RtspServer(tmp_path) as plain, pytest.raises(SourceError) as clear:
        open_source("front", camera(plain.url().replace("rtsp:", "rtsps:")))
    assert clear.value.cause == "tls"


def test_the_size_may_change(shared_server: RtspServer) -> None:
    with closing(open_source("front", camera(shared_server.url("/growing")))) as source:
        sizes = {source.read().image.shape}
        deadline = time.monotonic() + 120
        while len(sizes) < 2:
            assert time.monotonic() < deadline
            sizes.add(source.read().image.shape)
    assert sizes == {(240, 320, 3), (480, 640, 3)}


def test_a_decoder_in_hardware_is_taken_where_there_is_one(shared_server: RtspServer) -> None:
    settings = CameraConfig(source=shared_server.url())
    with jetson.elements(jetson.DECODER, jetson.CONVERTER), closing(open_source("front", settings)) as source:
        image = source.read().image
        names = element_names(source)
    assert image.shape == (240, 320, 3)
    assert image.max() > 200
    assert {"nvv4l2decoder", "nvvidconv"} <= set(names)


def test_attempts_that_fail_leave_nothing_behind(shared_server: RtspServer) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def attempt() -> None:
        with pytest.raises(SourceError):
            open_source("front", camera(shared_server.url("/nothing")))
        wait_for(lambda: ended("capture-front"))

    attempt()
    gc.collect()
    gc.disable()  # what only the collector frees is left behind for a while, and a camera may be away for weeks
    try:
        before = open_files()
        for _ in range(10):
            attempt()
        assert open_files() <= before + 2
    finally:
        gc.enable()
