"""A model file as a function from picture to people, through the runtime's own letterbox, engine, decoder and suppression."""

import time
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.engine.backend import open_backend
from edgepose.frame import Frame
from edgepose.model.file import read_model
from edgepose.person import Person
from edgepose.pipeline.stages import PreparedFrame
from edgepose.pipeline.tiles import TileVisitor
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose.telemetry.metrics import Metrics
from edgepose_export.evaluation.refiner import PictureRefiner

SCORE_THRESHOLD = 0.02
"""Lowest score that is evaluated: average precision needs the weak detections too."""

EVERYBODY_SCORE, EVERYBODY_PEOPLE = 0.05, 30
"""Lowest score and most people of a picture where everybody is refined: weaker finds cost time and bring almost nothing."""

STAGES = ("letterbox", "network", "decode", "refine")
"""What happens to a picture, in order."""


class ModelPredictor:
    """A model file as a function from picture to people: a context manager, which closes `refiner` too.

    Args:
        model: ONNX file.
        input_size: long side of the network's input, px; 0 is the one in `settings`, or else the model's own.
        settings: where to run; its `path` is ignored.
        pose: suppression and most people of a picture; its score threshold is replaced.
        refiner: refines the people found.
        score: lowest score of a find.
        tile_scale: `tiles.scale` with which all tiles of a picture are visited, as by `edgepose infer`; 0 visits none.

    Attributes:
        precision: number format of the network.
        refiner: as given.
        spent_ns: time that each stage took for the last picture: `letterbox`, `network`, `decode`, and `refine` with a refiner.

    Raises:
        ModelError: the file is no pose network, or does not take `input_size`.
        EngineError: the backend is unavailable.
    """

    def __init__(
        self,
        model: Path,
        *,
        input_size: int = 0,
        settings: schema.ModelConfig | None = None,
        pose: schema.PoseConfig | None = None,
        refiner: PictureRefiner | None = None,
        score: float = SCORE_THRESHOLD,
        tile_scale: float = 0.0,
    ) -> None:
        chosen = settings or schema.ModelConfig()
        self._file = read_model(model)
        self._input_size = input_size or chosen.input_size
        self._pose = pose or schema.PoseConfig()
        self._score = score
        self.refiner = refiner
        self._tiles: TileVisitor | None = None
        if tile_scale:
            limits = msgspec.structs.replace(self._pose, score_threshold=score)
            config = schema.Config(pose=limits, tiles=schema.TilesConfig(enabled=True, scale=tile_scale))
            self._tiles = TileVisitor(config, self._file.info, Metrics())
        self._backend = open_backend(self._file, chosen)
        self.precision: str = self._file.info.precision
        self.spent_ns: dict[str, int] = {}

    def __call__(self, image: NDArray[np.uint8]) -> list[Person]:
        """Find the people in a picture, uint8 (H, W, 3) RGB."""
        laps = [time.perf_counter_ns()]
        letterbox = Letterbox.for_model(self._file.info, image.shape[0], image.shape[1], self._input_size)
        images = letterbox.apply(image)[None]
        laps.append(time.perf_counter_ns())
        candidates = self._backend.run(images)
        if self._tiles is not None:
            prepared = PreparedFrame(Frame(image, 0, "host", 0, "picture"), letterbox, images)
            candidates, _ = self._tiles.candidates(prepared, candidates, self._backend, [], None)
        laps.append(time.perf_counter_ns())
        people = decode(candidates, 0, letterbox, self._pose, score_threshold=self._score)
        laps.append(time.perf_counter_ns())
        if self.refiner is not None:
            people = self.refiner(image, people)
            laps.append(time.perf_counter_ns())
        self.spent_ns = {stage: end - start for stage, start, end in zip(STAGES, laps, laps[1:], strict=False)}
        return people

    def time_network(self, images: NDArray[np.uint8]) -> int:
        """Return the nanoseconds that the pose network takes for letterboxed pictures, uint8 (N, H, W, 3)."""
        began_ns = time.perf_counter_ns()
        self._backend.run(images)
        return time.perf_counter_ns() - began_ns

    def __enter__(self) -> "ModelPredictor":
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.close()
        if self.refiner is not None:
            self.refiner.close()


def open_predictor(
    model: Path,
    *,
    input_size: int = 0,
    settings: schema.ModelConfig | None = None,
    pose: schema.PoseConfig | None = None,
    refiner: Path | None = None,
    refine_people: int = 0,
    score: float | None = None,
    people: int | None = None,
    tile_scale: float = 0.0,
) -> ModelPredictor:
    """Open a model file and perhaps a refiner; arguments and errors as of `edgepose_export.evaluation.coco.evaluate`."""
    limits = pose or schema.PoseConfig()
    opened = None if refiner is None else PictureRefiner(refiner, refine_people, settings)
    if people is None and opened is not None:
        people = EVERYBODY_PEOPLE
    if people is not None:
        limits = msgspec.structs.replace(limits, maximum_people=people)
    if score is None:
        score = SCORE_THRESHOLD if opened is None else EVERYBODY_SCORE
    return ModelPredictor(model, input_size=input_size, settings=settings, pose=limits, refiner=opened, score=score, tile_scale=tile_scale)
