"""The mark of tests that use GStreamer inside of the test process."""

import pytest

needs_gstreamer = pytest.mark.needs("gstreamer")
