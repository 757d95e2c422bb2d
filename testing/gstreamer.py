"""Whether this machine has GStreamer, for tests that need it."""

import pytest

from edgepose.capture.gstreamer.library import load
from edgepose.errors import UnavailableError


def _lacking() -> str:
    try:
        library = load()
    except UnavailableError as error:
        return str(error)
    lacking = [name for name in ("videotestsrc", "decodebin", "rtspsrc", "videoflip", "v4l2src") if not library.has(name)]
    if not (library.has("avdec_h264") or library.has("openh264dec")):
        lacking.append("avdec_h264")
    return f"GStreamer lacks {', '.join(lacking)}" if lacking else ""


LACKING = _lacking()

needs_gstreamer = pytest.mark.skipif(bool(LACKING), reason=LACKING)
