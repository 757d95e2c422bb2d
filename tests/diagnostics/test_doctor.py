"""What doctor and check report on readers, and on sources that only GStreamer supports."""

import sys

import pytest
from msgspec.structs import replace

from edgepose.capture.gstreamer import library as gstreamer_library
from edgepose.capture.pyav import supports_scheme
from edgepose.config.schema import CameraConfig, Config, EventsConfig, MqttConfig, TrackConfig
from edgepose.diagnostics.doctor import _gstreamer, _reader
from edgepose.diagnostics.preflight import CheckResult, preflight_checks
from testing import jetson
from testing.gstreamer import needs_gstreamer


def check_camera(source: str) -> CheckResult:
    config = Config(cameras={"front": CameraConfig(source=source)}, mqtt=MqttConfig(enabled=False))
    return next(result for result in preflight_checks(config) if result.what == "camera front")


@needs_gstreamer
def test_doctor_reports_what_gstreamer_has() -> None:
    result = _gstreamer()
    assert result.good
    assert result.detail.endswith("nvv4l2decoder not found; nvarguscamerasrc not found")
    assert "through gi " in result.detail
    with jetson.elements(jetson.CAMERA, jetson.DECODER):
        assert _gstreamer().detail.endswith("nvv4l2decoder found: RTSP is decoded in hardware; nvarguscamerasrc found")


def test_doctor_reports_that_gstreamer_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    monkeypatch.setattr(gstreamer_library, "_SYSTEM_PACKAGES", ())
    monkeypatch.setattr(gstreamer_library, "_loaded", None)
    result = _gstreamer()
    assert result.good  # most cameras do not need it
    assert result.detail.startswith("not used: GStreamer needs the system's package gi")
    needed = check_camera("csi://0")
    assert (needed.good, needed.exit_code) == (False, 69)
    assert "apt-get install python3-gi" in needed.detail


@pytest.mark.parametrize(
    ("source", "reader", "said"),
    [
        ("rtsp://camera/stream", "auto", "FFmpeg (PyAV "),
        ("rtsp://camera/stream", "auto", "GStreamer has no nvv4l2decoder here"),
        ("rtsp://camera/stream", "gstreamer", "GStreamer: the configuration says so"),
        ("http://camera/stream", "auto", "it reads files, and streams other than RTSP"),
        ("csi://0", "auto", "GStreamer: nothing else reads csi://"),
        ("gst:videotestsrc", "ffmpeg", "GStreamer: the source is a pipeline"),
    ],
)
def test_doctor_reports_which_library_reads_a_camera_and_why(source: str, reader: str, said: str) -> None:
    result = _reader("front", CameraConfig(source=source, reader=reader))  # type: ignore[arg-type]
    assert result.what == "reader front"
    assert result.good
    assert said in result.detail


@needs_gstreamer
@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("gst:videotestsrc", 0, "gst: a pipeline of 1 element (not contacted)"),
        ("gst:rtspsrc location=rtsp://pilot:s3cret@a/b ! decodebin", 0, "gst: a pipeline of 2 elements"),
        ("gst:videotestsrc ! nosuch", 66, "needs the element nosuch"),
        ("gst:", 78, "is followed by no pipeline"),
        ("csi://0", 66, "is part of JetPack"),
        ("csi://0?flip=9", 78, "expected a whole number from 0 to 7"),
        ("gst:videotestsrc ! ! fakesink", 66, "is not a valid pipeline ("),
        ("gst:videotestsrc colour=1", 66, "is not a valid pipeline (no property"),
        (
            "v4l2:///dev/video99",
            0,
            "does not exist; expected a camera: v4l2-ctl --list-devices lists those that exist; the daemon starts",
        ),
        ("v4l2://dev/video99", 78, "expected three slashes"),
        ("gopher://camera/stream", 78, "csi://, v4l2://, gst: and a pipeline"),
    ],
)
def test_check_reports_what_can_never_work(source: str, code: int, said: str) -> None:
    result = check_camera(source)
    assert result.exit_code == code
    assert result.good == (code == 0)
    assert result.note == ("/dev/video99" in source and code == 0)
    assert said in result.detail
    assert "s3cret" not in result.detail


def test_check_knows_which_protocols_this_ffmpeg_lacks() -> None:
    result = check_camera("srt://pilot:s3cret@camera:5000")
    if supports_scheme("srt"):
        assert result.good
    else:
        assert (result.exit_code, result.good) == (66, False)
        assert result.detail.startswith("srt://camera begins with srt://, which this build of FFmpeg cannot read; `gst:`")
    assert check_camera("rtsp://camera/stream").good


def test_check_reports_zones_without_an_effect() -> None:
    zones = {"door": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]}
    config = Config(cameras={"front": CameraConfig(source="rtsp://camera/s", zones=zones)}, mqtt=MqttConfig(enabled=False))
    assert "zones" not in {result.what for result in preflight_checks(config)}
    for changed, off in (
        ({"events": EventsConfig(enabled=False)}, "events.enabled is false"),
        ({"events": EventsConfig(enabled=False), "track": TrackConfig(enabled=False)}, "events.enabled and track.enabled are false"),
    ):
        result = next(result for result in preflight_checks(replace(config, **changed)) if result.what == "zones")
        assert (result.good, result.note) == (True, True)
        assert result.detail == f"the zones of front have no effect while {off}"


@needs_gstreamer
def test_check_accepts_a_csi_camera_on_a_jetson() -> None:
    with jetson.elements(jetson.CAMERA, jetson.CONVERTER):
        assert check_camera("csi://0?width=640&height=480").good
