import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from edgepose.errors import OutputError
from edgepose.output.video import ImageWriter, VideoWriter
from edgepose.pixels import unguarded


def moving_column(number, height=120, width=160):
    """Return a frame with a bright column that moves to the right with its number."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, number * 8 : number * 8 + 8] = (250, 200, 30)
    return image


def read(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("height", "width"), [(120, 160), (121, 161), (120, 161)])
def test_frames_come_back_at_their_times(tmp_path, height, width):
    times_ms = [0, 33, 66, 140, 150, 1150, 1183]
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for number, time_ms in enumerate(times_ms):
            writer.write(unguarded(moving_column(number, height, width)), 10**18 + time_ms * 1_000_000)
    frames = read(tmp_path / "a.mp4")
    assert [round(time * 1000, 2) for time, _ in frames] == times_ms
    for number, (_, image) in enumerate(frames):
        assert image.shape == (height + height % 2, width + width % 2, 3)
        assert image[60, number * 8 + 4].astype(int) == pytest.approx([250, 200, 30], abs=25)
        assert image[60, -1].astype(int) == pytest.approx([40, 40, 40], abs=10)


@pytest.mark.parametrize(("times_ms", "seconds"), [([0, 100, 200], 0.3), ([0, 100, 1000], 1.9), ([0], 0.04)])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_last_frame_lasts_as_long_as_the_one_before(tmp_path, monkeypatch, codec, times_ms, seconds):
    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for number, time_ms in enumerate(times_ms):
            writer.write(unguarded(moving_column(number)), time_ms * 1_000_000)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.frames, float(stream.duration * stream.time_base)) == (len(times_ms), pytest.approx(seconds, abs=1e-3))


def test_the_video_is_h264_in_a_common_pixel_format(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        assert writer.codec == "libx264"  # part of the PyAV wheels
        writer.write(unguarded(moving_column(0)), 0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_without_libx264_the_video_is_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for number in range(5):
            writer.write(unguarded(moving_column(number, 121, 161)), number * 40_000_000)
    assert [round(time, 3) for time, _ in read(tmp_path / "a.mp4")] == [0, 0.04, 0.08, 0.12, 0.16]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


def test_time_that_stands_still_does_not_stop_the_video(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for number, time_ns in enumerate([0, 0, -5, 100_000_000]):
            writer.write(unguarded(moving_column(number)), time_ns)
    times = [time for time, _ in read(tmp_path / "a.mp4")]
    assert len(times) == 4
    assert times == sorted(set(times))


def test_frames_of_another_size_are_fitted(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(unguarded(moving_column(0, 120, 160)), 0)
        writer.write(unguarded(np.full((600, 400, 3), 200, np.uint8)), 10**8)
    image = read(tmp_path / "a.mp4")[1][1]
    assert image.shape == (120, 160, 3)
    assert image[60, 40].mean() == pytest.approx(200, abs=10)
    assert image[60, 120].mean() < 30


CHILD = """
import os, sys, numpy as np
from edgepose.output.video import VideoWriter
from edgepose.pixels import unguarded
writer = VideoWriter(sys.argv[1])
random = np.random.default_rng(0)
for number in range(300):
    writer.write(unguarded(random.integers(0, 255, (120, 160, 3), np.uint8)), number * 33_000_000)
os._exit(9)
"""


def test_a_killed_process_leaves_a_playable_video(tmp_path):
    assert subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "a.mp4")], check=False).returncode == 9
    assert len(read(tmp_path / "a.mp4")) >= 120


def test_closing_twice_and_an_empty_video_are_harmless(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4")
    writer.close()
    writer.close()


def test_unwritable_paths_are_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"a.mp4 cannot be written: No such file or directory; expected "):
        VideoWriter(tmp_path / "missing" / "a.mp4")
    with pytest.raises(OutputError, match=r"file cannot be written: File exists; expected "):
        ImageWriter(tmp_path / "file")
    with pytest.raises(OutputError, match=r"expected \.jpg or \.png"):
        ImageWriter(tmp_path, ".gif")
    with pytest.raises(OutputError, match=r"b.jpg cannot be written: No such file"):
        ImageWriter(tmp_path / "c").write(unguarded(moving_column(0)), "missing/b")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_single_images(tmp_path, suffix):
    path = ImageWriter(tmp_path / "new" / "folder", suffix).write(unguarded(moving_column(3)), "front-000812")
    assert path == tmp_path / "new" / "folder" / f"front-000812{suffix}"
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert np.abs(image.astype(int) - moving_column(3)).mean() < (3 if suffix == ".jpg" else 0.001)
