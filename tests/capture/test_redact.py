import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.capture.redact import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.7:554/cam/1?channel=2", "rtsp://10.0.0.7:554/cam/1?channel=2"),
        ("rtsp://pilot:s3cret@10.0.0.7/cam", "rtsp://***@10.0.0.7/cam"),
        ("rtsp://pilot@10.0.0.7/cam", "rtsp://***@10.0.0.7/cam"),
        ("rtsp://pilot:s3@cret@10.0.0.7/cam", "rtsp://***@10.0.0.7/cam"),
        ("rtsp://pilot:s3/cret@10.0.0.7/cam", "rtsp://***@10.0.0.7/cam"),
        ("rtsp://pilot:s3?cr#et@10.0.0.7/cam", "rtsp://***@10.0.0.7/cam"),
        ("rtsp://pilot:s3@c/ret@10.0.0.7/cam", "rtsp://***@10.0.0.7/cam"),
        ("http://web/view@left", "http://web/view@left"),
        ("http://web/video?user=pilot&password=s3cret&size=2", "http://web/video?user=***&password=***&size=2"),
        ("http://web/video?Token=s3cret", "http://web/video?Token=***"),
        ("HTTPS://pilot:s3cret@web/video?pwd=s3cret#s", "HTTPS://***@web/video?pwd=***#s"),
        ("/videos/user:pass@home.mp4", "/videos/user:pass@home.mp4"),
        (
            'gst:rtspsrc location=rtsp://pilot:s3cret@a/1 user-id=pilot user-pw="s3 cret" latency=0 ! decodebin',
            "gst:rtspsrc location=rtsp://***@a/1 user-id=*** user-pw=*** latency=0 ! decodebin",
        ),
        ("gst:srtsrc passphrase='s3 cret'! decodebin", "gst:srtsrc passphrase=***! decodebin"),
        ("rtsp://pilot:it's s3cret@10.0.0.7/cam", "rtsp://***@10.0.0.7/cam"),
        ('say "rtsp://10.0.0.7:554/cam" to me', 'say "rtsp://10.0.0.7:554/cam" to me'),
        ("['rtsp://10.0.0.7:554/cam','rtsp://pilot:s3cret@b/2']", "['rtsp://10.0.0.7:554/cam','rtsp://***@b/2']"),
        ("cannot open 'rtsp://pilot:s3cret@a/1' nor rtsp://pilot:s3cret@b/2", "cannot open 'rtsp://***@a/1' nor rtsp://***@b/2"),
    ],
)
def test_credentials_are_hidden_and_the_rest_is_unchanged(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert redact(shown) == shown


SECRET = "S3CRET"
ODD = st.text(string.ascii_letters + string.digits + string.punctuation + " äπ", max_size=12)
NAME = st.text(string.ascii_letters + string.digits + "._-%", max_size=8)
SCHEME = st.sampled_from(["rtsp", "rtsps", "RTSP", "http", "https", "rtmp", "srt"])
HOST = st.sampled_from(["10.0.0.7", "10.0.0.7:554", "[fe80::1]:554", "camera.local"])


@settings(deadline=None)
@given(SCHEME, NAME, ODD, ODD, HOST, st.sampled_from(["", "/", "/cam/1?channel=2", "/view@left"]))
def test_every_password_is_hidden(scheme: str, user: str, before: str, after: str, host: str, path: str) -> None:
    before, after = before.replace("://", ":"), after.replace("://", ":")  # that would be another URL
    for text in ("{}", "camera front: {}", "cannot open '{}'", "[Errno 5] Input/output error: '{}'", "from {}, epoch 0"):
        shown = redact(text.format(f"{scheme}://{user}:{before}{SECRET}{after}@{host}{path}"))
        assert SECRET not in shown
        assert "***@" in shown
        assert redact(shown) == shown


@settings(deadline=None)
@given(SCHEME, HOST, st.sampled_from(["password", "pwd", "Token", "passphrase", "key"]), NAME)
def test_every_token_is_hidden(scheme: str, host: str, name: str, value: str) -> None:
    shown = redact(f"{scheme}://{host}/cam?size=2&{name}={value}{SECRET}{value}&rate=3")
    assert shown == f"{scheme}://{host}/cam?size=2&{name}=***&rate=3"


@settings(deadline=None)
@given(SCHEME, HOST, st.sampled_from(["", "/", "/cam/1?channel=2", "/view"]))
def test_text_without_a_secret_is_unchanged(scheme: str, host: str, path: str) -> None:
    for text in ("{}", "cannot open '{}', trying again", "from {}, epoch 0"):
        assert redact(text.format(f"{scheme}://{host}{path}")) == text.format(f"{scheme}://{host}{path}")
