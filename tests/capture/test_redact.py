import pytest

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
        ("cannot open 'rtsp://pilot:s3cret@a/1' nor rtsp://pilot:s3cret@b/2", "cannot open 'rtsp://***@a/1' nor rtsp://***@b/2"),
    ],
)
def test_credentials_are_hidden_and_the_rest_stays(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert redact(shown) == shown
