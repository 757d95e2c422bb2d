"""Files as strangers have them, of telephones, recorders, players and archives: each case makes its file and names the right values."""

import itertools
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from edgepose.capture.clock import FileClock
from edgepose.capture.presentation import Orientation, choose_track
from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame
from testing.reading import read_until_error
from testing.videos import numbers, write_video

MS = 1_000_000
NS_PER_S = 1_000_000_000


def read(path: Path | str, **settings: Any) -> tuple[list[Frame], Any]:
    """Return all frames of a file that ends, and its facts."""
    with closing(open_source("x", CameraConfig(source=str(path), **settings))) as source:
        frames, error = read_until_error(source)
        assert isinstance(error, EndOfStream), error
        return frames, source.facts  # type: ignore[attr-defined]


def times_ms(frames: Sequence[Frame]) -> list[int]:
    return [round((frame.captured_at_ns - frames[0].captured_at_ns) / MS) for frame in frames]


def grays(frames: Sequence[Frame]) -> list[int]:
    return numbers([float(frame.image.mean()) for frame in frames])


def quadrants(image: NDArray[np.uint8]) -> list[int]:
    """Return the grays of the four quarters of an image, row by row."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    parts = (image[:height, :width], image[:height, width:], image[height:, :width], image[height:, width:])
    return [round(float(part[2:-2, 2:-2].mean()) / 60) * 60 for part in parts]


QUARTERS = np.kron(np.array([[0, 60], [120, 240]], np.uint8), np.ones((32, 48), np.uint8))[..., None].repeat(3, axis=2)
"""An image of 96 x 64 whose four quarters differ."""


def encode(path: Path, images: Sequence[NDArray[np.uint8]], *, aspect: Fraction | None = None, codec: str = "mpeg4") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"qscale": "2"}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def remux(target: Path, sources: Sequence[Path], marks: Sequence[int], shift: Callable[[int, Any], int] | None = None) -> Path:
    """Copy the videos of several files into one, each with its marks (disposition); `shift` changes timestamps by the packet's number."""
    with av.open(str(target), "w") as container:
        inputs = [av.open(str(source)) for source in sources]
        streams = []
        for one, mark in zip(inputs, marks, strict=True):
            stream = container.add_stream_from_template(one.streams.video[0])
            stream.disposition = mark
            streams.append(stream)
        for one, stream in zip(inputs, streams, strict=True):
            for number, packet in enumerate(one.demux(video=0)):
                if packet.dts is None:
                    continue
                if shift is not None:
                    packet.pts = packet.dts = shift(number, packet)
                packet.stream = stream
                container.mux(packet)
            one.close()
    return target


# Which picture in the file is "the" picture


@pytest.mark.parametrize(
    ("marks", "seen", "words"),
    [
        ([1024, 1], list(range(12)), "cover art"),  # attached picture
        ([0, 1], list(range(12)), "cover art"),  # as `ffmpeg -map` leaves it: only short
    ],
)
def test_cover_art_is_no_video(tmp_path: Path, marks: list[int], seen: list[int], words: str) -> None:
    cover = _jpeg_video(tmp_path / "cover.avi")
    path = remux(tmp_path / "song.mkv", [cover, write_video(tmp_path / "v.mp4")], marks)
    frames, facts = read(path)
    assert grays(frames) == seen
    assert facts.expected_frames == 12
    assert words in facts.notes[0]


def _jpeg_video(path: Path) -> Path:
    return write_video(path, 1, codec="mjpeg", size=(304, 304), rate=25)


@pytest.mark.parametrize(("marks", "first"), [([0, 1], 10), ([1, 0], 0), ([0, 0], 0)])
def test_of_two_videos_the_default_one_is_read(tmp_path: Path, marks: list[int], first: int) -> None:
    videos = [write_video(tmp_path / "a.mp4", 5), write_video(tmp_path / "b.mp4", 5, index=10)]
    frames, facts = read(remux(tmp_path / "two.mkv", videos, marks))
    assert grays(frames) == list(range(first, first + 5))
    assert f"number {2 if first else 1} is read" in facts.notes[0]


@pytest.mark.parametrize("suffix", ["webp", "png", "tiff"])
def test_animations_and_pages_deliver_all_frames(tmp_path: Path, suffix: str) -> None:
    images = [np.full((30, 40, 3), 20 + 10 * number, np.uint8) for number in range(4)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "tiff":
        cv2.imwritemulti(str(path), images)
    else:
        animation = cv2.Animation()
        animation.frames, animation.durations = images, [200] * 4
        cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == "webp" else [])
    frames, _ = read(path)
    assert grays(frames) == [0, 1, 2, 3]
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3]
    assert times_ms(frames) == [step * (40 if suffix == "tiff" else 200) for step in range(4)]


@pytest.mark.parametrize(
    ("brand", "marks", "words"),
    [
        ("heic", [Disposition.dependent] * 6, "6 tiles or pictures"),
        ("heic", [Disposition.dependent], "1 tiles or pictures"),
        ("isom", [Disposition.dependent] * 2, "2 tiles or pictures"),
        ("avif", [Disposition.default, 0], "2 tiles or pictures"),  # a thumbnail, or tiles of another writer
        ("avif", [Disposition.default], None),
        ("isom", [Disposition.default, 0], None),
    ],
)
def test_one_tile_is_never_the_picture(brand: str, marks: list[Any], words: str | None) -> None:
    context = SimpleNamespace(name="hevc", width=512, height=512)
    tracks = [SimpleNamespace(disposition=Disposition(mark), codec_context=context, frames=1) for mark in marks]
    container = SimpleNamespace(streams=SimpleNamespace(video=tracks), metadata={"major_brand": brand})
    if words is None:
        assert choose_track(container, "x")[0] is tracks[0]
        return
    with pytest.raises(SourceError, match=words) as caught:
        choose_track(container, "x")
    assert caught.value.cause == "unsupported"


# Orientation and pixel shape

_ORIENTED = {  # Exif orientation: the stored image such that it is shown as QUARTERS
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image, -1),
}
_ONE = 1 << 16
_MATRICES = {  # rows of the matrix of `tkhd` (ISO/IEC 14496-12, 8.3.2) that undo the same eight: a, b, c, d
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_whole_display_matrix_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = np.ascontiguousarray(_ORIENTED[orientation](QUARTERS))
    path = encode(tmp_path / "selfie.mp4", [stored])
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * _ONE for value in _MATRICES[orientation])
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    frames, _ = read(path)
    assert frames[0].image.shape == (64, 96, 3)
    assert quadrants(frames[0].image) == [0, 60, 120, 240]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = np.ascontiguousarray(_ORIENTED[orientation](QUARTERS))
    encoded = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + encoded[2:])
    frames, _ = read(path)
    assert quadrants(frames[0].image) == [0, 60, 120, 240]


def test_an_oblique_matrix_is_the_nearest_quarter_turn() -> None:
    cosine, sine = round(0.9 * _ONE), round(0.43 * _ONE)
    assert Orientation.of_matrix(struct.pack("=9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)) == Orientation()
    assert Orientation.of_matrix(struct.pack("=9i", sine, cosine, 0, -cosine, sine, 0, 0, 0, 1 << 30)) == Orientation(True, True, False)
    assert Orientation.of_matrix(b"short") == Orientation()


@pytest.mark.parametrize(
    ("aspect", "width"),
    [(Fraction(2, 1), 192), (Fraction(16, 15), 102), (Fraction(8, 9), 85), (Fraction(1, 1), 96), (Fraction(100, 1), 96), (None, 96)],
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction | None, width: int) -> None:
    frames, _ = read(encode(tmp_path / "a.mkv", [QUARTERS.astype(np.uint8)], aspect=aspect))
    assert frames[0].image.shape == (64, width, 3)
    assert quadrants(frames[0].image) == [0, 60, 120, 240]
    assert frames[0].pixel_aspect == pytest.approx(1 if aspect in (None, 100) else float(aspect), abs=1e-3)


# Time of files


def test_joined_segments_go_on(tmp_path: Path) -> None:
    segment = write_video(tmp_path / "a.ts", 12, codec="libx264")
    both = tmp_path / "both.ts"
    both.write_bytes(segment.read_bytes() * 3)
    frames, facts = read(both)
    assert times_ms(frames) == [100 * number for number in range(36)]
    assert facts.time_jumps == 2


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_leap_of_an_hour_is_one_interval(tmp_path: Path, suffix: str) -> None:
    video = write_video(tmp_path / "a.mkv", 12)
    path = remux(tmp_path / f"leap.{suffix}", [video], [1], lambda number, packet: packet.pts + (3_600_000 if number >= 6 else 0))
    frames, facts = read(path)
    assert times_ms(frames) == [100 * number for number in range(12)]
    assert facts.time_jumps == 1


@pytest.mark.parametrize(
    ("stamps_s", "elapsed_s", "jumps"),
    [
        ([0, 60, 120, 180], [0, 60, 120, 180], 0),  # a time-lapse is no jump
        ([0, 1, 9, 10], [0, 1, 9, 10], 0),  # nor is a pause
        ([0, 2, 1, 3], [0, 2, 4, 6], 1),
        ([5, 6, 7000, 7001, 1, 2], [0, 1, 2, 3, 4, 5], 2),
    ],
)
def test_what_is_a_jump(stamps_s: list[int], elapsed_s: list[int], jumps: int) -> None:
    clock = FileClock(0, 60 * NS_PER_S if stamps_s[1] == 60 else NS_PER_S // 10)
    assert [clock.stamp(stamp * NS_PER_S)[0] // NS_PER_S for stamp in stamps_s] == elapsed_s
    assert clock.jumps == jumps


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "h264"), ("libx265", "265")])
def test_a_raw_stream_has_the_rate_that_it_says(tmp_path: Path, codec: str, suffix: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w", format="h264" if suffix == "h264" else "hevc") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        for number in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 20 * number, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert times_ms(read(path)[0]) == [100 * number for number in range(8)]
    assert times_ms(read(path, rate=20)[0]) == [50 * number for number in range(8)]


def test_a_raw_stream_without_a_rate_says_which_is_assumed(tmp_path: Path) -> None:
    images = [cv2.imencode(".jpg", np.full((64, 96, 3), 20 * number, np.uint8))[1].tobytes() for number in range(5)]
    path = tmp_path / "a.mjpeg"
    path.write_bytes(b"".join(images))
    frames, facts = read(path)
    assert times_ms(frames) == [0, 40, 80, 120, 160]
    assert "25 frames/s" in facts.notes[0]


@pytest.mark.parametrize("source", ["", "/*.png", "/frame_%04d.png", "/frame_%d.png"])
def test_a_folder_or_a_pattern_has_a_fixed_rate(tmp_path: Path, source: str) -> None:
    for number in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"frame_{number:04d}.png"), np.full((30, 40, 3), 20 + 10 * number, np.uint8))
    frames, facts = read(f"{tmp_path}{source}")
    assert [Path(frame.file).name for frame in frames] == ["frame_0001.png", "frame_0002.png", "frame_0010.png"]
    assert times_ms(frames) == [0, 40, 80]
    assert "25 frames/s" in facts.notes[0]
    assert times_ms(read(f"{tmp_path}{source}", rate=10)[0]) == [0, 100, 200]


# Damage


def test_a_cut_mp4_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        noise = np.random.default_rng(1)
        for _ in range(30):
            image = noise.integers(0, 255, (64, 96, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    frames, facts = read(path)
    assert 8 <= len(frames) <= 22
    assert f"{len(frames)} of 30 frames could be read; the last {(len(whole) - len(whole) // 2) / 1e3:.0f} kB of" in facts.missing
    path.write_bytes(whole)
    assert read(path)[1].missing is None


def test_a_cut_fragmented_mp4_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_every_frame+empty_moov"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(20):
            image = np.random.default_rng(number).integers(0, 255, (64, 96, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"mdat") // 2])
    frames, facts = read(path)
    assert 3 <= len(frames) <= 14
    assert f"{len(frames)} frames could be read; its last fragment is cut" in facts.missing


def _no_index(video: Path) -> bytes:
    content = video.read_bytes()
    return content[: content.index(b"moov") - 4]


_HEIC = struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + bytes(200)

BROKEN = [
    ("empty.mp4", lambda video: b"", "is empty (0 bytes)"),
    ("empty.jpg", lambda video: b"", "is empty (0 bytes)"),
    ("text.mp4", lambda video: b"Hello, this is no video.\n" * 9, "is a text file"),
    ("text.png", lambda video: "größer\n".encode() * 900, "is a text file"),
    ("login.mp4", lambda video: b"<!DOCTYPE html><html>...", "is a web page (HTML)"),
    ("unfinished.mp4", _no_index, "is an MP4 without its index (`moov` atom)"),
    ("copied.mov", lambda video: _no_index(video)[:-500], "500 bytes of"),
    ("reserved.mkv", lambda video: bytes(50_000), "begins with zero bytes (50 kB)"),
    ("archive.mp4", lambda video: b"PK\x03\x04" + bytes(range(256)), "is a ZIP archive"),
    ("photo.heic", lambda video: _HEIC, "is a HEIC photograph"),
    ("photo.jpg", lambda video: _HEIC, "is a HEIC photograph"),
    ("photo.mp4", lambda video: _HEIC, "is a HEIC photograph"),
    ("noise.mp4", lambda video: bytes(np.random.default_rng(3).integers(128, 255, 5000, np.uint8)), "is not a readable video"),
]


@pytest.mark.parametrize(("name", "content", "words"), BROKEN, ids=[case[0] for case in BROKEN])
def test_each_broken_file_has_its_own_sentence(tmp_path: Path, name: str, content: Callable[[Path], bytes], words: str) -> None:
    (tmp_path / name).write_bytes(content(write_video(tmp_path / "good.mp4", 30)))
    with pytest.raises(SourceError) as caught, closing(open_source("x", CameraConfig(source=str(tmp_path / name)))) as source:
        source.read()
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"camera x: {tmp_path / name} ")
    assert caught.value.cause == "unsupported"


def test_the_sentences_differ() -> None:
    assert len({words for _, _, words in BROKEN}) >= 8


def test_a_folder_tells_what_it_skips(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.jpg"), np.zeros((30, 40, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "4.jpg"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "2.jpg").write_bytes(b"\xff\xd8 torn")
    (tmp_path / "3.png").touch()
    (tmp_path / "5.HEIC").write_bytes(_HEIC)
    (tmp_path / "6.MP4").write_bytes(b"x")
    (tmp_path / "7").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden").touch()
    frames, facts = read(tmp_path)
    assert [(Path(frame.file).name, frame.sequence) for frame in frames] == [("1.jpg", 0), ("4.jpg", 3)]
    assert times_ms(frames) == [0, 120]
    names = {cause: [Path(path).name for path in paths] for cause, paths in facts.skipped.items()}
    assert names == {
        "heic": ["5.HEIC"],
        "video": ["6.MP4"],
        "folder": ["7"],
        "other": ["notes.txt"],
        "damaged": ["2.jpg"],
        "empty": ["3.png"],
    }


def test_nothing_but_broken_pictures_says_why(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(_HEIC)
    (tmp_path / "2.jpg").touch()
    (tmp_path / "3.jpg").touch()
    with closing(open_source("x", CameraConfig(source=str(tmp_path)))) as source:
        frames, error = read_until_error(source)
    assert (frames, error.cause) == ([], "unsupported")
    assert "none of these 3 files could be decoded (skipped 1 in HEIC or AVIF, 2 empty)" in str(error)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("0", "v4l2:///dev/video0"),
        ("/dev/video97", "v4l2:///dev/video97"),
        ("frames/*.png", "frames/*.png matches no file"),
        ("frame_%04d.png", "frame_%04d.png matches no file"),
        ("nothing.mp4", "nothing.mp4 does not exist"),
    ],
)
def test_a_name_that_leads_nowhere_has_a_hint(source: str, words: str) -> None:
    with pytest.raises(SourceError, match="camera x: ") as caught:
        open_source("x", CameraConfig(source=source))
    assert words in str(caught.value)


# Deadlines, pipes


def test_decoding_is_no_stall(tmp_path: Path) -> None:
    image = cv2.resize(np.random.default_rng(1).integers(0, 255, (75, 100, 3), np.uint8), (10_000, 7_500))
    cv2.imwrite(str(tmp_path / "a.jpg"), image)
    frames, _ = read(tmp_path / "a.jpg", read_timeout_s=0.2, frame_limit_mb=512)
    assert frames[0].full_size == (10_000, 7_500)
    assert frames[0].image.shape == (3750, 5000, 3)


def test_a_picture_bomb_is_refused_with_both_figures(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8000, 8000, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((30, 40, 3), np.uint8))
    with closing(open_source("x", CameraConfig(source=str(tmp_path / "1.png")))) as source:
        _, error = read_until_error(source)
    assert error.cause == "too_large"
    assert "8000x8000 pixels, which takes 192 MB; expected at most 64 MB" in str(error)
    frames, facts = read(tmp_path)
    assert [(Path(frame.file).name, frame.sequence) for frame in frames] == [("2.png", 1)]
    assert facts.skipped == {"too_large": [str(tmp_path / "1.png")]}
    assert read(tmp_path / "1.png", frame_limit_mb=200)[0][0].image.shape == (8000, 8000, 3)


def test_an_animation_that_does_not_fit_says_what_is_read(tmp_path: Path) -> None:
    animation = cv2.Animation()
    animation.frames, animation.durations = [np.full((400, 500, 3), 20 * step, np.uint8) for step in range(6)], [100] * 6
    cv2.imwriteanimation(str(tmp_path / "a.png"), animation)
    frames, facts = read(tmp_path / "a.png", frame_limit_mb=3)
    assert len(frames) == 3
    assert "only the first 3 of its frames are read" in facts.notes[0]


def test_a_pipe_that_ends_is_a_file(tmp_path: Path) -> None:
    if shutil.which("mkfifo") is None:
        pytest.skip("mkfifo is missing")
    video, pipe = write_video(tmp_path / "a.ts", 40, codec="libx264"), tmp_path / "pipe"
    subprocess.run(["mkfifo", str(pipe)], check=True)
    writer = subprocess.Popen(["dd", f"if={video}", f"of={pipe}", "bs=512", "status=none"])
    try:
        frames, _ = read(pipe, read_timeout_s=20, open_timeout_s=20)
    finally:
        writer.wait(20)
    assert grays(frames) == [number % 20 for number in range(40)]
    assert times_ms(frames) == list(itertools.accumulate([100] * 39, initial=0))
