"""Clips through the runtime's own steps: letterbox, engine, decoder, tracker, refiner, smoother and event detector.

The labels may take the place of what the networks find: what is wrong then is wrong with the steps after the networks.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from msgspec.structs import replace

from edgepose.config.schema import CameraConfig, Config
from edgepose.engine.backend import open_backend
from edgepose.event import Event
from edgepose.frame import NS_PER_S
from edgepose.model.file import read_model
from edgepose.motion import Motion
from edgepose.person import Candidates, Person
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.pose.letterbox import Letterbox
from edgepose.telemetry.metrics import Metrics
from edgepose_export.callbacks import Progress
from edgepose_export.evaluation.tracks.clips import FrameTruth, LabeledClip

_TRUE_SCORE = 0.9  # of a labeled person and of each labeled keypoint


@dataclass(frozen=True, slots=True, eq=False)
class TrackedClip:
    """What the runtime makes of a clip.

    Attributes:
        people: those of each frame.
        unsmoothed: the same without smoothing; empty where that was not asked for.
        events: all events, in order.
        began_ns: capture time of the first frame.
        motions: of the camera before each frame, None where it was not measured.
        size: width and height of a frame in pixels.
    """

    people: list[list[Person]]
    unsmoothed: list[list[Person]]
    events: list[Event]
    began_ns: int
    motions: list[Motion | None] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)

    def at_s(self, event: Event) -> float:
        """Return when an event was reported, in seconds since the first frame."""
        return (event.at_ns - self.began_ns) / NS_PER_S


class ClipRunner:
    """The networks of a configuration, for one clip after another: a context manager.

    Args:
        model: file of the pose network.
        config: of the runtime; its model's path and its cameras are replaced.
        true_people: whether the labels take the place of what the networks find.

    Attributes:
        precision: number format of the pose network.
        refiner_name: file name of the refiner; empty where nobody is refined.

    Raises:
        ModelError: a file is not what it should be.
        EngineError: the backend is unavailable.
    """

    def __init__(self, model: Path, config: Config, *, true_people: bool = False) -> None:
        self._config = replace(config, model=replace(config.model, path=str(model)))
        self._true_people = true_people
        self._metrics = Metrics()
        self._model = read_model(model)
        self.precision: str = self._model.info.precision
        self._refiner = None if true_people else Refiner.configured(self._config, self._metrics)
        self.refiner_name = self._refiner.model.path.name if self._refiner is not None else ""
        with ExitStack() as opened:
            self._backend = open_backend(self._model, self._config.model)
            opened.callback(self._backend.close)
            if self._refiner is not None:
                self._refiner.open()
                opened.callback(self._refiner.close)
            self._opened = opened.pop_all()

    def __enter__(self) -> "ClipRunner":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def run(self, clip: LabeledClip, *, compare: bool = False, progress: Progress | None = None) -> TrackedClip:
        """Take a clip through all steps.

        Args:
            clip: with the zones and lines of its events.
            compare: whether to smooth nothing in a second run of the steps after the network, on the same candidates.
            progress: called after each frame.
        """
        camera = CameraConfig(source="clip", zones=dict(clip.zones), lines=dict(clip.lines))
        config = replace(self._config, cameras={"clip": camera})
        rough = replace(config, smooth=replace(config.smooth, enabled=False), events=replace(config.events, enabled=False))
        preprocessor = Preprocessor(self._model.info, config.model.input_size, self._metrics.took)
        steps = Postprocessor("clip", config, self._metrics, self._refiner)
        rough_steps = Postprocessor("clip", rough, self._metrics, self._refiner) if compare else None
        people: list[list[Person]] = []
        unsmoothed: list[list[Person]] = []
        events: list[Event] = []
        motions: list[Motion | None] = []
        began_ns, size = 0, (0, 0)
        for number, frame in enumerate(clip.frames()):
            began_ns, size = began_ns or frame.captured_at_ns, (frame.width, frame.height)
            prepared = preprocessor.prepare(frame)
            if self._true_people:
                candidates = _true_candidates(clip.truth[number], prepared.letterbox)
            else:
                candidates = self._backend.run(prepared.images)
            people.append(steps.people(prepared, candidates))
            events += steps.events
            motions.append(steps.motion)
            if rough_steps is not None:
                unsmoothed.append(rough_steps.people(prepared, candidates))
            if progress is not None:
                progress(number + 1, len(clip.truth))
        return TrackedClip(people, unsmoothed, events, began_ns, motions, size)


def _true_candidates(truth: FrameTruth, letterbox: Letterbox) -> Candidates:
    """Return the labeled people of a frame who count as candidates of a network."""
    counted = np.flatnonzero(~truth.ignored)
    keypoints = truth.keypoints[counted].copy()
    keypoints[..., :2] = letterbox.to_input(keypoints[..., :2])
    keypoints[..., 2] = np.where(keypoints[..., 2] > 0, _TRUE_SCORE, 0)
    boxes = letterbox.to_input(truth.boxes[counted].reshape(-1, 2, 2)).reshape(-1, 4)
    return Candidates(boxes[None], np.full((1, len(counted)), _TRUE_SCORE, np.float32), keypoints[None])
