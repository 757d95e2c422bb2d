"""What doctor and check say of readers and of sources that only GStreamer reads."""

import sys

import pytest
from msgspec.structs import replace

from edgepose.capture.gstreamer import library as gstreamer_library
from edgepose.capture.pyav import speaks
from edgepose.config.schema import CameraConfig, Config, EventsConfig, MqttConfig, TrackConfig
from edgepose.diagnostics import readers
from edgepose.diagnostics.preflight import CheckResult, findings
from testing import jetson
from testing.gstreamer import needs_gstreamer


def camera_finding(source: str) -> CheckResult:
    config = Config(cameras={"front": CameraConfig(source=source)}, mqtt=MqttConfig(enabled=False))
    return next(finding for finding in findings(config) if finding.what == "camera front")


@needs_gstreamer
def test_doctor_says_what_gstreamer_has() -> None:
    finding = readers.gstreamer()
    assert finding.good
    assert finding.detail.endswith("nvv4l2decoder not found; nvarguscamerasrc not found")
    assert "through gi " in finding.detail
    with jetson.elements(jetson.CAMERA, jetson.DECODER):
        assert readers.gstreamer().detail.endswith("nvv4l2decoder found: RTSP is decoded in hardware; nvarguscamerasrc found")


def test_doctor_says_that_gstreamer_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    monkeypatch.setattr(gstreamer_library, "_SYSTEM_PACKAGES", ())
    monkeypatch.setattr(gstreamer_library, "_loaded", None)
    finding = readers.gstreamer()
    assert finding.good  # most cameras do without
    assert finding.detail.startswith("not used: GStreamer needs the system's package gi")
    needed = camera_finding("csi://0")
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
def test_doctor_says_who_reads_a_camera_and_why(source: str, reader: str, said: str) -> None:
    finding = readers.reader("front", CameraConfig(source=source, reader=reader))  # type: ignore[arg-type]
    assert finding.what == "reader front"
    assert finding.good
    assert said in finding.detail


@needs_gstreamer
@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("gst:videotestsrc", 0, "gst:videotestsrc (not contacted)"),
        ("gst:rtspsrc location=rtsp://pilot:s3cret@a/b ! decodebin", 0, "rtsp://***@a/b"),
        ("gst:videotestsrc ! nosuch", 66, "needs the element nosuch"),
        ("gst:", 78, "is followed by no pipeline"),
        ("csi://0", 66, "comes with JetPack"),
        ("csi://0?flip=9", 78, "expected a whole number from 0 to 7"),
        ("gst:videotestsrc ! ! fakesink", 66, "is no pipeline ("),
        ("gst:videotestsrc colour=1", 66, "is no pipeline (no property"),
        (
            "v4l2:///dev/video99",
            0,
            "does not exist; expected a camera there: v4l2-ctl --list-devices shows those that are; the daemon starts",
        ),
        ("v4l2://dev/video99", 78, "expected three slashes"),
        ("gopher://camera/stream", 78, "csi://, v4l2://, gst: and a pipeline"),
    ],
)
def test_check_says_what_can_never_work(source: str, code: int, said: str) -> None:
    finding = camera_finding(source)
    assert finding.exit_code == code
    assert finding.good == (code == 0)
    assert finding.note == ("/dev/video99" in source and code == 0)
    assert said in finding.detail
    assert "s3cret" not in finding.detail


def test_check_knows_what_this_ffmpeg_was_built_without() -> None:
    finding = camera_finding("srt://pilot:s3cret@camera:5000")
    if speaks("srt"):
        assert finding.good
    else:
        assert (finding.exit_code, finding.good) == (66, False)
        assert finding.detail.startswith("srt://***@camera:5000 begins with srt://, which this build of FFmpeg cannot read; `gst:`")
    assert camera_finding("rtsp://camera/stream").good


def test_check_says_that_zones_have_no_effect() -> None:
    zones = {"door": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]}
    config = Config(cameras={"front": CameraConfig(source="rtsp://camera/s", zones=zones)}, mqtt=MqttConfig(enabled=False))
    assert "zones" not in {finding.what for finding in findings(config)}
    for changed, off in (
        ({"events": EventsConfig(enabled=False)}, "events.enabled is false"),
        ({"events": EventsConfig(enabled=False), "track": TrackConfig(enabled=False)}, "events.enabled and track.enabled are false"),
    ):
        finding = next(finding for finding in findings(replace(config, **changed)) if finding.what == "zones")
        assert (finding.good, finding.note) == (True, True)
        assert finding.detail == f"those of front have no effect while {off}"


@needs_gstreamer
def test_check_is_content_with_a_csi_camera_on_a_jetson() -> None:
    with jetson.elements(jetson.CAMERA, jetson.CONVERTER):
        assert camera_finding("csi://0?width=640&height=480").good
