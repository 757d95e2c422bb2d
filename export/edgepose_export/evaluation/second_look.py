"""The second look at the people of a picture, as the runtime takes it, for pictures that have nothing to do with one another."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.engine.backend import open_refiner
from edgepose.model.file import read_model
from edgepose.person import Person
from edgepose.pose.refine_schedule import Turns
from edgepose.pose.regions import look_again


class SecondLook:
    """A refiner file as a function from people to people, through the runtime's own choice, crops and merging.

    Args:
        refiner: ONNX file.
        people: most people a picture that are looked at again; 0 is everybody.
        settings: where to run.

    Attributes:
        name: of the file.
        looked_at: people looked at again so far.

    Raises:
        ModelError: the file is no refiner.
        EngineError: the backend is unavailable.
    """

    def __init__(self, refiner: Path, people: int = 0, settings: schema.Model | None = None) -> None:
        file = read_model(refiner)
        self._network = open_refiner(file, settings or schema.Model())
        self._info = file.info
        self._people = people
        self.name: str = refiner.name
        self.looked_at = 0

    def __call__(self, image: NDArray[np.uint8], people: list[Person]) -> list[Person]:
        """Return the people in a picture, uint8 (H, W, 3) RGB, in the same order, after a second look; EngineError where it fails."""
        turns = Turns(schema.Refine(people=self._people or len(people)))  # new ones: nobody waits since the picture before
        chosen = turns.choose(people, cost_ms=0.0)
        looks = look_again(image, [people[index] for index in chosen], self._info, self._network.run)
        self.looked_at += len(chosen)
        result = list(people)
        for index, look in zip(chosen, looks, strict=True):
            result[index] = look.person
        return result

    def close(self) -> None:
        """Free the device."""
        self._network.close()
