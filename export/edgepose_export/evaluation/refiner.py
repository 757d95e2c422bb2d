"""A refiner file as a function from people to people, through the runtime's stages, for independent pictures."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.engine.backend import open_refiner_backend
from edgepose.model.file import read_model
from edgepose.person import Person
from edgepose.pose.refine.regions import refine_people
from edgepose.pose.refine.schedule import RefineSchedule, without_small_poses
from edgepose.pose.suppress import without_doubles


class PictureRefiner:
    """Refines the people of one picture with the runtime's own choice, crops and merging.

    Args:
        refiner: ONNX file.
        people: most people to refine in a picture; 0 refines everybody.
        settings: where to run.

    Attributes:
        name: name of the file.
        refined: number of people refined so far.

    Raises:
        ModelError: the file is not a refiner.
        EngineError: the backend is unavailable.
    """

    def __init__(self, refiner: Path, people: int = 0, settings: schema.ModelConfig | None = None) -> None:
        file = read_model(refiner)
        self._network = open_refiner_backend(file, settings or schema.ModelConfig())
        self._info = file.info
        self._people = people
        self.name: str = refiner.name
        self.refined = 0

    def __call__(self, image: NDArray[np.uint8], people: list[Person]) -> list[Person]:
        """Return the people of a picture, uint8 (H, W, 3) RGB, refined, in the same order and without doubles.

        Raises:
            EngineError: the network fails.
        """
        # A new schedule for each picture: no person waits for refinement since the previous one.
        config = schema.RefineConfig(people=self._people or len(people))
        people = without_small_poses(people, config)
        chosen = RefineSchedule(config).choose(people, cost_ms=0.0)
        results = refine_people(image, [people[index] for index in chosen], self._info, self._network.run)
        self.refined += len(chosen)
        result, agrees = list(people), [False] * len(people)
        for index, refined in zip(chosen, results, strict=True):
            result[index], agrees[index] = refined.person, refined.agrees
        return without_doubles(result, agrees)

    def close(self) -> None:
        """Free the inference backend."""
        self._network.close()
