"""Streams as strangers' cameras serve them: sloppy MJPEG, snapshot URLs, playlists. A new camera is one more line in a table."""

import hashlib
import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame
from testing.reading import read_until_error
from testing.servers.http_camera import Answer, HttpCamera, Visit, gray_jpeg
from testing.waiting import in_time

LEVELS = [20, 60, 100, 140, 180, 220]
JPEGS = [gray_jpeg(level) for level in LEVELS]
BOUNDARY = "123456789000000000000987654321"


def level(frame: Frame) -> int:
    """Return which of the pictures a frame is."""
    assert frame.image.shape == (64, 96, 3)
    return min(LEVELS, key=lambda known: abs(known - float(frame.image.mean())))


def parts(before: str, after: str = "", length: bool = True, newline: str = "\r\n") -> Iterator[bytes]:
    for jpeg in JPEGS:
        lines = before + (f"Content-Length: {len(jpeg)}{newline}" if length else "") + (newline if before else "")
        yield lines.replace("\n", newline).replace("\r\r", "\r").encode() + jpeg + after.encode()
        time.sleep(0.02)


def esp32() -> Iterator[bytes]:
    """ESP32-CAM: the boundary comes after each picture, never before the first."""
    for jpeg in JPEGS:
        yield f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg + f"\r\n--{BOUNDARY}\r\n".encode()
        time.sleep(0.02)


def damaged() -> Iterator[bytes]:
    for number, jpeg in enumerate(JPEGS):
        yield b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + (jpeg[: len(jpeg) // 2] if number == 2 else jpeg) + b"\r\n"
        time.sleep(0.02)


MJPEG = [
    ("tidy", "multipart/x-mixed-replace; boundary=x", lambda: parts("--x\nContent-Type: image/jpeg\n", "\r\n")),
    ("esp32", f"multipart/x-mixed-replace;boundary={BOUNDARY}", esp32),
    ("image/jpg", "multipart/x-mixed-replace; boundary=x", lambda: parts("--x\nContent-Type: image/jpg\n", "\r\n")),
    ("boundary without dashes", "multipart/x-mixed-replace; boundary=x", lambda: parts("x\nContent-Type: image/jpeg\n", "\r\n")),
    ("dashes in the name", "multipart/x-mixed-replace; boundary=--x", lambda: parts("--x\nContent-Type: image/jpeg\n", "\r\n")),
    ("no length", "multipart/x-mixed-replace; boundary=x", lambda: parts("--x\nContent-Type: image/jpeg\n", "\r\n", length=False)),
    ("no newline after a picture", "multipart/x-mixed-replace; boundary=x", lambda: parts("--x\nContent-Type: image/jpeg\n")),
    ("only pictures", "multipart/x-mixed-replace; boundary=x", lambda: iter(JPEGS)),
    ("only pictures, no type", "application/octet-stream", lambda: iter(JPEGS)),
    ("called a picture", "image/jpeg", lambda: parts("--x\nContent-Type: image/jpeg\n", "\r\n")),
    ("called a video", "video/x-motion-jpeg", lambda: parts("", "\r\n", length=False)),
    ("mere line feeds", "multipart/x-mixed-replace; boundary=x", lambda: parts("--x\nContent-Type: image/jpeg\n", "\n", newline="\n")),
    ("in capitals", "MULTIPART/X-MIXED-REPLACE;BOUNDARY=\"x\"", lambda: parts("--x\nCONTENT-TYPE: IMAGE/JPEG\n", "\r\n")),
    ("one picture is cut", "multipart/x-mixed-replace; boundary=x", damaged),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content_type", "body"), MJPEG, ids=[name for name, *_ in MJPEG])
def test_mjpeg(name: str, content_type: str, body: object) -> None:
    with HttpCamera({"/stream": lambda visit: visit.send(body=body(), content_type=content_type)}) as camera:  # type: ignore[operator]
        with closing(open_source("front", CameraConfig(source=camera.url("/stream")))) as source:
            assert source.live
            frames, error = read_until_error(source)
            assert error.cause == "ended"
            cut = name == "one picture is cut"
            assert [level(frame) for frame in frames] == [known for known in LEVELS if not (cut and known == LEVELS[2])]
            assert source.corrupt_frames == cut
        assert [frame.clock for frame in frames] == ["host"] * len(frames)
        assert camera.paths == ["/stream"]


def one(visit: Visit, suffix: str = ".jpg", content_type: str = "image/jpeg") -> None:
    number = len(visit.seen) - 1
    visit.send(body=gray_jpeg(LEVELS[number % len(LEVELS)], suffix=suffix), content_type=content_type)


def without_length(visit: Visit) -> None:
    visit.send(body=iter([JPEGS[(len(visit.seen) - 1) % len(JPEGS)]]), content_type="image/jpeg")


def one_part(visit: Visit) -> None:
    jpeg = JPEGS[(len(visit.seen) - 1) % len(JPEGS)]
    visit.send(body=iter([b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n--x--\r\n"]), content_type="multipart/x-mixed-replace")


SNAPSHOTS: list[tuple[str, Answer]] = [
    ("/snap.jpg", lambda visit: one(visit, content_type="image/jpeg")),
    ("/snapshot.cgi", lambda visit: one(visit, content_type="image/jpeg")),
    ("/image?channel=1", lambda visit: one(visit, content_type="application/octet-stream")),
    ("/untyped", lambda visit: visit.send(body=JPEGS[(len(visit.seen) - 1) % len(JPEGS)])),
    ("/shot.png", lambda visit: one(visit, ".png", content_type="image/png")),
    ("/without-length", without_length),
    ("/one-part", one_part),
]


@pytest.mark.parametrize(("path", "answer"), SNAPSHOTS, ids=[path for path, _ in SNAPSHOTS])
def test_a_snapshot_url_is_polled_at_its_rate(path: str, answer: Answer) -> None:
    with HttpCamera({path.partition("?")[0]: answer}) as camera:
        began_s = time.monotonic()
        with closing(open_source("front", CameraConfig(source=camera.url(path), rate=8))) as source:
            assert source.live
            frames = [source.read() for _ in range(5)]
        took_s = time.monotonic() - began_s
        assert [level(frame) for frame in frames] == LEVELS[:5]
        assert [(frame.sequence, frame.epoch) for frame in frames] == [(number, 0) for number in range(5)]
        assert took_s > 3.5 / 8  # four waits
        assert in_time(took_s, 1.5)
        assert len(camera.visits) <= 6


def test_a_slow_rate_is_no_stall() -> None:
    with HttpCamera({"/snap.jpg": one}) as camera:
        settings = CameraConfig(source=camera.url("/snap.jpg"), rate=1, read_timeout_s=0.3)
        with closing(open_source("front", settings)) as source:
            assert [level(source.read()) for _ in range(3)] == LEVELS[:3]


@pytest.mark.parametrize("path", ["/snap.jpg", "/without-length"])
def test_for_a_file_run_a_picture_is_a_file(path: str) -> None:
    with HttpCamera({"/snap.jpg": one, "/without-length": without_length}) as camera:
        with closing(open_source("front", CameraConfig(source=camera.url(path)), once=True)) as source:
            assert not source.live
            assert [level(frame) for frame in read_until_error(source)[0]] == LEVELS[:1]
        assert len(camera.visits) == 1


def test_a_file_of_pictures_with_a_length_is_a_file() -> None:
    answers: dict[str, Answer] = {"/walk.mjpeg": lambda visit: visit.send(body=b"".join(JPEGS), content_type="video/x-motion-jpeg")}
    with HttpCamera(answers) as camera, closing(open_source("front", CameraConfig(source=camera.url("/walk.mjpeg")))) as source:
        assert not source.live
        assert [level(frame) for frame in read_until_error(source)[0]] == LEVELS


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Digest without qop", "Digest SHA-256"])
def test_a_camera_with_a_password(scheme: str) -> None:
    hashed = hashlib.sha256 if "SHA" in scheme else hashlib.md5

    def digest(text: str) -> str:
        return hashed(text.encode()).hexdigest()

    def right(visit: Visit) -> bool:
        given = visit.headers.get("Authorization", "")
        if scheme == "Basic":
            return given == "Basic cGlsb3Q6czNAY3JldA=="  # pilot:s3@cret
        fields = dict(part.replace('"', "").split("=", 1) for part in given.removeprefix("Digest ").split(", ") if "=" in part)
        first, second = digest("pilot:camera:s3@cret"), digest(f"GET:{visit.path}")
        middle = "n1" if "without" in scheme else f"n1:{fields.get('nc')}:{fields.get('cnonce')}:auth"
        return fields.get("response") == digest(f"{first}:{middle}:{second}") and fields.get("uri") == visit.path

    def guarded(visit: Visit) -> None:
        if right(visit):
            return visit.send(body=gray_jpeg(LEVELS[0]))
        qop = "" if "without" in scheme else ', qop="auth"'
        algorithm = ", algorithm=SHA-256" if "SHA" in scheme else ""
        challenge = 'Basic realm="camera"' if scheme == "Basic" else f'Digest realm="camera", nonce="n1"{qop}{algorithm}'
        return visit.send(401, WWW_Authenticate=challenge)

    with HttpCamera({"/snap": guarded}) as camera:
        for credentials in ("pilot:s3%40cret@", "pilot:s3@cret@"):
            url = camera.url("/snap?a=1", credentials=credentials)
            with closing(open_source("front", CameraConfig(source=url, rate=20))) as source:
                assert [level(source.read()) for _ in range(2)] == [LEVELS[0]] * 2
        with pytest.raises(SourceError) as caught:
            open_source("front", CameraConfig(source=camera.url("/snap", credentials="pilot:wrong@")))
        assert caught.value.cause == "unauthorized"
        asked = len(camera.visits)
        with pytest.raises(SourceError):
            open_source("front", CameraConfig(source=camera.url("/snap")))
        assert len(camera.visits) == asked + 1


def test_a_web_page_is_named() -> None:
    answer: Answer = lambda visit: visit.send(body=b"<html><body>My camera</body></html>", content_type="text/html")  # noqa: E731
    said = "is a web page; expected the address of the stream itself"
    with HttpCamera({"/": answer}) as camera, pytest.raises(SourceError, match=said) as caught:
        open_source("front", CameraConfig(source=camera.url("/")))
    assert caught.value.cause == "unsupported"


# Playlists


RATE, SEGMENT_S = 10, 1


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Twelve segments of one video, a second each, whose timestamps go on from one to the next."""
    path = tmp_path_factory.mktemp("hls") / "list.m3u8"
    options = {"hls_time": str(SEGMENT_S), "hls_list_size": "0", "hls_segment_type": "mpegts"}
    with av.open(str(path), "w", format="hls", options=options) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": str(RATE), "bf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(12 * RATE * SEGMENT_S):
            image = np.full((64, 96, 3), 2 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    found = [file.read_bytes() for file in sorted(path.parent.glob("*.ts"), key=lambda file: int(file.stem.removeprefix("list")))]
    assert len(found) == 12
    return found


class HlsServer:
    """A live server: each second, the playlist of three segments moves on by one."""

    def __init__(self, segments: list[bytes]) -> None:
        self._segments = segments
        self._began_s = time.monotonic()

    def answers(self) -> dict[str, Answer]:
        return {
            "/master.m3u8": lambda visit: visit.send(body=b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=96x64\nlive.m3u8\n"),
            "/live.m3u8": self._live,
            "/vod": lambda visit: visit.send(body=self._listed(range(3), "#EXT-X-ENDLIST\n"), content_type="application/vnd.apple.mpegurl"),
            **{f"/{number}.ts": self._segment(content) for number, content in enumerate(self._segments)},
        }

    @staticmethod
    def _segment(content: bytes) -> Answer:
        return lambda visit: visit.send(body=content, content_type="video/mp2t")

    def _live(self, visit: Visit) -> None:
        first = min(int((time.monotonic() - self._began_s) / SEGMENT_S), len(self._segments) - 3)
        visit.send(body=self._listed(range(first, first + 3)))

    def _listed(self, numbers: range, end: str = "") -> bytes:
        lines = [f"#EXTINF:{SEGMENT_S}.0,\n{number}.ts\n" for number in numbers]
        head = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{SEGMENT_S}\n#EXT-X-MEDIA-SEQUENCE:{numbers[0]}\n"
        return (head + "".join(lines) + end).encode()


@pytest.mark.parametrize("path", ["/live.m3u8", "/master.m3u8"])
def test_a_live_playlist_is_a_camera_that_is_late_by_nature(segments: list[bytes], path: str) -> None:
    """The segments come all at once and seconds late: their frames come at their own pace, with the settings of any camera."""
    with HttpCamera(HlsServer(segments).answers()) as camera:
        settings = CameraConfig(source=camera.url(path), read_timeout_s=0.5)
        with closing(open_source("front", settings)) as source:
            assert source.live
            arrivals: list[float] = []
            frames: list[Frame] = []
            while len(frames) < 4 * RATE:
                frames.append(source.read())
                arrivals.append(time.monotonic())
            assert source.stale_frames == 0
        assert [frame.sequence for frame in frames] == list(range(4 * RATE))
        took_s = arrivals[-1] - arrivals[0]
        assert took_s > 3  # and not in bursts
        assert in_time(took_s, 4.5)
        captured_s = (frames[-1].captured_at_ns - frames[0].captured_at_ns) / 1e9
        assert abs(captured_s - took_s) < 1
        steps = {round(float(after.image.mean()) - float(before.image.mean())) for before, after in itertools.pairwise(frames)}
        assert steps <= {1, 2, 3}  # no frame is missing


def test_a_playlist_with_an_end_is_a_file(segments: list[bytes]) -> None:
    with HttpCamera(HlsServer(segments).answers()) as camera:
        with closing(open_source("front", CameraConfig(source=camera.url("/vod")))) as source:
            assert not source.live
            frames, error = read_until_error(source)
            assert isinstance(error, EndOfStream)
        assert len(frames) == 3 * RATE


def test_a_playlist_that_stops_moving_stalls(segments: list[bytes]) -> None:
    server = HlsServer(segments[:3])
    with HttpCamera(server.answers()) as camera:
        settings = CameraConfig(source=camera.url("/live.m3u8"), read_timeout_s=0.5)
        with closing(open_source("front", settings)) as source:
            frames, error = read_until_error(source)
    assert 3 * RATE - 3 <= len(frames) <= 3 * RATE  # the decoder waits for what follows the last one
    assert error.cause == "stalled"


def test_encrypted_segments_are_refused_in_one_sentence() -> None:
    text = b'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF:1,\n0.ts\n'
    with HttpCamera({"/live.m3u8": lambda visit: visit.send(body=text)}) as camera:
        with pytest.raises(SourceError, match=r"has encrypted segments \(AES-128\); expected segments without a key"):
            open_source("front", CameraConfig(source=camera.url("/live.m3u8")))
        assert camera.paths == ["/live.m3u8"]


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
def test_a_file_on_a_server_that_knows_ranges(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"walk.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 480, "yuv420p", 8_000_000
        random = np.random.default_rng(5)
        for _ in range(20):
            noise = random.integers(0, 256, (480, 640, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    assert len(content) > 1_000_000  # farther than any buffer

    def ranged(visit: Visit) -> None:
        asked = visit.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        first = int(asked)
        visit.send(206 if first else 200, content[first:], Accept_Ranges="bytes", Content_Type="video/unknown")

    with HttpCamera({"*": ranged}) as camera, closing(open_source("front", CameraConfig(source=camera.url(f"/walk.{suffix}")))) as source:
        assert not source.live
        assert len(read_until_error(source)[0]) == 20
