"""The values that a frame passes through, and the preprocessor, which turns frames into input of the pose network."""

import time
from collections.abc import Callable, Mapping
from time import perf_counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.capture.clock import Instant
from edgepose.event import Event, Occupancy
from edgepose.frame import Frame
from edgepose.ground import Aircraft
from edgepose.model.file import ModelInfo
from edgepose.person import Person
from edgepose.pose.buffers import ArrayPool, Scratch
from edgepose.pose.letterbox import Letterbox
from edgepose.tile import TileLook

Timer = Callable[[str, float], None]
"""A receiver of the name of a stage and its duration in seconds."""


class PreparedFrame(msgspec.Struct, frozen=True, eq=False):
    """A frame with the network's input made from it.

    Attributes:
        frame: as the source delivered it.
        letterbox: mapping between the frame and the input.
        images: uint8 (1, H, W, 3), the input.
        made_for: model and long side for which the input was made.
        started: start of the preparation, on both clocks.
    """

    frame: Frame
    letterbox: Letterbox
    images: NDArray[np.uint8]
    made_for: tuple[ModelInfo, int] | None = None
    started: Instant = msgspec.field(default_factory=Instant.now)

    def now_ns(self) -> int:
        """Return nanoseconds since the Unix epoch (UTC) on the clock that stamped the frame: a later step of the clock does not count."""
        return self.started.wall_ns + time.monotonic_ns() - self.started.monotonic_ns

    @property
    def captured_monotonic_ns(self) -> int:
        """Capture time on the monotonic clock."""
        return self.started.monotonic_ns - (self.started.wall_ns - self.frame.captured_at_ns)


class FrameResult(msgspec.Struct, frozen=True, eq=False):
    """The people and events of a frame.

    Attributes:
        frame: as the source delivered it.
        people: those in it.
        events: those that it completed.
        at_ns: end of postprocessing, nanoseconds since the Unix epoch (UTC); the age of poses is counted up to here.
        live: whether the frame came from a live source, which must not be delayed.
        stale: whether the frame is too old for its poses to be published; its events still are.
        occupancy: people in the frame (None) and in each zone; None where no events are detected.
        looks: tiles to draw, with the ages of their last visits.
        aircraft: what carries the camera; None for a camera without a mount.
    """

    frame: Frame
    people: list[Person]
    events: list[Event]
    at_ns: int
    live: bool
    stale: bool = False
    occupancy: Mapping[str | None, Occupancy] | None = None
    looks: tuple[TileLook, ...] = ()
    aircraft: Aircraft | None = None


class Preprocessor:
    """The preprocessor of one camera: turns its frames into input of the pose network."""

    def __init__(self, info: ModelInfo, input_size: int, took: Timer, clock: Callable[[], float] = perf_counter) -> None:
        """
        Args:
            info: of the network.
            input_size: long side of the input in pixels; 0 for the model's own.
            took: receives the duration of each call, under the name `letterbox`.
            clock: seconds that the duration is measured with.
        """
        self._info = info
        self._input_size = input_size
        self._took = took
        self._clock = clock
        self._letterbox: Letterbox | None = None
        self._inputs = ArrayPool(())
        self._scratch = Scratch()

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Return a frame with its input; the mapping is computed again when the size of the frames changes.

        Raises:
            ValueError: the frame's image cannot be letterboxed.
        """
        started, start = Instant.now(), self._clock()
        letterbox = self._letterbox
        if letterbox is None or (letterbox.source_height, letterbox.source_width) != (frame.height, frame.width):
            letterbox = self._letterbox = Letterbox.for_model(self._info, frame.height, frame.width, self._input_size)
            self._inputs = ArrayPool((1, letterbox.height, letterbox.width, 3))
        images = self._inputs.take()  # the previous input may still be queued or in use
        letterbox.apply(frame.image, images[0], self._scratch)
        self._took("letterbox", self._clock() - start)
        return PreparedFrame(frame, letterbox, images, (self._info, self._input_size), started)

    def suits(self, prepared: PreparedFrame) -> bool:
        """Return whether an input was made for this network and size."""
        return prepared.made_for is not None and prepared.made_for[0] is self._info and prepared.made_for[1] == self._input_size
