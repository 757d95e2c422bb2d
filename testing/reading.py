"""Reading of a source to its end."""

import time

from edgepose.capture.source import Source
from edgepose.errors import SourceError
from edgepose.frame import Frame
from testing.waiting import PATIENCE


def read_until_error(source: Source, *, within_s: float = 20.0) -> tuple[list[Frame], SourceError]:
    """Return all frames up to the error that ends them, and that error; fail where frames go on for longer."""
    frames: list[Frame] = []
    deadline_s = time.monotonic() + within_s * PATIENCE
    while time.monotonic() < deadline_s:
        try:
            frames.append(source.read())
        except SourceError as error:
            return frames, error
    raise AssertionError(f"still reading after {within_s * PATIENCE:g} s and {len(frames)} frames")
