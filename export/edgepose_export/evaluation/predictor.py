"""A model file as a function from picture to people, through the runtime's own letterbox, engine, decoder and suppression."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.engine.backend import open_backend
from edgepose.model.file import read_model
from edgepose.person import Person
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose_export.evaluation.refiner import PictureRefiner

SCORE_THRESHOLD = 0.02
"""Lowest score that is evaluated: average precision needs the weak detections too."""


class ModelPredictor:
    """A model file as a function from picture to people: a context manager, which closes `refiner` too.

    Attributes:
        precision: number format of the network.

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
    ) -> None:
        chosen = settings or schema.ModelConfig()
        self._file = read_model(model)
        self._input_size = input_size or chosen.input_size
        self._pose = pose or schema.PoseConfig()
        self._refiner = refiner
        self._backend = open_backend(self._file, chosen)
        self.precision: str = self._file.info.precision

    def __call__(self, image: NDArray[np.uint8]) -> list[Person]:
        """Find the people in a picture, uint8 (H, W, 3) RGB, down to a score of 0.02."""
        letterbox = Letterbox.for_model(self._file.info, image.shape[0], image.shape[1], self._input_size)
        candidates = self._backend.run(letterbox.apply(image)[None])
        people = decode(candidates, 0, letterbox, self._pose, score_threshold=SCORE_THRESHOLD)
        return people if self._refiner is None else self._refiner(image, people)

    def __enter__(self) -> "ModelPredictor":
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.close()
        if self._refiner is not None:
            self._refiner.close()
