"""The stages before and after the engine, with what each camera needs them to remember."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgepose.capture.clock import Instant
from edgepose.config.schema import Config
from edgepose.errors import RecordingError
from edgepose.event import Event
from edgepose.events.detector import EventDetector
from edgepose.frame import Frame
from edgepose.model.file import ModelInfo
from edgepose.person import Candidates, Person
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.plausibility import Plausibility
from edgepose.pose.refine_schedule import RefineSchedule
from edgepose.pose.smooth import Smoother
from edgepose.pose.track import Tracker
from edgepose.recorder.state_snapshot import Scene, recall, state_bytes
from edgepose.telemetry.metrics import Metrics


class PersonRefiner(Protocol):
    """What looks at people again: `edgepose.pipeline.refiner.Refiner`, or a recording of what it said."""

    def people(self, frame: Frame, people: Sequence[Person], turns: RefineSchedule) -> list[Person]:
        """The people of a frame, in the same order, after a second look at those whose turn it is."""
        ...


Timer = Callable[[str, float], None]
"""Takes the name of a stage and how long it took, in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFrame:
    """A frame as the engine takes it.

    Attributes:
        frame: the picture.
        letterbox: how it was laid into the input.
        images: uint8 (1, H, W, 3), the input.
        made_for: model and long side that it was laid out for.
        begun: when that was begun, on both clocks.
    """

    frame: Frame
    letterbox: Letterbox
    images: NDArray[np.uint8]
    made_for: tuple[ModelInfo, int] | None = None
    begun: Instant = field(default_factory=Instant.now)

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch (UTC), on the clock that the frame's time was taken from: a step since then is not in it."""
        return self.begun.wall_ns + time.monotonic_ns() - self.begun.monotonic_ns


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """What came of a frame.

    Attributes:
        frame: the picture.
        people: those in it.
        events: what they completed in it.
        at: nanoseconds since the Unix epoch (UTC) at which that was worked out; the age of poses is counted up to here.
        live: whether the frame came from a live source; nothing may wait for it then.
        stale: whether its people are old news: only what was completed in it is still told.
    """

    frame: Frame
    people: list[Person]
    events: list[Event]
    at: int
    live: bool
    stale: bool = False


class Preprocessor:
    """Lays the frames of one camera into the engine's input."""

    def __init__(self, info: ModelInfo, input_size: int, took: Timer) -> None:
        self._info = info
        self._input_size = input_size
        self._took = took
        self._letterbox: Letterbox | None = None

    def prepare(self, frame: Frame) -> PreparedFrame:
        """The engine's input of a frame; the mapping is computed anew when the size of the frames changes.

        ValueError where the picture is not what a picture should be.
        """
        begun, start = Instant.now(), perf_counter()
        letterbox = self._letterbox
        if letterbox is None or (letterbox.source_height, letterbox.source_width) != (frame.height, frame.width):
            letterbox = self._letterbox = Letterbox.for_model(self._info, frame.height, frame.width, self._input_size)
        # Fresh memory each time: the input before may still wait or be computed on, and the allocator hands back what was freed
        # (measured: 4 us a frame more than one buffer used again and again).
        images = np.empty((1, letterbox.height, letterbox.width, 3), np.uint8)
        letterbox.apply(frame.image, images[0])
        self._took("letterbox", perf_counter() - start)
        return PreparedFrame(frame, letterbox, images, (self._info, self._input_size), begun)

    def suits(self, prepared: PreparedFrame) -> bool:
        """Whether an input was laid out for this model."""
        return prepared.made_for is not None and prepared.made_for[0] is self._info and prepared.made_for[1] == self._input_size


class Postprocessor:
    """From candidates to the people of one camera, and to what they do: decode, track, look again, smooth, check, tell events.

    Attributes:
        events: what was completed in the frame that was looked at last.
        looked: its people as they came from the second look, None where there was none.
    """

    def __init__(self, config: Config, metrics: Metrics, refiner: PersonRefiner | None = None) -> None:
        """
        Args:
            refiner: shared by all cameras; None where nobody is looked at again.
        """
        self._metrics = metrics
        self._scene: Scene | None = None
        self._tracker: Tracker | None = None
        self._smoother: Smoother | None = None
        self._plausibility: Plausibility | None = None
        self._turns = RefineSchedule(config.refine)
        self._detector: EventDetector | None = None  # made with the first frame, which says whose it is
        self.events: list[Event] = []
        self.refined: list[Person] | None = None
        self.configure(config, refiner)

    def configure(self, config: Config, refiner: PersonRefiner | None) -> None:
        """Takes other settings, for the next frame on; people stay known, and keep their numbers."""
        pose, track = config.pose, config.track
        self._config = config
        self._pose = pose
        self._refiner = refiner
        # A known person is followed below the threshold for new ones, so the tracker must see the weak ones too.
        self._threshold = track.low_score_threshold if track.enabled else pose.score_threshold
        if not track.enabled:
            self._tracker = None
        elif self._tracker is None:
            self._tracker = Tracker(track, pose.keypoint_threshold, pose.score_threshold)
        else:
            self._tracker.configure(track, pose.keypoint_threshold, pose.score_threshold)
        if not (config.smooth.enabled and track.enabled):
            self._smoother = None
        elif self._smoother is None:
            self._smoother = Smoother(config.smooth)
        else:
            self._smoother.configure(config.smooth)
        if not config.plausibility.enabled:
            self._plausibility = None
        elif self._plausibility is None:
            self._plausibility = Plausibility(config.plausibility)
        else:
            self._plausibility.configure(config.plausibility)
        self._turns.configure(config.refine)
        if not (config.events.enabled and track.enabled):
            self._detector = None
        elif self._detector is not None:
            self._detector.configure(config.events, self._zones(self._detector.camera), pose.keypoint_threshold)

    def people(self, prepared: PreparedFrame, candidates: Candidates) -> list[Person]:
        """The people in a frame; one of a new epoch, or of another size, starts without memory: nobody is where they were before."""
        frame = prepared.frame
        scene = (frame.epoch, frame.width, frame.height)
        if scene != self._scene:
            self.reset()
            self._scene = scene
        start = perf_counter()
        people = decode(candidates, 0, prepared.letterbox, self._pose, score_threshold=self._threshold)
        decoded = perf_counter()
        self._metrics.took("decode", decoded - start)
        if self._tracker is not None:
            people = self._tracker.update(people, frame.captured_at)
        refining_s, self.refined = 0.0, None
        if self._refiner is not None:
            tracked = perf_counter()
            people = self._refine(self._refiner, frame, people)
            refining_s = perf_counter() - tracked
            self._metrics.took("refine", refining_s)
        if self._smoother is not None:
            people = self._smoother.update(people, frame.captured_at)
        if self._plausibility is not None:
            people = self._plausibility.update(people, frame.captured_at)
        checked = perf_counter()
        self._metrics.took("track", checked - decoded - refining_s)
        self.events = []
        if self._config.events.enabled and self._tracker is not None:  # events are about people with numbers
            self.events = self._detecting(frame.camera).update(people, frame)
            self._metrics.took("events", perf_counter() - checked)
        return people

    def reset(self) -> None:
        """Forgets everybody: at a new epoch or size of the pictures, or after a failure that may have left the memory half written."""
        self._turns.reset()
        for stage in (self._tracker, self._smoother, self._plausibility, self._detector):
            if stage is not None:
                stage.reset()

    def memory(self) -> bytes:
        """All that is remembered of people, for a stage of the same settings to go on with."""
        return state_bytes(self._parts(), self._scene)

    def restore(self, memory: bytes, camera: str) -> None:
        """Goes on where another stage was; RecordingError where that cannot be read."""
        self._scene, state = recall(memory)
        if "detector" in state:
            self._detecting(camera)
        parts = self._parts()
        for name, values in state.items():
            part = parts.get(name)
            if part is None:
                raise RecordingError(f"what was remembered is of a stage {name!r} that is off; expected a recording of these settings")
            vars(part).update(values)

    def _parts(self) -> dict[str, object | None]:
        return {"tracker": self._tracker, "smoother": self._smoother, "plausibility": self._plausibility, "detector": self._detector}

    def _detecting(self, camera: str) -> EventDetector:
        if self._detector is None:
            self._detector = EventDetector(self._config.events, self._zones(camera), camera, self._pose.keypoint_threshold)
        return self._detector

    def _zones(self, camera: str) -> dict[str, list[tuple[float, float]]]:
        return self._config.cameras[camera].zones if camera in self._config.cameras else {}

    def _refine(self, refiner: PersonRefiner, frame: Frame, people: list[Person]) -> list[Person]:
        """The people after a second look, by falling score; the new scores must pass the thresholds that the first ones did."""
        refined = self.refined = refiner.people(frame, people, self._turns)
        believed = [
            person for person in refined if person.score >= (self._pose.score_threshold if person.track is None else self._threshold)
        ]
        self._metrics.dismissed(len(refined) - len(believed))
        return sorted(believed, key=lambda person: -person.score)
