"""The function types that the package's parts share."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgepose.person import Person

Predict = Callable[[NDArray[np.uint8]], list[Person]]
"""Finds the people in a picture, uint8 (H, W, 3) RGB."""

Progress = Callable[[int, int], None]
"""Takes the number of pictures done and the total, after each picture."""

TaskProgress = Callable[[str, int, int], None]
"""Takes the name of a task, the amount of it that is done, and the total."""
