"""The time of each stage of a picture on this machine, measured in turn for all columns, on one thread and on two."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.pose.letterbox import Letterbox
from edgepose_export.callbacks import Progress
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import WORKING_SCORE
from edgepose_export.evaluation.predictor import STAGES, ModelPredictor
from edgepose_export.report.columns import Column

BATCHES = (1, 2, 4, 8)
"""Pictures in one call of the pose network."""

_DECODED = 64  # pictures that stay in memory
_WARM_UP = 3  # the first calls plan memory
_FEWEST_CALLS = 5


def thread_counts() -> tuple[int, ...]:
    """Return the numbers of threads to measure: one, and two where the machine has them."""
    return (1, 2) if (os.cpu_count() or 1) > 1 else (1,)


def measure_latency(
    columns: Sequence[Column], data: CocoPose, pictures: int, threads: Sequence[int], progress: Progress
) -> list[dict[str, Any]]:
    """Measure how long the runtime's stages take, with the settings of the daemon: finds above its threshold, all of them refined.

    Picture by picture, each column with each number of threads has its turn, so that a machine that slows down slows all of them.

    Args:
        columns: what to measure.
        data: pictures, repeated where there are fewer than `pictures`.
        pictures: number of pictures.
        threads: numbers of threads.
        progress: called after each picture.

    Returns:
        For each column: `threads`, by the number, with `stages` (`all` is their sum), `batches` of the pose network (milliseconds a
        picture), and `refined`, people a picture.
    """
    images = [data.image(index) for index in range(min(_DECODED, len(data)))]
    with ExitStack() as stack:

        def opened(column: Column, count: int) -> ModelPredictor:
            settings = schema.ModelConfig(backend="cpu", threads=count)
            people = schema.PoseConfig().maximum_people
            return stack.enter_context(column.open(settings=settings, score=WORKING_SCORE, people=people))

        predictors = [[opened(column, count) for count in threads] for column in columns]
        spent: list[list[list[dict[str, int]]]] = [[[] for _ in threads] for _ in columns]
        refined = [0] * len(columns)
        for number in range(-_WARM_UP, pictures):
            image = images[number % len(images)]
            for index, row in enumerate(predictors):
                for predictor, times in zip(row, spent[index], strict=True):
                    before = predictor.refiner.refined if predictor.refiner is not None else 0
                    predictor(image)
                    if number >= 0:
                        times.append(predictor.spent_ns)
                        refined[index] += predictor.refiner.refined - before if predictor.refiner is not None and predictor is row[0] else 0
            if number >= 0:
                progress(number + 1, pictures)
        batches = _time_batches(predictors, columns, images, max(_FEWEST_CALLS, pictures // 20))
        return [
            {
                "refined": round(count / pictures, 2),
                "threads": {
                    str(number): {"stages": _stages(times), "batches": by_size}
                    for number, times, by_size in zip(threads, of_column, of_batches, strict=True)
                },
            }
            for of_column, of_batches, count in zip(spent, batches, refined, strict=True)
        ]


def _stages(times: Sequence[dict[str, int]]) -> dict[str, dict[str, float]]:
    values = {stage: np.array([entry[stage] for entry in times]) / 1e6 for stage in STAGES if stage in times[0]}
    values["all"] = np.array([sum(entry.values()) for entry in times]) / 1e6
    return {stage: quantiles(milliseconds) for stage, milliseconds in values.items()}


def quantiles(milliseconds: NDArray[np.float64]) -> dict[str, float]:
    """Return median, 95th and 99th percentile and mean."""
    p50, p95, p99 = np.percentile(milliseconds, (50, 95, 99))
    return {
        key: round(float(value), 4) for key, value in zip(("p50", "p95", "p99", "mean"), (p50, p95, p99, milliseconds.mean()), strict=True)
    }


def _time_batches(
    predictors: Sequence[Sequence[ModelPredictor]], columns: Sequence[Column], images: Sequence[NDArray[np.uint8]], calls: int
) -> list[list[dict[str, dict[str, float]]]]:
    """Return the time a picture of each pose network by the number of pictures in a call, all in the shape of the first, in turn."""
    found: list[list[dict[str, dict[str, float]]]] = [[{} for _ in row] for row in predictors]
    for size in BATCHES:
        chosen = [images[index % len(images)] for index in range(size)]
        able = [index for index, column in enumerate(columns) if column.info.batch in (None, size)]
        inputs = {index: _batch(columns[index], chosen) for index in able}
        spent: dict[tuple[int, int], list[float]] = {}
        for _ in range(calls + 1):
            for index in able:
                for place, predictor in enumerate(predictors[index]):
                    spent.setdefault((index, place), []).append(predictor.time_network(inputs[index]) / 1e6 / size)
        for (index, place), times in spent.items():
            found[index][place][str(size)] = quantiles(np.array(times[1:]))
    return found


def _batch(column: Column, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return pictures as one input of the pose network, uint8 (N, H, W, 3)."""
    height, width = images[0].shape[:2]
    first = Letterbox.for_model(column.info, height, width, column.input_size)
    fitted = [Letterbox.fit(image.shape[0], image.shape[1], first.height, first.width, fill=first.fill) for image in images]
    return np.stack([letterbox.apply(image) for letterbox, image in zip(fitted, images, strict=True)])
