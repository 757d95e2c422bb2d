"""Figures of the files of a model, and its time in float and INT8."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

from edgepose.config import schema
from edgepose.engine.backend import open_backend, open_refiner_backend
from edgepose.errors import ConfigError
from edgepose.model.file import read_model
from edgepose_export.callbacks import Progress, TaskProgress
from edgepose_export.evaluation.boxes import evaluate_boxes
from edgepose_export.evaluation.coco import Evaluation, evaluate
from edgepose_export.evaluation.true_boxes import evaluate_true_boxes
from edgepose_export.quantization.calibration import CalibrationSet

MOST_LOSS = 0.01
"""Average precision that INT8 may lose to be the default on CPUs."""

_FASTER = 0.95
"""Share of float's time from which INT8 is faster in spite of what measurements scatter."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A pose network and a refiner that work together; each may be missing.

    Attributes:
        companion: the other network's file: of a pose network its refiner, of a refiner its pose network.
    """

    companion: Path | None

    def evaluate(self, model: Path, data: Path, limit: int, progress: Progress) -> Evaluation:
        """Evaluate a file together with its companion.

        Raises:
            ConfigError: the file is a refiner and has no pose network.
        """
        if read_model(model).info.task == "pose":
            return evaluate(model, data, refiner=self.companion, limit=limit, progress=progress)
        if self.companion is None:
            raise ConfigError(f"{model} is a refiner and finds nobody by itself; expected a pose network as --companion")
        return evaluate(self.companion, data, refiner=model, limit=limit, progress=progress)


def figures_of(model: Path, pair: Pair, data: Path, limit: int, progress: TaskProgress) -> dict[str, Any]:
    """Measure a file: by itself, with its companion, and its boxes.

    Args:
        model: ONNX file.
        pair: its companion.
        data: labeled pictures.
        limit: number of pictures, from the first; 0 is all.
        progress: called after each picture.

    Returns:
        `pair_AP`, `box_AP` of a pose network, `OKS` of a refiner in labeled boxes, and `accuracy`, the figures for the file.
    """

    def report(done: int, total: int) -> None:
        progress(f"{model.name}: pictures", done, total)

    refines = read_model(model).info.task == "refine"
    together = pair.evaluate(model, data, limit, report)
    if refines:
        assert pair.companion is not None
        alone = evaluate_true_boxes(model, data, limit=limit, progress=report)
        accuracy = {"data": data.name, **together.to_json(), "model": pair.companion.name}
        return {"pair_AP": together.ap, "OKS": alone.oks, "accuracy": accuracy}
    own = together if pair.companion is None else evaluate(model, data, limit=limit, progress=report)
    boxes = evaluate_boxes(model, data, limit=limit, progress=report)
    return {"pair_AP": together.ap, "box_AP": boxes.ap, "AP": own.ap, "accuracy": {"data": data.name, **own.to_json()}}


def times_ms(models: list[Path], pictures: CalibrationSet, rounds: int, progress: Progress) -> list[float]:
    """Return the median time of each file in milliseconds; as of `call_times_ms`."""
    return [median(times) for times in call_times_ms(models, pictures, rounds, progress)]


def call_times_ms(models: list[Path], pictures: CalibrationSet, rounds: int, progress: Progress) -> list[list[float]]:
    """Return the time of each call of each file in milliseconds, for a picture of its size or two crops, in turn.

    It is the processor's time of the one thread, so other programs on the machine hardly change it.
    """
    settings = schema.ModelConfig(backend="cpu", threads=1)
    with ExitStack() as stack:
        runs: list[Callable[[], object]] = []
        for model in models:
            file = read_model(model)
            backend = (open_refiner_backend if file.info.task == "refine" else open_backend)(file, settings)
            stack.enter_context(closing(backend))
            inputs = list(islice(pictures.images(file.info), 2))
            image = np.concatenate(inputs) if file.info.task == "refine" else inputs[0]
            runs.append(partial(backend.run, image))
        spent: list[list[float]] = [[] for _ in runs]
        for number in range(rounds + 1):
            for times, run in zip(spent, runs, strict=True):
                began_ns = time.thread_time_ns()
                run()
                if number:  # the first call plans memory
                    times.append((time.thread_time_ns() - began_ns) / 1e6)
            progress(number, rounds)
    return spent


def better_on_cpus(plain: dict[str, Any], quantized: dict[str, Any]) -> str:
    """Return the precision that is better on CPUs: INT8 where it is faster and loses little."""
    faster = quantized["time_ms"] < _FASTER * plain["time_ms"]
    return "int8" if faster and quantized["pair_AP"] >= plain["pair_AP"] - MOST_LOSS else "float32"


def comparison(name: str, rows: dict[str, dict[str, Any]]) -> Table:
    """Return the figures of a model's files as a table for people."""
    table = Table("file", title=name)
    columns = ("AP", "pair_AP", "box_AP", "OKS", "time_ms", "time_ratio")
    used = [column for column in columns if any(column in row for row in rows.values())]
    for column in used:
        table.add_column(column, justify="right")
    for file, row in rows.items():
        table.add_row(file, *(f"{row[column]:.3f}" if column in row else "" for column in used))
    return table
