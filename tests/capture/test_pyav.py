"""Files, and HTTP from a real server; RTSP is in tests/integration."""

import http.server
import os
import socket
import struct
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from edgepose.capture.pyav import PyAvSource
from edgepose.capture.source import Source, open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame
from testing.reading import read_until_error
from testing.videos import numbers, write_video
from testing.waiting import in_time, wait_for

MS = 1_000_000


def read_all(source: Source) -> list[Frame]:
    frames, error = read_until_error(source)
    assert isinstance(error, EndOfStream)
    return frames


def seen(frames: list[Frame]) -> list[int]:
    return numbers([float(frame.image.mean()) for frame in frames])


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mpeg4"), ("avi", "mjpeg"), ("mp4", "libx264"), ("mkv", "libx264")])
def test_a_file_delivers_every_frame_in_order_with_its_own_times(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_video(tmp_path / f"a:b 1.{suffix}", 14, rate=10, codec=codec)  # no protocol, that colon
    began = time.time_ns()
    with closing(open_source("front", CameraConfig(source=str(path)), epoch=1)) as source:
        frames = read_all(source)
        assert not source.live
        assert (source.width, source.height, source.url) == (96, 64, str(path))
        assert source.corrupt_frames == 0
    assert seen(frames) == list(range(14))
    assert [(frame.sequence, frame.epoch, frame.clock, frame.image.shape) for frame in frames] == [
        (index, 1, "stream", (64, 96, 3)) for index in range(14)
    ]
    assert [frame.captured_at_ns - frames[0].captured_at_ns for frame in frames] == pytest.approx(
        [index * 100 * MS for index in range(14)], abs=MS
    )
    assert began <= frames[0].captured_at_ns <= time.time_ns()


def test_frames_that_no_other_needs_are_left_out_on_demand_and_the_others_stay_equal(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    with av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"x264-params": "bframes=2:b-adapt=0:b-pyramid=none:scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(30):
            image = np.kron(generator.integers(0, 256, (8, 12, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    settings = CameraConfig(source=str(tmp_path / "b.mp4"))
    with closing(PyAvSource("a", settings, settings.source, network=False)) as source:
        every = [frame.image for frame in read_all(source)]
        assert (len(every), source.skipped_frames) == (30, 0)
    with closing(PyAvSource("a", settings, settings.source, network=False)) as source:
        source.skip_unreferenced(True)
        some = read_all(source)
        assert 10 <= len(some) <= 12
        assert 0 <= source.skipped_frames - (30 - len(some)) <= 1  # the decoder holds one frame back
    began = some[0].captured_at_ns
    indices = [round((frame.captured_at_ns - began) / (100 * MS)) for frame in some]
    assert all(np.array_equal(frame.image, every[number]) for frame, number in zip(some, indices, strict=True))


def test_loop_continues_times_and_numbers(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", 5, rate=10)
    with closing(open_source("front", CameraConfig(source=str(path), loop=True))) as source:
        frames = [source.read() for _ in range(13)]
    assert seen(frames) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]
    assert [frame.sequence for frame in frames] == list(range(13))
    assert [frame.captured_at_ns - frames[0].captured_at_ns for frame in frames] == pytest.approx(
        [index * 100 * MS for index in range(13)], abs=MS
    )


def test_realtime_plays_a_file_at_the_speed_of_its_timestamps(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", 8, rate=20)
    with closing(open_source("front", CameraConfig(source=str(path), realtime=True))) as source:
        assert source.live
        frames, ages_ms = [], []
        for _ in range(8):
            frames.append(source.read())
            ages_ms.append((time.time_ns() - frames[-1].captured_at_ns) / MS)
        assert read_all(source) == []
    assert seen(frames) == list(range(8))
    assert all(-5 < age < 200 for age in ages_ms), ages_ms


def test_close_interrupts_realtime_playback(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", 2, rate=1)
    source = open_source("front", CameraConfig(source=str(path), realtime=True))
    source.read()
    causes: list[str] = []

    def read() -> None:
        try:
            source.read()
        except SourceError as error:
            causes.append(error.cause)

    began = time.monotonic()
    reader = threading.Thread(target=read)
    reader.start()
    source.close()
    reader.join(5)
    assert causes == ["closed"]
    assert in_time(time.monotonic() - began, 0.8)


def destroy_picture(content: bytearray, after: int = 0) -> None:
    """Overwrite the first JPEG picture after an offset with zeros."""
    start = content.index(b"\xff\xd8\xff", after)
    end = content.index(b"\xff\xd9", start) + 2
    content[start:end] = bytes(end - start)


def test_damaged_packets_are_counted_and_the_rest_is_delivered(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.avi", 12, codec="mjpeg")
    content = bytearray(path.read_bytes())
    destroy_picture(content, len(content) // 2)
    path.write_bytes(content)
    with closing(open_source("front", CameraConfig(source=str(path)))) as source:
        frames = read_all(source)
        assert source.corrupt_frames == 1
    assert len(frames) == 11
    assert [frame.sequence for frame in frames] == list(range(11))


def test_the_size_may_change_within_a_stream(tmp_path: Path) -> None:
    small = write_video(tmp_path / "small.ts", 6, codec="libx264", size=(96, 64), rate=25)
    large = write_video(tmp_path / "large.ts", 6, codec="libx264", size=(160, 96), rate=25, index=6)
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with closing(open_source("front", CameraConfig(source=str(both)))) as source:
        frames = read_all(source)
        assert (source.width, source.height) == (160, 96)
    assert [frame.image.shape for frame in frames] == [(64, 96, 3)] * 6 + [(96, 160, 3)] * 6
    assert seen(frames) == list(range(12))


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [("missing.mp4", None, "not_found"), ("text.mp4", b"no video at all" * 100, "unsupported"), ("empty.mp4", b"", "unsupported")],
)
def test_files_that_cannot_be_opened_have_a_cause(tmp_path: Path, name: str, content: bytes | None, cause: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=f"camera front: {path}") as caught:
        open_source("front", CameraConfig(source=str(path)))
    assert caught.value.cause == cause


def test_a_rotated_phone_video_is_made_upright(tmp_path: Path) -> None:
    path = tmp_path / "telephone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 96, 64
        image = np.zeros((64, 96, 3), np.uint8)
        image[:32] = 255  # white above, black below
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2: after the version and nine words, as the track has 32-bit times
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)  # a quarter turn clockwise
    path.write_bytes(content)
    with closing(open_source("front", CameraConfig(source=str(path)))) as source:
        frame = source.read()
    assert frame.image.shape == (96, 64, 3)
    assert frame.image[:, 40:].min() > 200  # white on the right
    assert frame.image[:, :24].max() < 50


def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        sound.writeframes(bytes(16000))
    with pytest.raises(SourceError, match="has no video stream") as caught:
        open_source("front", CameraConfig(source=str(path)))
    assert caught.value.cause == "no_video"


def test_a_video_without_decodable_frames_is_an_error_not_an_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.avi", 3, codec="mjpeg")
    content = bytearray(path.read_bytes())
    for _ in range(3):
        destroy_picture(content)
    path.write_bytes(content)
    with closing(open_source("front", CameraConfig(source=str(path), loop=True))) as source:
        frames, error = read_until_error(source)
    assert frames == []
    assert error.cause == "unsupported"
    assert "no frame could be decoded (3 damaged ones)" in str(error)


def test_a_pipe_without_a_writer_is_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        open_source("front", CameraConfig(source=str(path), open_timeout_s=0.3))
    assert caught.value.cause == "timeout"
    assert in_time(time.monotonic() - began, 1)
    os.close(os.open(path, os.O_RDWR))  # lets the hanging thread go
    wait_for(lambda: all(thread.name != "capture-front" for thread in threading.enumerate()))


def test_errors_for_other_schemes_list_what_is_accepted() -> None:
    with pytest.raises(SourceError, match=r"gopher://10\.0\.0\.1 begins with gopher://; expected rtsp://, rtsps://, http://") as caught:
        open_source("front", CameraConfig(source="gopher://pilot:s3cret@10.0.0.1"))
    assert caught.value.cause == "unsupported"


def test_a_protocol_that_this_ffmpeg_lacks_is_named() -> None:
    with pytest.raises(SourceError) as caught:
        open_source("front", CameraConfig(source="srt://127.0.0.1:5?passphrase=s3cret", open_timeout_s=0.5))
    if caught.value.cause == "unsupported":  # PyAV's own wheels
        assert "begins with srt://, which this build of FFmpeg cannot read; `gst:` and a pipeline with srtsrc" in str(caught.value)
    else:
        assert caught.value.cause == "timeout"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["rtsp:///cam", "udp://", "tcp://:5000", "rtmp:///live"])
def test_a_url_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match="names no host") as caught:
        open_source("front", CameraConfig(source=url))
    assert caught.value.cause == "unsupported"


@pytest.mark.parametrize(("name", "codec"), [("video.h264", "libx264"), ("video.mjpeg", "mjpeg")])
def test_a_file_without_an_index_is_a_file_too(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, 9, codec=codec)
    with closing(open_source("front", CameraConfig(source=str(path)))) as source:
        assert not source.live
        assert seen(read_all(source)) == list(range(9))


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    path = write_video(tmp_path / "my video.mp4", 2)
    with closing(open_source("front", CameraConfig(source=path.as_uri()))) as source:
        assert len(read_all(source)) == 2


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """Serves the files of a folder, `/hang/NAME` stops half-way, `/guarded` wants a password."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path == "/guarded":
                return self.send_error(401)
            if not self.path.startswith("/hang/"):
                return super().do_GET()
            content = (folder / self.path.removeprefix("/hang/")).read_bytes()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content[: len(content) * 3 // 4])
            self.wfile.flush()
            released.wait(20)
            return None

        def log_message(self, *_: object) -> None:
            pass

    released = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_a_file_over_http_is_a_file(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", 7)
    with http_server(tmp_path) as url, closing(open_source("front", CameraConfig(source=f"{url}/video.mp4"))) as source:
        assert not source.live
        assert seen(read_all(source)) == list(range(7))


def test_http_that_stops_halfway_stalls(tmp_path: Path) -> None:
    write_video(tmp_path / "video.ts", 300, codec="mpeg2video", rate=25)
    with (
        http_server(tmp_path) as url,
        closing(open_source("front", CameraConfig(source=f"{url}/hang/video.ts", read_timeout_s=0.5))) as source,
    ):
        assert source.live  # a stream without a length
        began = time.monotonic()
        frames, error = read_until_error(source)
        assert in_time(time.monotonic() - began, 2)
        assert len(frames) + source.stale_frames > 100  # a camera does not send pictures faster than it takes them
    assert error.cause == "stalled"


@pytest.mark.parametrize(("path", "cause"), [("/missing.mp4", "not_found"), ("/guarded", "unauthorized")])
def test_an_error_of_a_web_server_has_a_cause(tmp_path: Path, path: str, cause: str) -> None:
    with http_server(tmp_path) as url, pytest.raises(SourceError) as caught:
        open_source("front", CameraConfig(source=url + path))
    assert caught.value.cause == cause


def test_a_missing_web_server(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening
        with pytest.raises(SourceError) as caught:
            open_source("front", CameraConfig(source=f"http://127.0.0.1:{taken.getsockname()[1]}/video.mp4"))
    assert caught.value.cause == "refused"
