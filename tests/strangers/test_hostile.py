"""Hostile cameras: each costs itself only, leads nowhere, and is told in one sentence. A new one is one more line in a table."""

import itertools
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edgepose.capture.limits import MB, PictureHeader, decode_picture, read_header
from edgepose.capture.network import addresses
from edgepose.capture.network.addresses import Reach, is_public
from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import SourceError
from testing.reading import read_until_error
from testing.servers.certificates import Authority
from testing.servers.http_camera import Answer, HttpCamera, Visit, gray_jpeg, resized_jpeg
from testing.waiting import in_time

ELSEWHERE = "127.0.0.2"
"""Another host than the camera's own, and no public one."""


def failure_of(url: str, **settings: object) -> SourceError:
    """Return why a camera is lost, at the latest after ten frames."""
    try:
        with closing(open_source("front", CameraConfig(source=url, **settings))) as source:  # type: ignore[arg-type]
            for _ in range(10):
                source.read()
    except SourceError as error:
        found = error
    else:
        raise AssertionError("it is read")
    assert str(found).startswith("camera front: ")
    assert "\n" not in str(found)
    return found


# Pictures

PICTURES = [
    # header, largest side after decoding; 0: refused
    (resized_jpeg(12000, 9000), 3000),
    (resized_jpeg(15900, 15900), 3975),
    (resized_jpeg(30000, 30000), 3750),
    (resized_jpeg(65000, 65000), 0),
    (resized_jpeg(15900, 15900, progressive=True), 0),
    (resized_jpeg(1920, 1080, progressive=True), 1920),
    (gray_jpeg(9, (1920, 1080), ".png"), 1920),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (30000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + bytes(4), 0),
    (b"BM" + bytes(12) + (40).to_bytes(4, "little") + (30000).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24), 0),
    (b"RIFF\xff\xff\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16000).to_bytes(3, "little") * 2, 0),
]


@pytest.mark.parametrize(("encoded", "side"), PICTURES, ids=[f"{read_header(encoded)}" for encoded, _ in PICTURES])
def test_a_picture_is_read_at_a_fraction_or_refused(encoded: bytes, side: int) -> None:
    header = read_header(encoded)
    assert header is not None
    if side:
        decoded = decode_picture(encoded, 64 * MB, "here")
        assert decoded is not None
        image, factor = decoded
        assert max(image.shape) == side
        assert factor == max(header.width, header.height) // side
        assert image.nbytes <= 64 * MB
        return
    with pytest.raises(SourceError) as caught:
        decode_picture(encoded, 64 * MB, "here")
    assert caught.value.cause == "too_large"
    assert f"{header.width}x{header.height} pixels" in str(caught.value)
    assert "expected at most 64 MB (`frame_limit_mb`)" in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".ppm", ".tiff"])
def test_the_header_of_every_format_is_read(suffix: str) -> None:
    encoded = gray_jpeg(9, (321, 123), suffix)
    header = read_header(encoded)
    assert header is not None
    assert (header.width, header.height) == (321, 123)
    for cut in range(0, min(len(encoded), 400), 7):
        read_header(encoded[:cut])


def test_colors_survive() -> None:
    red = np.zeros((40, 40, 3), np.uint8)
    red[:, :, 2] = 255  # OpenCV's order
    for suffix in (".png", ".jpg"):
        decoded = decode_picture(cv2.imencode(suffix, red)[1].tobytes(), MB, "here")
        assert decoded is not None
        assert decoded[0][20, 20, 0] > 250
        assert decoded[0][20, 20, 2] < 5


def test_coefficients_of_a_progressive_picture_count() -> None:
    header = read_header(resized_jpeg(1000, 1000, progressive=True))
    assert header == PictureHeader("jpeg", 1000, 1000, 3_000_000)  # 4:2:0: one and a half samples a pixel, two bytes each


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("ts", "libx264"), ("avi", "mjpeg")])
def test_a_video_above_the_limit_is_refused(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"large.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((720, 1280, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    error = failure_of(str(path), frame_limit_mb=2)
    assert error.cause == "too_large"
    assert "has frames of 1280x720 pixels, which takes 3 MB; expected at most 2 MB (`frame_limit_mb`)" in str(error)


# What a server sends


def endless(piece: bytes) -> Iterator[bytes]:
    yield b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n\xff\xd8\xff"
    for _ in range(2_000):
        yield piece


def many_headers(visit: Visit) -> None:
    visit.send_response(200)
    for number in range(90):
        visit.send_header(f"X-{number}", "x" * 1000)
    visit.send_header("Content-Length", "0")
    visit.end_headers()


def endless_header(visit: Visit) -> None:
    visit.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(1000):
        visit.wfile.write(b"x" * 65_536)


def endless_continue(visit: Visit) -> None:
    while True:
        visit.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


MULTIPART = "multipart/x-mixed-replace"


def no_http(visit: Visit) -> None:
    visit.wfile.write(b"SSH-2.0-x\r\n")


SENT: list[tuple[str, Answer, str, str]] = [
    ("two gigabytes", lambda v: v.send(body=endless(b"\0" * 65_536), content_type=MULTIPART), "too_large", "MB without a"),
    ("two claimed", lambda v: v.send(body=endless(b"\xff\xd8\xff\xe0"), content_type=MULTIPART), "unsupported", "holds no picture"),
    ("no picture", lambda v: v.send(body=endless(b"x" * 65_536), content_type="image/jpeg"), "too_large", "without a complete frame"),
    ("no video", lambda v: v.send(body=iter([b"\x47" + b"\0" * 187] * 1_000_000), content_type="video/mp2t"), "", ""),
    ("a bomb", lambda v: v.send(body=PICTURES[7][0], content_type="image/png"), "too_large", "30000x30000 pixels, which takes 2700 MB"),
    ("bombs", lambda v: v.send(body=iter([PICTURES[3][0]] * 9), content_type=MULTIPART), "too_large", "65000x65000 pixels"),
    ("many headers", many_headers, "too_large", "more than 64 KiB of headers"),
    ("an endless header", endless_header, "unsupported", ""),
    ("endless continue", endless_continue, "timeout", ""),
    ("no HTTP", no_http, "unsupported", "its answer is not HTTP"),
    ("a playlist without end", lambda v: v.send(body=itertools.chain([b"#EXTM3U\n"], iter([b"#" * 65_536] * 99))), "too_large", ""),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "cause", "said"), [case[1:] for case in SENT], ids=[case[0] for case in SENT])
def test_what_a_server_sends_is_bounded(answer: Answer, cause: str, said: str) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.monotonic()
    with HttpCamera({"*": answer}) as camera:
        error = failure_of(camera.url("/"), open_timeout_s=2, read_timeout_s=2)
    assert in_time(time.monotonic() - began_s, 8)
    assert error.cause == cause or not cause
    assert said in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


# Where a server leads


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        *(
            (address, False)
            for address in ("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254")
        ),
        *((address, False) for address in ("100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1")),
        *((address, False) for address in ("::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1")),
        *((address, False) for address in ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) == public


def test_the_resolved_address_counts_not_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"camera": "10.0.0.5", "alias": "10.0.0.5", "inside": "10.0.0.6", "outside": "8.8.8.8", "metadata": "::ffff:169.254.169.254"}

    def resolve(host: str, port: int | None, **_: object) -> list[tuple[object, ...]]:
        address = known[host]
        family, end = (socket.AF_INET6, (0, 0)) if ":" in address else (socket.AF_INET, ())
        return [(family, socket.SOCK_STREAM, 6, "", (address, port or 0, *end))]

    monkeypatch.setattr("edgepose.capture.network.addresses.socket.getaddrinfo", resolve)
    reach = Reach("camera", "here")
    for host in ("camera", "alias", "outside"):
        assert [str(endpoint.address[0]) for endpoint in reach.resolve(host, 80, f"http://{host}/")] == [known[host]]
    for host in ("inside", "metadata"):
        with pytest.raises(SourceError, match=f"here leads to http://{host}, which is not a public address") as caught:
            reach.resolve(host, 80, f"http://{host}/secret")
        assert caught.value.cause == "forbidden"


@pytest.mark.parametrize(
    ("location", "cause", "said"),
    [
        ("{same}", "failed", "redirects more than 5 times"),
        ("http://" + ELSEWHERE + ":{port}/x", "forbidden", "leads to http://127.0.0.2, which is not a public address"),
        ("http://[::ffff:7f00:2]:{port}/x", "forbidden", "which is not a public address"),
        ("http://0x7f000002:{port}/x", "forbidden", "which is not a public address"),
        ("file:///etc/passwd", "forbidden", "leads to file; expected http:// or https://"),
        ("rtsp://127.0.0.1/x", "forbidden", "leads to rtsp://127.0.0.1; expected http:// or https://"),
        ("gopher://127.0.0.1/x", "forbidden", "expected http:// or https://"),
        ("http://[", "forbidden", "expected http:// or https://"),
    ],
)
def test_redirects_lead_nowhere_else(location: str, cause: str, said: str) -> None:
    with HttpCamera({"*": lambda visit: visit.send(body=gray_jpeg(1))}, ELSEWHERE) as other:
        answers: dict[str, Answer] = {
            "/start": lambda visit: visit.send(302, Location=location.format(same=camera.url("/start"), port=other.port))
        }
        with HttpCamera(answers) as camera:
            error = failure_of(camera.url("/start", credentials="pilot:s3cret@"))
            assert len(camera.visits) <= 6
        assert other.visits == []
    assert error.cause == cause
    assert said in str(error)
    assert "s3cret" not in str(error)


def test_a_redirect_to_its_own_host_is_followed() -> None:
    answers: dict[str, Answer] = {
        "/start": lambda visit: visit.send(302, Location="/next"),
        "/next": lambda visit: visit.send(301, Location=camera.url("/snap")),
        "/snap": lambda visit: visit.send(body=gray_jpeg(1)),
    }
    with HttpCamera(answers) as camera, closing(open_source("front", CameraConfig(source=camera.url("/start")))) as source:
        assert source.read().width == 96


def test_credentials_stay_on_their_port() -> None:
    def ask(visit: Visit) -> None:
        visit.send(401, WWW_Authenticate='Basic realm="x"')

    with HttpCamera({"*": ask}) as other:
        with HttpCamera({"/start": lambda visit: visit.send(302, Location=other.url("/x"))}) as camera:
            assert failure_of(camera.url("/start", credentials="pilot:s3cret@")).cause == "unauthorized"
        assert [visit.headers.get("Authorization") for visit in other.visits] == [None]


def playlist(*lines: str) -> Answer:
    return lambda visit: visit.send(body="\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:1", *lines, ""]).encode())


@pytest.mark.parametrize(
    ("lines", "cause", "most_requests"),
    [
        (["#EXTINF:1,", "http://" + ELSEWHERE + ":{port}/0.ts"], "forbidden", 1),
        (["#EXT-X-STREAM-INF:BANDWIDTH=1", "http://" + ELSEWHERE + ":{port}/x.m3u8"], "forbidden", 1),
        (['#EXT-X-MAP:URI="http://' + ELSEWHERE + ':{port}/x.mp4"', "#EXTINF:1,", "0.m4s"], "forbidden", 4),
        (['#EXT-X-KEY:METHOD=AES-128,URI="http://' + ELSEWHERE + ':{port}/key"', "#EXTINF:1,", "0.ts"], "unsupported", 1),
        (["#EXT-X-STREAM-INF:BANDWIDTH=1", "list.m3u8"] * 500, "unsupported", 2),
        (["#EXTINF:1,", "list.m3u8"] * 500, "", 40),
        (["#EXTINF:1,", "file:///etc/passwd"], "", 10),
        (["#EXTINF:1,", "gone.ts"] * 500, "", 40),
    ],
    ids=["segment", "variant", "map", "key", "itself as variants", "itself as segments", "file", "missing segments"],
)
def test_playlists_lead_nowhere_else(lines: list[str], cause: str, most_requests: int) -> None:
    with HttpCamera({"*": lambda visit: visit.send(body=b"x" * 188)}, ELSEWHERE) as other:
        with HttpCamera({"/list.m3u8": playlist(*[line.replace("{port}", str(other.port)) for line in lines])}) as camera:
            error = failure_of(camera.url("/list.m3u8"), open_timeout_s=3, read_timeout_s=2)
            assert len(camera.visits) <= most_requests
        assert other.visits == []
    assert error.cause == cause or not cause


NESTED = [b"ffconcat version 1.0\nfile 'http://127.0.0.2/x.ts'\n", b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 5000 RTP/AVP 33\r\n"]


@pytest.mark.parametrize("content", NESTED, ids=["concat", "sdp"])
def test_formats_that_name_other_addresses_are_not_read(content: bytes) -> None:
    with HttpCamera({"*": lambda visit: visit.send(body=content, content_type="video/mp4")}) as camera:
        assert failure_of(camera.url("/x")).cause in ("unsupported", "forbidden")


# TLS


@contextmanager
def https(folder: Path, answers: dict[str, Answer], authority: Authority, name: str) -> Iterator[HttpCamera]:
    with HttpCamera(answers, certificate=authority.issue(name, host="localhost")) as camera:
        yield camera


def test_every_connection_under_https_is_verified(tmp_path: Path) -> None:
    good, bad = Authority(tmp_path, "good"), Authority(tmp_path, "bad")
    with https(tmp_path, {"*": lambda visit: visit.send(body=b"x" * 188)}, bad, "other") as other:
        lines = ["#EXTINF:1,", other.url("/0.ts", host="localhost")]
        with https(tmp_path, {"/list.m3u8": playlist(*lines)}, good, "camera") as camera:
            error = failure_of(camera.url("/list.m3u8", host="localhost"), ca_file=str(good.certificate))
        assert other.visits == []
    assert error.cause == "tls"
    assert "has a certificate that is refused" in str(error)


def test_from_https_no_way_leads_to_http(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with HttpCamera({"*": lambda visit: visit.send(body=gray_jpeg(1))}) as plain:
        for answer in (
            lambda visit: visit.send(302, Location=plain.url("/x", host="localhost")),
            playlist("#EXTINF:1,", plain.url("/0.ts", host="localhost")),
            playlist("#EXT-X-STREAM-INF:BANDWIDTH=1", plain.url("/0.m3u8", host="localhost")),
        ):
            with https(tmp_path, {"/start": answer}, authority, "camera") as camera:
                error = failure_of(camera.url("/start", host="localhost"), ca_file=str(authority.certificate))
            assert error.cause == "forbidden"
            assert "http://localhost, which is not encrypted; expected https to the end" in str(error)
        assert plain.visits == []


def test_https_that_is_verified_works(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with https(tmp_path, {"/snap": lambda visit: visit.send(body=gray_jpeg(1))}, authority, "camera") as camera:
        settings = CameraConfig(source=camera.url("/snap", host="localhost"), ca_file=str(authority.certificate))
        with closing(open_source("front", settings)) as source:
            assert source.read().width == 96
        assert failure_of(camera.url("/snap", host="localhost")).cause == "tls"


# RTSP


class RtspCamera:
    """A server that answers every request with the same text; `requests` are what it heard. `{cseq}` is the request's number."""

    def __init__(self, reply: str | Callable[[str], str], address: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        self.requests: list[str] = []
        self._reply = reply
        self._listener = socket.create_server((address, 0))
        self._context = context
        self.port = self._listener.getsockname()[1]
        self.address = address

    def __enter__(self) -> "RtspCamera":
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(20)
            with self._context.wrap_socket(connection, server_side=True) if self._context else connection as secured:
                while data := secured.recv(65_536).decode():
                    self.requests.append(data)
                    cseq = next((line.split(":")[1].strip() for line in data.split("\r\n") if line.lower().startswith("cseq:")), "1")
                    reply = self._reply if isinstance(self._reply, str) else self._reply(data)
                    secured.sendall(reply.replace("{cseq}", cseq).encode("latin-1"))
        except OSError:
            pass


def moved(location: str) -> str:
    return f"RTSP/1.0 302 Moved\r\nCSeq: {{cseq}}\r\nLocation: {location}\r\n\r\n"


@pytest.mark.parametrize("reader", ["ffmpeg", pytest.param("gstreamer", marks=pytest.mark.needs("gstreamer"))])
@pytest.mark.parametrize(
    ("location", "cause", "said"),
    [
        ("rtsp://127.0.0.1:{own}/again", "failed", "redirects more than 5 times"),
        ("/again", "failed", "redirects more than 5 times"),
        ("rtsp://" + ELSEWHERE + ":{other}/x", "forbidden", "leads to rtsp://127.0.0.2, which is not a public address"),
        ("http://" + ELSEWHERE + ":{other}/x", "forbidden", "redirects to http://127.0.0.2; expected rtsp:// or rtsps://"),
        ("file:///etc/passwd", "forbidden", "redirects to file; expected rtsp://"),
    ],
)
def test_rtsp_redirects(reader: str, location: str, cause: str, said: str) -> None:
    with RtspCamera(moved("rtsp://127.0.0.1/"), ELSEWHERE) as other:
        with RtspCamera(lambda _: moved(location.format(own=camera.port, other=other.port))) as camera:
            error = failure_of(f"rtsp://pilot:s3cret@127.0.0.1:{camera.port}/cam", reader=reader, open_timeout_s=10)
            assert len(camera.requests) <= 12
        assert other.requests == []
    assert error.cause == cause
    assert said in str(error)


@pytest.mark.parametrize("reader", ["ffmpeg", pytest.param("gstreamer", marks=pytest.mark.needs("gstreamer"))])
def test_another_host_gets_no_password(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_public", lambda _: True)
    challenge = 'RTSP/1.0 401 No\r\nCSeq: {cseq}\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'
    with RtspCamera(challenge, ELSEWHERE) as other:
        with RtspCamera(moved(f"rtsp://a:b@{ELSEWHERE}:{other.port}/x")) as camera:
            assert failure_of(f"rtsp://pilot:s3cret@127.0.0.1:{camera.port}/cam", reader=reader).cause == "unauthorized"
        assert other.requests
        assert not any("authorization" in request.lower() for request in other.requests)


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        ("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Length: 2000000000\r\n\r\n", "too_large"),
        ("RTSP/1.0 200 OK\r\nX: " + "x" * 100_000 + "\r\n\r\n", "too_large"),
        ("x" * 1_000_000, "too_large"),
    ],
    ids=["a description of two gigabytes", "long headers", "no end"],
)
def test_rtsp_replies_are_bounded(reply: str, cause: str) -> None:
    with RtspCamera(reply) as camera:
        assert failure_of(f"rtsp://127.0.0.1:{camera.port}/cam").cause == cause


def test_rtsps_never_leads_to_rtsp(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("camera", host="localhost"))
    with (
        RtspCamera(moved("rtsp://127.0.0.1:9/x")) as plain,
        RtspCamera(moved(f"rtsp://localhost:{plain.port}/x"), context=context) as camera,
    ):
        error = failure_of(f"rtsps://localhost:{camera.port}/cam", ca_file=str(authority.certificate))
        assert plain.requests == []
    assert error.cause == "forbidden"
    assert "redirects from rtsps to rtsp://localhost, which is not encrypted" in str(error)


def test_bytes_without_a_frame_are_bounded() -> None:
    """A server whose packets never complete a frame is left after as many bytes as a frame may take."""

    def reply(request: str) -> str:
        method = request.partition(" ")[0]
        body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:s\r\n" if method == "DESCRIBE" else ""
        more = {
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n",
            "SETUP": "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
        }.get(method, "Session: 1\r\n")
        packets = ("$\0\x7f\xff" + "\0" * 0x7FFF) * 100 if method == "PLAY" else ""  # 3 MB
        return f"RTSP/1.0 200 OK\r\nCSeq: {{cseq}}\r\n{more}\r\n{body}" + packets

    with RtspCamera(reply) as camera:
        error = failure_of(f"rtsp://127.0.0.1:{camera.port}/cam", frame_limit_mb=1)
    assert error.cause == "too_large"
    assert "MB without a complete frame; expected at most 1 MB" in str(error)


def test_frames_after_a_hostile_hour_are_as_before() -> None:
    """A camera that was refused is opened again as soon as it behaves."""
    answers: dict[str, Answer] = {"/snap": lambda v: v.send(body=PICTURES[7][0] if len(v.seen) < 3 else gray_jpeg(7))}
    with HttpCamera(answers) as camera:
        settings = CameraConfig(source=camera.url("/snap"))
        for _ in range(2):
            with pytest.raises(SourceError), closing(open_source("front", settings)) as source:
                source.read()
        with closing(open_source("front", settings, once=True)) as source:
            frames, _ = read_until_error(source)
        assert len(frames) == 1
