"""Sources of a benchmark: the video at hand, a synthetic clip, and frames in memory that live cameras repeat."""

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from edgepose.capture.files.listing import is_pattern
from edgepose.capture.source import missing_file, open_source, path_of
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import NS_PER_S, Frame
from edgepose.pipeline.offline.run import naming_the_file
from edgepose.pixels import unguarded, video_frame
from edgepose.validation.inputs import OfflineInput

FETCHED_VIDEO = Path("build/vtest.avi")
"""The video that `make demo` fetches, in the current folder."""

PACKAGED_VIDEO = Path(__file__).parents[1] / "assets" / "demo.mp4"
"""The clip that is part of the package."""


def video_at_hand() -> str | None:
    """Return the video that `make demo` fetched, or the one in the package, or None."""
    for path in (FETCHED_VIDEO, PACKAGED_VIDEO):
        if path.is_file() and path.stat().st_size:
            return str(path)
    return None


@contextmanager
def bench_source(source: str | None) -> Iterator[str]:
    """Yield the source of a benchmark: the one that is named, or the video at hand, or a synthetic clip; SourceError without a file."""
    path = None if source is None else path_of(source)
    if path is not None and not path.exists() and not is_pattern(path):
        raise SourceError(missing_file(path), "not_found")
    chosen = source or video_at_hand()
    if chosen is not None:
        yield chosen
        return
    with synthetic_clip() as clip:
        yield clip


@contextmanager
def synthetic_clip(frames: int = 100, width: int = 768, height: int = 576) -> Iterator[str]:
    """Write a video of moving rectangles to a temporary folder and yield its path, for machines without a real one; it shows no people."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.mp4"
        noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        ground = np.kron(noise, np.ones((8, 8, 1), np.uint8))
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(frames):
                image = ground.copy()
                for figure in range(6):
                    left = (number * (figure + 2) + figure * width // 6) % (width - 40)
                    top = height // 6 + figure * height // 10
                    image[top : top + 120, left : left + 40] = 40 * figure
                container.mux(stream.encode(video_frame(unguarded(image))))
            container.mux(stream.encode(None))
        yield str(path)


def first_frames(camera: CameraConfig, count: int) -> list[Frame]:
    """Return up to `count` frames of the source of a camera; SourceError where there is none."""
    frames: list[Frame] = []
    with naming_the_file(OfflineInput("bench", camera.source)), closing(open_source("bench", camera)) as source:
        try:
            while len(frames) < count:
                frame = source.read()
                frames.append(replace(frame, image=frame.image.copy()))
        except EndOfStream:
            if not frames:
                raise
    return frames


class MemorySource:
    """A source that repeats frames in memory, forward and backward, so that people do not leap.

    Args:
        camera: name of the camera.
        frames: to repeat, at least one.
        rate: frames per second of a live camera, which stamps each frame when it is due; None delivers frames as fast as they are taken.
        phase: share of the interval between two frames by which those of this camera come later.
    """

    url = "memory"
    corrupt_frames = stale_frames = 0
    patience_s = 0.0

    def __init__(self, camera: str, frames: Sequence[Frame], rate: float | None = None, *, phase: float = 0.0) -> None:
        self.camera = camera
        self.live = rate is not None
        self.width, self.height = frames[0].width, frames[0].height
        self._frames = [*frames, *frames[-2:0:-1]]
        self._interval_ns = round(NS_PER_S / (rate or 25))
        later_ns = round(phase * self._interval_ns)
        self._wall_ns, self._began_ns = time.time_ns() + later_ns, time.monotonic_ns() + later_ns
        self._closed = threading.Event()
        self._sequence = 0
        self.superseded_frames = 0
        """Number of frames that were not read before the next one was due, as a camera overwrites them."""

    def read(self) -> Frame:
        """Return the next frame when it is due; SourceError once the source is closed."""
        if self.live:
            missed = max(0, (time.monotonic_ns() - self._began_ns) // self._interval_ns - self._sequence)
            self.superseded_frames += missed
            self._sequence += missed
        sequence = self._sequence
        self._sequence += 1
        due_ns = self._began_ns + sequence * self._interval_ns
        if self._closed.wait(max(0.0, (due_ns - time.monotonic_ns()) / NS_PER_S) if self.live else 0):
            raise SourceError(f"camera {self.camera} is closed", "closed")
        frame = self._frames[sequence % len(self._frames)]
        return replace(frame, camera=self.camera, sequence=sequence, captured_at_ns=self._wall_ns + sequence * self._interval_ns)

    def close(self) -> None:
        """Close the source; a waiting `read` ends."""
        self._closed.set()
