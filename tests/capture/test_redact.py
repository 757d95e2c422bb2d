import string
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose.capture.redact import conceal, describe, scrub, show


@pytest.fixture(autouse=True)
def _nothing_is_concealed() -> Iterator[None]:
    yield
    conceal([])


@pytest.mark.parametrize(
    ("source", "shown", "described"),
    [
        ("rtsp://10.0.0.7:554/cam/1?channel=2", "rtsp://10.0.0.7", "rtsp://10.0.0.7:554 (path of 2 parts)"),
        ("rtsp://10.0.0.7/user=pilot_password=s3cret_channel=1", "rtsp://10.0.0.7", "rtsp://10.0.0.7 (path of 1 part)"),
        ("rtsp://pilot:s3cret@10.0.0.7/cam", "rtsp://10.0.0.7", "rtsp://10.0.0.7 (path of 1 part)"),
        ("rtsp://pilot:s3@cret@10.0.0.7/cam", "rtsp://10.0.0.7", "rtsp://10.0.0.7 (path of 1 part)"),
        ("rtsp://pilot:s3/cret@10.0.0.7/cam", "rtsp://***", "rtsp://***"),
        ("rtsp://pilot:s3?cr#et@10.0.0.7/cam", "rtsp://***", "rtsp://***"),
        ("rtsp://pilot:s3@c/ret@10.0.0.7/cam", "rtsp://***", "rtsp://***"),
        ("rtsp://pilot:s3cret@[fe80::1%25eth0]:554/cam", "rtsp://[fe80::1%25eth0]", "rtsp://[fe80::1%25eth0]:554 (path of 1 part)"),
        ("rtsp://cam era/1", "rtsp://***", "rtsp://***"),
        ("rtsp://camera:s3cret", "rtsp://***", "rtsp://***"),
        ("http://web/view@left", "http://***", "http://***"),
        ("HTTPS://web/video?jwt=s3cret#s", "HTTPS://web", "HTTPS://web (path of 1 part)"),
        ("http://camera", "http://camera", "http://camera"),
        ("http://camera:8080/", "http://camera", "http://camera:8080"),
        ("udp://@:5000", "udp://", "udp://"),
        ("rtmp://relay/live/s3cret", "rtmp://relay", "rtmp://relay (path of 2 parts)"),
        ("/videos/s3cret.mp4", "file", "/videos/s3cret.mp4"),
        ("file:///videos/s3cret.mp4", "file", "file:///videos/s3cret.mp4"),
        ("csi://0?width=1280", "csi://0", "csi://0"),
        ("v4l2:///dev/video0?width=1280", "v4l2:///dev/video0", "v4l2:///dev/video0"),
        ("v4l2:///dev/s3cret", "v4l2://***", "v4l2://***"),
        ("gst:souphttpsrc location=http://a/b cookies=s3cret ! decodebin", "gst", "gst: a pipeline of 2 elements"),
    ],
)
def test_scheme_and_host_are_shown_and_nothing_else(source: str, shown: str, described: str) -> None:
    assert show(source) == shown
    assert describe(source) == described
    assert scrub(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot open 'rtsp://pilot:s3cret@a/1' nor rtsp://pilot:s3cret@b/2", "cannot open 'rtsp://a' nor rtsp://b"),
        ("['rtsp://10.0.0.7:554/cam','rtsp://pilot:s3cret@b/2']", "['rtsp://10.0.0.7','rtsp://b']"),
        ("rtsp://pilot:it's s3cret@10.0.0.7/cam", "rtsp://10.0.0.7"),
        ("camera front: rtsp://a/b?key=s3cret ended", "camera front: rtsp://a ended"),
        ("leads to http://a; expected (rtsp://b:5/c), or rtsp://[::1].", "leads to http://a; expected (rtsp://b), or rtsp://[::1]."),
        ("no URL at all: a/b, 3 people", "no URL at all: a/b, 3 people"),
    ],
)
def test_a_text_keeps_all_but_the_rest_of_its_urls(text: str, shown: str) -> None:
    assert scrub(text) == shown
    assert scrub(shown) == shown


def test_concealed_sources_are_found_without_a_scheme() -> None:
    conceal(["/videos/s3cret.mp4", "/videos", "gst:fakesrc name=s3cret ! fakesink", "rtsp://a/b"])
    assert scrub("/videos/s3cret.mp4 does not exist") == "file does not exist"
    assert scrub("/videos/other.mp4") == "file/other.mp4"
    assert scrub("cannot parse gst:fakesrc name=s3cret ! fakesink") == "cannot parse gst"
    conceal([])
    assert scrub("/videos/s3cret.mp4") == "/videos/s3cret.mp4"


SECRET = "S3CRET"
ODD = st.text(string.ascii_letters + string.digits + string.punctuation + " äπ", max_size=12)
NAME = st.text(string.ascii_letters + string.digits + "._-%", max_size=8)
SCHEME = st.sampled_from(["rtsp", "rtsps", "RTSP", "http", "https", "rtmp", "srt"])
HOST = st.sampled_from(["10.0.0.7", "10.0.0.7:554", "[fe80::1]:554", "camera.local"])


@given(SCHEME, NAME, ODD, ODD, HOST, st.sampled_from(["", "/", "/cam/1?channel=2", "/view@left"]))
def test_every_password_is_hidden(scheme: str, user: str, before: str, after: str, host: str, path: str) -> None:
    before, after = before.replace("://", ":"), after.replace("://", ":")  # that would be another URL
    url = f"{scheme}://{user}:{before}{SECRET}{after}@{host}{path}"
    assert SECRET not in show(url) + describe(url)
    for text in ("{}", "camera front: {}", "cannot open '{}'", "[Errno 5] Input/output error: '{}'", "from {}, epoch 0"):
        shown = scrub(text.format(url))
        assert SECRET not in shown
        assert scrub(shown) == shown


@given(SCHEME, HOST, st.sampled_from(["/{}", "/a/{}/b", "?{}", "/cam?jwt={}", "/user=a_password={}_b", "/#{}", ";{}"]), NAME)
def test_whatever_follows_the_host_is_hidden(scheme: str, host: str, after: str, around: str) -> None:
    url = f"{scheme}://{host}{after.format(around + SECRET + around)}"
    assert SECRET not in show(url) + describe(url) + scrub(f"cannot open '{url}': {url}")
