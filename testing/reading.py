"""Reading a source to its end, whichever that is."""

import time

from edgepose.capture.source import Source
from edgepose.errors import SourceError
from edgepose.frame import Frame


def read_until_error(source: Source, *, within_s: float = 20.0) -> tuple[list[Frame], SourceError]:
    """All the pictures up to the error that ends them, and that error; fails when they go on for longer."""
    frames: list[Frame] = []
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            frames.append(source.read())
        except SourceError as error:
            return frames, error
    raise AssertionError(f"still reading after {within_s} s and {len(frames)} pictures")
