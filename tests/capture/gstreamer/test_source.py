"""Pipelines on this machine, of GStreamer's own elements or of stand-ins for a Jetson's."""

import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgepose.capture.gstreamer import library as gstreamer_library
from edgepose.capture.gstreamer.source import GStreamerSource, opening_error, stop_all
from edgepose.capture.readers import choose_reader
from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream, SourceError, UnavailableError
from testing import jetson
from testing.gstreamer import needs_gstreamer
from testing.reading import read_until_error
from testing.waiting import in_time, wait_for

pytestmark = needs_gstreamer


def ended(name: str) -> bool:
    return all(thread.name != name for thread in threading.enumerate())


def test_a_live_pipeline() -> None:
    source = open_source(
        "front", CameraConfig(source="gst:videotestsrc is-live=true ! video/x-raw,width=322,height=241,framerate=20/1"), epoch=2
    )
    with closing(source):
        assert isinstance(source, GStreamerSource)
        assert source.live
        frames = [source.read() for _ in range(6)]
        late_s = (time.time_ns() - frames[-1].captured_at_ns) / 1e9
    assert [(frame.camera, frame.epoch, frame.clock) for frame in frames] == [("front", 2, "stream")] * 6
    assert [frame.sequence - frames[0].sequence for frame in frames] == list(range(6))
    steps_ms = [(after.captured_at_ns - before.captured_at_ns) / 1e6 for before, after in itertools.pairwise(frames)]
    assert steps_ms == pytest.approx([50] * 5, abs=2)
    assert 0 <= late_s < 0.5
    assert (source.width, source.height) == (322, 241)
    assert wait_for(lambda: ended("capture-front"))


@pytest.mark.parametrize("width", [320, 321, 322, 323])
def test_padded_rows_are_delivered_without_padding(width: int) -> None:
    # Pure colors in a row of single pixels: red, then the rest green; a wrong stride would shear them.
    source = f"gst:videotestsrc num-buffers=1 pattern=smpte ! video/x-raw,width={width},height=90 ! videoconvert"
    with closing(open_source("front", CameraConfig(source=source))) as opened:
        image = opened.read().image
    assert image.shape == (90, width, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    bars = image[:50].astype(int)  # upright bars: all rows alike, from white to blue
    assert np.abs(bars - bars[0]).max() <= 2
    assert bars[0, 3].min() > 180
    assert bars[0, -4, 2] > 180 > 60 > bars[0, -4, :2].max()


def test_a_pipeline_that_is_a_file_delivers_every_frame_and_ends() -> None:
    with closing(open_source("front", CameraConfig(source="gst:videotestsrc num-buffers=7 ! video/x-raw,framerate=10/1"))) as source:
        assert not source.live
        frames, error = read_until_error(source)
    assert isinstance(error, EndOfStream)
    assert [frame.sequence for frame in frames] == list(range(7))
    assert (frames[-1].captured_at_ns - frames[0].captured_at_ns) / 1e9 == pytest.approx(0.6)


def test_a_pipeline_that_is_a_file_can_start_again() -> None:
    with closing(open_source("front", CameraConfig(source="gst:videotestsrc num-buffers=2", loop=True))) as source:
        times = [source.read().captured_at_ns for _ in range(5)]
    assert times == sorted(set(times))


def test_a_live_pipeline_that_ends_has_failed() -> None:
    with closing(
        open_source("front", CameraConfig(source="gst:videotestsrc is-live=true num-buffers=15 ! video/x-raw,framerate=50/1"))
    ) as source:
        frames, error = read_until_error(source)
    assert not isinstance(error, EndOfStream)
    assert error.cause == "ended"
    assert len(frames) >= 1


def test_a_slow_reader_gets_the_newest_frame_and_a_gap() -> None:
    with closing(open_source("front", CameraConfig(source="gst:videotestsrc is-live=true ! video/x-raw,framerate=50/1"))) as source:
        before = source.read()
        time.sleep(0.5)  # a reader that is busy, not a wait
        source.read()  # the frame that waited
        after = source.read()
        assert (time.time_ns() - after.captured_at_ns) / 1e9 < 0.2
        assert source.superseded_frames > 15
        assert after.sequence - before.sequence == pytest.approx((after.captured_at_ns - before.captured_at_ns) / 20e6, abs=3)


def test_silence_is_a_stall_in_time() -> None:
    # valve: the stream stops, and GStreamer reports no error.
    with closing(open_source("front", CameraConfig(source="gst:videotestsrc is-live=true ! valve name=v", read_timeout_s=0.4))) as source:
        source.read()
        source._video._pipeline.get_by_name("v").set_property("drop", True)  # type: ignore[attr-defined]
        start_s = time.monotonic()
        _, error = read_until_error(source)
        assert error.cause == "stalled"
        assert "delivered no frame for 0.4 s: no data arrived" in str(error)
        took_s = time.monotonic() - start_s
        assert took_s > 0.3
        assert in_time(took_s, 2)
    assert wait_for(lambda: ended("capture-front"))


def test_no_data_at_all_is_a_timeout() -> None:
    start_s = time.monotonic()
    with pytest.raises(SourceError, match=r"did not open within 0\.4 s") as caught:
        open_source("front", CameraConfig(source="gst:videotestsrc is-live=true ! valve drop=true", open_timeout_s=0.4))
    assert caught.value.cause == "timeout"
    assert in_time(time.monotonic() - start_s, 2)
    assert wait_for(lambda: ended("capture-front"))


@pytest.mark.parametrize(
    ("source", "cause", "said"),
    [
        ("gst:nosuch", "unsupported", "needs the element nosuch, which this GStreamer does not have; gst-inspect-1.0"),
        ("csi://0", "unsupported", "needs the element nvarguscamerasrc, which this GStreamer does not have; it is part of JetPack"),
        ("csi://0?flip=9", "unsupported", "has flip=9; expected a whole number from 0 to 7"),
        ("v4l2:///dev/video99", "not_found", "v4l2:///dev/video99 does not exist; expected a camera"),
        ("v4l2:///dev/null", "unsupported", "Inappropriate ioctl"),
        ("gst:videotestsrc size=2", "unsupported", 'no property "size"'),
        ("gst:videotestsrc ! ! identity", "unsupported", "syntax error"),
        ("gst:audiotestsrc", "unsupported", "could not link"),
        ("gst:audiotestsrc ! appsink", "unsupported", "not-negotiated"),
        ("gst:filesrc location=/nowhere ! decodebin", "not_found", "does not exist (no such file"),
        ("gst:fakesrc num-buffers=0 ! appsink", "no_video", "ended before its first frame"),
        ("gst:appsink", "unsupported", "is a single element; expected a source"),
        ("gst:", "unsupported", "is followed by no pipeline"),
        ("gst:rtspsrc location=rtsp://pilot:s3cret@127.0.0.1:1/a user-pw=s3cret ! decodebin", "failed", "camera front: gst failed ("),
    ],
)
def test_a_source_that_cannot_be_opened_has_a_cause(source: str, cause: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("front", CameraConfig(source=source))
    assert caught.value.cause == cause
    assert str(caught.value).startswith("camera front: ")
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert wait_for(lambda: ended("capture-front"))


def test_close_ends_a_read_in_another_thread() -> None:
    source = open_source("front", CameraConfig(source="gst:videotestsrc is-live=true ! valve name=v", read_timeout_s=20))
    source.read()
    source._video._pipeline.get_by_name("v").set_property("drop", True)  # type: ignore[attr-defined]
    errors: list[SourceError] = []
    reader = threading.Thread(target=lambda: errors.append(read_until_error(source)[1]))
    reader.start()
    source.close()
    source.close()
    reader.join(5)
    assert [error.cause for error in errors] == ["closed"]


# The text that a Jetson would get, caps included, against elements of the same names.


@pytest.fixture
def argus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log = tmp_path / "argus"
    monkeypatch.setenv("ARGUS_LOG", str(log))
    return log


@pytest.mark.parametrize(
    ("flip", "size", "white"), [("", (120, 160), "left"), ("&flip=2", (120, 160), "right"), ("&flip=1", (160, 120), "bottom")]
)
def test_a_csi_camera(argus: Path, flip: str, size: tuple[int, int], white: str) -> None:
    camera = CameraConfig(source=f"csi://0?width=160&height=120&rate=20{flip}")
    with jetson.elements(jetson.CAMERA, jetson.CONVERTER):
        assert opening_error("front", camera) is None
        assert not argus.exists()  # checking opens nothing
        with closing(open_source("front", camera)) as source:
            frames = [source.read() for _ in range(4)]
            assert argus.read_text() == "opening\nopened\n"
        assert source.live
    assert argus.read_text() == "opening\nopened\nclosed\n"
    image = frames[-1].image
    assert image.shape == (*size, 3)
    height, width = size
    row, column = {"left": (20, 4), "right": (height - 20, width - 4), "bottom": (height - 4, 20)}[white]
    assert image[row, column].min() > 150  # the white bar of the test image, wherever the rotation puts it
    assert {frame.clock for frame in frames} == {"stream"}
    assert (frames[1].captured_at_ns - frames[0].captured_at_ns) / 1e6 == pytest.approx(50, abs=2)


def test_a_missing_sensor(argus: Path) -> None:
    with jetson.elements(jetson.CAMERA, jetson.CONVERTER), pytest.raises(SourceError, match=r"does not start .*nvargus-daemon") as caught:
        open_source("front", CameraConfig(source="csi://1"))
    assert caught.value.cause == "failed"


@pytest.mark.parametrize("caps", ["video/x-raw,format=NV12", "video/x-raw(memory:NVMM),format=RGB"])
def test_the_stand_ins_are_as_strict_as_the_real_thing(caps: str) -> None:
    with jetson.elements(jetson.CAMERA, jetson.CONVERTER), pytest.raises(SourceError) as caught:
        open_source("front", CameraConfig(source=f"gst:nvarguscamerasrc ! {caps} ! nvvidconv ! video/x-raw,format=BGRx"))
    assert caught.value.cause == "unsupported"


def test_a_hanging_pipeline_is_awaited_at_the_end(argus: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with jetson.elements(jetson.CAMERA, jetson.CONVERTER):
        source = open_source("front", CameraConfig(source="csi://0?width=160&height=120"))
        source.read()
        monkeypatch.setenv("ARGUS_CLOSE_S", "1.8")
        start_s = time.monotonic()
        with caplog.at_level(logging.WARNING):
            source.close()
        assert in_time(time.monotonic() - start_s, 1.6)
        assert "does not stop within 1 s" in caplog.text
        assert "closed" not in argus.read_text()
        stop_all(within_s=10)
        assert argus.read_text().endswith("closed\n")
        assert in_time(time.monotonic() - start_s, 5)


# Choice of the reader.


def test_the_reader_depends_on_the_machine() -> None:
    rtsp = CameraConfig(source="rtsp://camera/stream")
    assert choose_reader(rtsp).name == "ffmpeg"
    assert "no nvv4l2decoder" in choose_reader(rtsp).reason
    assert choose_reader(CameraConfig(source="rtsps://camera/stream", reader="gstreamer")).name == "gstreamer"
    with jetson.elements(jetson.DECODER):
        assert choose_reader(rtsp).name == "gstreamer"
        assert "nvv4l2decoder was found" in choose_reader(rtsp).reason
        assert choose_reader(CameraConfig(source="rtsp://camera/stream", reader="ffmpeg")).name == "ffmpeg"
        assert choose_reader(CameraConfig(source="http://camera/stream")).name == "ffmpeg"
    for source in ("csi://0", "v4l2:///dev/video0", "gst:videotestsrc"):
        assert choose_reader(CameraConfig(source=source, reader="ffmpeg")).name == "gstreamer"


def test_gstreamer_is_loaded_only_where_it_is_used() -> None:
    program = (
        "import sys; from edgepose.capture.source import open_source; from edgepose.capture.readers import choose_reader;"
        "from edgepose.config.schema import CameraConfig; camera = CameraConfig(source='rtsp://camera/stream');"
        "assert choose_reader(camera).name == 'ffmpeg';"
        "import edgepose.daemon.daemon; print([name for name in sys.modules if name == 'gi' or name.startswith('gi.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_errors_of_the_engine_are_still_caught_after_loading_gstreamer() -> None:
    """GStreamer loads libunwind, which must not replace the library that unwinds C++ exceptions."""
    program = """if True:
        import av
        from edgepose.capture.gstreamer.library import load
        load()
        import onnxruntime
        try:
            onnxruntime.InferenceSession("/nowhere.onnx")
        except Exception as error:
            print(type(error).__name__)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "NoSuchFile")


def test_gi_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)  # import raises ImportError then
    monkeypatch.setattr(gstreamer_library, "_SYSTEM_PACKAGES", ())
    monkeypatch.setattr(gstreamer_library, "_loaded", None)
    with pytest.raises(UnavailableError, match="which is not installed; expected it to be installed: sudo apt-get install python3-gi"):
        gstreamer_library.load()
    with pytest.raises(SourceError, match="camera front: gst: GStreamer needs the system's package gi") as caught:
        open_source("front", CameraConfig(source="gst:videotestsrc"))
    assert caught.value.cause == "unsupported"
    found = opening_error("front", CameraConfig(source="csi://0"))
    assert found is not None
    assert found.exit_code == 69


def test_gi_of_another_python_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gi").mkdir()
    (tmp_path / "gi" / "__init__.py").write_text("raise AssertionError('must not be imported')")
    (tmp_path / "gi" / "_gi.cpython-27-vax.so").touch()
    monkeypatch.setitem(sys.modules, "gi", None)
    monkeypatch.setattr(gstreamer_library, "_SYSTEM_PACKAGES", (tmp_path,))
    monkeypatch.setattr(gstreamer_library, "_loaded", None)
    with pytest.raises(UnavailableError, match="is not built for Python 3"):
        gstreamer_library.load()
