from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose.capture.gstreamer import launch as pipelines

RGB = "videoconvert ! video/x-raw,format=RGB ! appsink"
OUT_OF_NVMM = f"nvvidconv ! video/x-raw,format=BGRx ! {RGB}"


@pytest.mark.parametrize(
    ("url", "sensor", "size", "flip"),
    [
        ("csi://0", 0, "width=1280,height=720,framerate=30/1", ""),
        ("CSI://1/", 1, "width=1280,height=720,framerate=30/1", ""),
        ("csi://2?width=1920&height=1080&rate=60&flip=2", 2, "width=1920,height=1080,framerate=60/1", " flip-method=2"),
        ("csi://0?flip=0", 0, "width=1280,height=720,framerate=30/1", " flip-method=0"),
    ],
)
def test_a_csi_camera(url: str, sensor: int, size: str, flip: str) -> None:
    launch = pipelines.csi(url)
    assert launch.text == (
        f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),format=NV12,{size}"
        f" ! nvvidconv{flip} ! video/x-raw,format=BGRx ! {RGB}"
    )
    assert launch.of_this_host


@pytest.mark.parametrize(
    ("url", "device", "caps"),
    [
        ("v4l2:///dev/video0", "/dev/video0", "image/jpeg;video/x-h264;video/x-raw"),
        ("v4l2:///dev/video2?format=raw&width=640&height=480", "/dev/video2", "video/x-raw,width=640,height=480"),
        ("v4l2:///dev/v4l/by-id/cam%201?format=mjpeg&rate=25", "/dev/v4l/by-id/cam 1", "image/jpeg,framerate=25/1"),
    ],
)
def test_a_v4l2_camera(url: str, device: str, caps: str) -> None:
    launch = pipelines.v4l2(url, hardware=False)
    assert launch.text == f'v4l2src device="{device}" ! capsfilter caps="{caps}" ! decodebin ! {RGB}'
    assert launch.device == Path(device)
    assert pipelines.v4l2(url, hardware=True).text.endswith(f" ! decodebin ! {OUT_OF_NVMM}")


def test_a_network_camera() -> None:
    launch = pipelines.rtsp("rtsp://pilot:s3%40cret@[fe80::1]:8554/cam?channel=1", udp=False, hardware=False)
    assert launch.text == (
        f"rtspsrc name=camera protocols=tcp latency=0 buffer-mode=none ! application/x-rtp,media=video ! decodebin ! {RGB}"
    )
    assert dict(launch.properties["camera"]) == {
        "location": "rtsp://[fe80::1]:8554/cam?channel=1",
        "user-id": "pilot",
        "user-pw": "s3@cret",
        "add-reference-timestamp-meta": True,
    }
    assert "s3" not in repr(launch)
    assert not launch.of_this_host
    hardware = pipelines.rtsp("rtsp://a/b", udp=True, hardware=True, tls_database="authorities")
    assert hardware.text == (
        f"rtspsrc name=camera protocols=udp latency=100 buffer-mode=none ! application/x-rtp,media=video ! decodebin ! {OUT_OF_NVMM}"
    )
    assert hardware.properties["camera"]["tls-database"] == "authorities"


@pytest.mark.parametrize(
    ("source", "text", "of_this_host"),
    [
        ("gst:videotestsrc is-live=true", f"videotestsrc is-live=true ! {RGB}", True),
        ("GST: videotestsrc ! ", f"videotestsrc ! {RGB}", True),
        ("gst:videotestsrc ! appsink max-buffers=3", "videotestsrc ! appsink max-buffers=3", True),
        ("gst:videotestsrc name=appsink", f"videotestsrc name=appsink ! {RGB}", True),
        ("gst:rtspsrc location=rtsp://a/b ! decodebin", f"rtspsrc location=rtsp://a/b ! decodebin ! {RGB}", False),
        ("gst:udpsrc port=5000 ! application/x-rtp ! rtpjitterbuffer ! decodebin", None, False),
    ],
)
def test_a_pipeline_is_used_unchanged_and_completed(source: str, text: str | None, of_this_host: bool) -> None:
    launch = pipelines.custom(source)
    assert launch.text == text or text is None
    assert launch.of_this_host == of_this_host


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("csi://", "csi:// names no sensor; expected a sensor number, such as csi://0?"),
        ("csi://front", "names no sensor"),
        ("csi://-1", "names no sensor"),
        ("csi://0/1", "names no sensor"),
        ("csi://0:1", "names no sensor"),
        ("csi://0?size=2", "has an unknown parameter; expected width, height, rate, flip"),
        ("csi://0?flip=8", "has flip=8; expected a whole number from 0 to 7"),
        ("csi://0?rate=29.97", "has rate=29.97; expected a whole number from 1 to 1000"),
        ("csi://0?rate=", "has rate=; expected a whole number from 1 to 1000"),
        ("csi://0?rate=%D9%A3%D9%A0", "expected a whole number from 1 to 1000"),  # digits, but not GStreamer's
        ("csi://0?rate=1&rate=2", "has rate twice; expected it once"),
        ("csi://0?width=640", "has only one of width and height; expected both or neither"),
        ("csi://0?width=641&height=480", "asks for 641x480; expected even numbers"),
        ("csi://0#flip=2", "has an unknown parameter; expected"),
        ("v4l2://dev/video0", "names no device; expected three slashes and a path"),
        ("v4l2:///", "names no device"),
        ("v4l2:///dev/video0?format=yuyv", "has an unknown format; expected mjpeg, h264, raw"),
        ("v4l2:///dev/video0?flip=2", "has an unknown parameter; expected width, height, rate, format"),
        ("gst:", "gst: is followed by no pipeline"),
        ("gst: ! ", "gst: is followed by no pipeline"),
        ("gst://videotestsrc", "gst: is followed by no pipeline"),
        ("gst:videotestsrc ! tee name=t ! appsink t. ! appsink", "a pipeline with 2 appsinks; expected one, or none"),
        ("gst:video\0testsrc", "gst: is followed by no pipeline"),
        ("csi://[0", "is not a URL; expected one such as csi://0"),
        ("v4l2:///dev/video0%00", "names no device"),
    ],
)
def test_an_invalid_source_is_reported_in_one_sentence(source: str, said: str) -> None:
    sentence = pipelines.validation_error(source)
    assert sentence is not None
    assert said in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("source", ["csi://0", "v4l2:///dev/video0?width=640", "gst:videotestsrc", "v4l2:///tmp/a%22b"])
def test_valid_sources(source: str) -> None:
    assert pipelines.validation_error(source) is None


@given(st.sampled_from(["csi:", "csi://", "v4l2:///dev/", "gst:"]), st.text())
def test_any_text_is_accepted_or_refused(beginning: str, rest: str) -> None:
    sentence = pipelines.validation_error(beginning + rest)
    assert sentence is None or "expected" in sentence
