"""The models of a report: a column each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from edgepose.errors import ConfigError
from edgepose.model.file import ModelFile, ModelInfo, read_model
from edgepose.model.shipped import find_model
from edgepose_export.evaluation.predictor import ModelPredictor, open_predictor
from edgepose_export.onnx_file import file_hash
from edgepose_export.quantization.graph import float_convolutions
from edgepose_export.quantization.tensorrt_report import multiply_adds

JOINT = "+"
"""Stands between a pose network and its refiner on the command line."""


@dataclass(frozen=True)
class Column:
    """A pose network, perhaps with a refiner.

    Attributes:
        name: heading, different for each column.
        model: ONNX file of the pose network.
        refiner: ONNX file of the refiner; None where there is none.
        input_size: long side of the pose network's input, px; 0 is the model's own.
    """

    name: str
    model: Path
    refiner: Path | None = None
    input_size: int = 0

    @cached_property
    def file(self) -> ModelFile:
        """The pose network's file."""
        return read_model(self.model)

    @property
    def info(self) -> ModelInfo:
        """The description of the pose network."""
        return self.file.info

    @property
    def files(self) -> list[Path]:
        """The files: the pose network, then the refiner."""
        return [self.model] if self.refiner is None else [self.model, self.refiner]

    def open(self, **options: Any) -> ModelPredictor:
        """Open the networks; options as of `edgepose_export.evaluation.predictor.open_predictor`."""
        return open_predictor(self.model, refiner=self.refiner, input_size=self.input_size, **options)

    def alone(self) -> "Column":
        """Return the column without its refiner."""
        return Column(self.name, self.model, None, self.input_size)

    def inputs(self) -> dict[str, object]:
        """Return what the column's figures depend on, as JSON has it."""
        return {"files": [file_hash(path) for path in self.files], "input_size": self.input_size}

    def describe(self) -> dict[str, Any]:
        """Return name, files, sizes and costs of the column, as JSON has them."""
        files = []
        for path in self.files:
            model, info = onnx.load(str(path)), read_model(path).info
            costs = multiply_adds(model)
            in_float = set(float_convolutions(model)) if info.precision == "int8" else set(costs)
            total = sum(costs.values())
            files.append(
                {
                    "file": path.name,
                    "sha256": file_hash(path),
                    "task": info.task,
                    "precision": info.precision,
                    "bytes": path.stat().st_size,
                    "multiply_adds": total,
                    "int8_share": sum(cost for name, cost in costs.items() if name not in in_float) / total if total else 0.0,
                    "trained_on": info.trained_on,
                }
            )
        return {
            "name": self.name,
            "precision": self.info.precision,
            "refined": self.refiner is not None,
            "input_size": self.info.long_side(self.input_size),
            "files": files,
        }


def parse_columns(texts: Sequence[str], input_size: int = 0) -> list[Column]:
    """Return the columns that a command line names, `MODEL[+REFINER]` each: names or ONNX files.

    Raises:
        ModelError: there is no such model, or it is for another task.
        ConfigError: a model is named twice.
    """
    columns: list[Column] = []
    for text in texts:
        first, second = _parts(text)
        model = find_model(first)
        refiner = None if second is None else find_model(second)
        read_model(model).expect("pose")
        if refiner is not None:
            read_model(refiner).expect("refine")
        name = JOINT.join(path.stem for path in (model, refiner) if path is not None)
        if any(column.name == name for column in columns):
            name = text
        if any((column.model, column.refiner) == (model, refiner) for column in columns):
            raise ConfigError(f"the model {text} is named twice; expected each once")
        columns.append(Column(name, model, refiner, input_size))
    return columns


def _parts(text: str) -> tuple[str, str | None]:
    """Return the model and the refiner of a text; a file whose name has the joint in it is one model."""
    if Path(text).is_file():
        return text, None
    first, joint, second = text.partition(JOINT)
    return first, second if joint else None
