"""What can be the matter with a camera, each with its name, from a real server."""

import functools
import http.server
import random
import ssl
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
from testing.reading import read_until_error
from testing.servers.certificates import Authority
from testing.servers.interleaved import RTP_HEADER, Interleaved
from testing.servers.rtsp import RtspServer
from testing.videos import write_video
from testing.waiting import in_time


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    with RtspServer(tmp_path_factory.mktemp("rtsp")) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[RtspServer]:
    """Its certificate names `localhost`."""
    certificate, key = authority.issue("camera", host="localhost")
    with RtspServer(tmp_path_factory.mktemp("secure"), "--certificate", str(certificate), "--key", str(key)) as running:
        yield running


def by_name(server: RtspServer) -> str:
    return server.url().replace("127.0.0.1", "localhost")


def source_error(camera: CameraConfig) -> SourceError:
    with pytest.raises(SourceError) as caught:
        open_source("front", camera)
    return caught.value


@pytest.mark.parametrize(
    ("path", "cause", "said"),
    [
        ("/sound", "no_video", "has no video stream; expected a source with video"),
        ("/future", "unsupported", "has video in a format that cannot be decoded; expected H.264, H.265 or MJPEG"),
    ],
)
def test_nothing_that_can_be_shown(server: RtspServer, path: str, cause: str, said: str) -> None:
    error = source_error(CameraConfig(source=server.url(path)))
    assert error.cause == cause
    assert str(error) == f"camera front: rtsp://127.0.0.1 {said}"


@pytest.mark.needs("unshare")
def test_no_route() -> None:
    program = (
        "from edgepose.capture.source import open_source; from edgepose.config.schema import CameraConfig\n"
        "try: open_source('front', CameraConfig(source='rtsp://pilot:s3cret@192.0.2.1/cam'))\n"
        "except Exception as error: print(error.cause, error, sep='\\n')"
    )
    alone = ["unshare", "--user", "--map-root-user", "--net"]  # a network of its own that leads nowhere
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this system allows no network namespaces")
    began = time.monotonic()
    run = subprocess.run([*alone, sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert run.stdout.splitlines() == [
        "no_route",
        "camera front: rtsp://192.0.2.1 cannot be reached (network is unreachable); check the address, the cable or radio"
        " link, and the routes",
    ], run.stderr
    assert in_time(time.monotonic() - began, 20)


def test_the_certificate_of_a_camera_is_verified(secure_server: RtspServer, authority: Authority) -> None:
    camera = CameraConfig(source=by_name(secure_server), ca_file=str(authority.certificate), rtsp_transport="udp")  # but never in the clear
    with closing(open_source("front", camera)) as source:
        assert source.read().image.shape == (240, 320, 3)


def test_the_systems_authorities_are_asked_where_none_is_named(
    secure_server: RtspServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = source_error(CameraConfig(source=by_name(secure_server)))
    assert error.cause == "tls"
    assert "has a certificate that is refused (unable to get local issuer certificate); expected one that names this host" in str(error)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with closing(open_source("front", CameraConfig(source=by_name(secure_server)))) as source:
        assert source.read().image.shape == (240, 320, 3)


def test_another_authority_does_not_do(secure_server: RtspServer, tmp_path: Path) -> None:
    error = source_error(CameraConfig(source=by_name(secure_server), ca_file=str(Authority(tmp_path, "other").certificate)))
    assert error.cause == "tls"
    assert "certificate that is refused" in str(error)


def test_a_certificate_of_another_host_does_not_do(secure_server: RtspServer, authority: Authority) -> None:
    error = source_error(CameraConfig(source=secure_server.url(), ca_file=str(authority.certificate)))
    assert error.cause == "tls"
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in str(error)


def test_a_certificate_that_has_expired_does_not_do(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("old", host="localhost", days=-1)
    with RtspServer(tmp_path, "--certificate", str(certificate), "--key", str(key)) as server:
        error = source_error(CameraConfig(source=by_name(server), ca_file=str(authority.certificate)))
    assert error.cause == "tls"
    assert "certificate has expired" in str(error)


def test_a_camera_that_speaks_no_tls_is_named(server: RtspServer, authority: Authority) -> None:
    error = source_error(CameraConfig(source=server.url().replace("rtsp://", "rtsps://"), ca_file=str(authority.certificate)))
    assert error.cause == "tls"
    assert "failed the TLS handshake" in str(error)


def test_a_web_server_is_verified_too(authority: Authority, tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", 7)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("web", host="localhost"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        url = f"https://localhost:{server.server_port}/video.mp4"
        with closing(open_source("front", CameraConfig(source=url, ca_file=str(authority.certificate)))) as source:
            assert not source.live
            assert source.read().image.shape == (64, 96, 3)
        assert source_error(CameraConfig(source=url)).cause == "tls"
        elsewhere = CameraConfig(source=url.replace("localhost", "127.0.0.1"), ca_file=str(authority.certificate))
        assert source_error(elsewhere).cause == "tls"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none_is_named(server: RtspServer, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    error = source_error(CameraConfig(source=server.url().replace("rtsp://", "rtsps://"), ca_file=str(path)))
    assert error.cause == "tls"
    assert f"{path} cannot be used as ca_file" in str(error)


def test_the_size_may_change_in_mid_stream(server: RtspServer) -> None:
    with closing(open_source("front", CameraConfig(source=server.url("/growing"), read_timeout_s=3))) as source:
        sizes = [(320, 240)]
        deadline = time.monotonic() + 120
        while len(sizes) < 3 and time.monotonic() < deadline:
            frame = source.read()
            if (frame.width, frame.height) != sizes[-1]:
                sizes.append((frame.width, frame.height))
                assert (source.width, source.height) == sizes[-1]
    assert sizes == [(320, 240), (640, 480), (320, 240)]


def test_damaged_packets_are_counted_and_the_stream_goes_on(server: RtspServer) -> None:
    chance = random.Random(1)
    damaged: list[int] = []

    def flip(packet: bytes) -> bytes:
        if chance.random() > 0.1 or len(packet) < 40:
            return packet
        bits = bytearray(packet)
        for _ in range(8):
            bits[chance.randrange(RTP_HEADER + 2, len(bits))] ^= 1 << chance.randrange(8)
        damaged.append(1)
        return bytes(bits)

    with Relay(server.port) as relay:
        relay.mangle = Interleaved(flip)
        camera = CameraConfig(source=f"rtsp://127.0.0.1:{relay.port}/cam", read_timeout_s=3)
        with closing(open_source("front", camera)) as source:
            frames = [source.read() for _ in range(40)]
            assert source.corrupt_frames > 0
            assert source.corrupt_frames <= len(damaged)
            relay.mangle = None
            before = source.corrupt_frames
            frames += [source.read() for _ in range(15)]
            assert source.corrupt_frames <= before + 2  # those on their way
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}


def test_headers_of_packets_may_be_damaged_too(server: RtspServer) -> None:
    chance = random.Random(2)

    def flip(packet: bytes) -> bytes:
        if chance.random() > 0.1:
            return packet
        bits = bytearray(packet)
        bits[chance.randrange(RTP_HEADER)] ^= 1 << chance.randrange(8)
        return bytes(bits)

    with Relay(server.port) as relay:
        relay.mangle = Interleaved(flip)
        with closing(open_source("front", CameraConfig(source=f"rtsp://127.0.0.1:{relay.port}/cam", read_timeout_s=3))) as source:
            for _ in range(30):
                frame = source.read()
                assert in_time(abs(time.time_ns() - frame.captured_at_ns) / 1e9, 2)


def test_time_stamps_that_stand_still_are_frozen(server: RtspServer) -> None:
    with Relay(server.port) as relay:
        relay.mangle = Interleaved(lambda packet: packet[:4] + b"\0\1\0\0" + packet[8:])
        with closing(open_source("front", CameraConfig(source=f"rtsp://127.0.0.1:{relay.port}/cam", stale_after_s=0.5))) as source:
            began = time.monotonic()
            _, error = read_until_error(source)
    assert error.cause == "frozen"
    assert "timestamps have stood still" in str(error)
    assert in_time(time.monotonic() - began, 5)
