"""A data set of dots, a network that knows where they lie, one that errs, and the options of a report about both."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgepose_export.report.columns import parse_columns
from edgepose_export.report.measure import ReportOptions
from testing.export.folders import PLACES, write_dotted
from testing.onnx_files import CANDIDATES, write_edgepose, write_refiner

_FLOAT = {"edgepose.precision": "float32", "edgepose.calibration": None}


def write_knowing(path: Path, error_px: float, **metadata: str | None) -> Path:
    """Write a model that finds the person of a dotted picture, its keypoints wrong by this distance in the picture."""
    write_edgepose(path, scores=np.linspace(400, 30, CANDIDATES, dtype=np.float32), metadata=metadata)
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name == "keypoints_constant":
            values[0, 0, :, :2] = (PLACES + np.array((error_px, 0))) * 256 / 300
        elif tensor.name == "boxes_constant":
            values[0, 0] = np.array((20, 30, 280, 180)) * 256 / 300
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(path))
    return path


def write_models(folder: Path) -> Path:
    """Write the data, both pose networks and a refiner into a folder; return it."""
    write_dotted(folder / "data", sizes=((300, 220), (300, 220), (301, 227)))
    write_knowing(folder / "good.onnx", 0, **_FLOAT)
    write_knowing(folder / "bad.onnx", 14)
    write_refiner(folder / "again.onnx")
    return folder


def options(folder: Path, work: Path, *models: str) -> ReportOptions:
    """Return the options of a report about models of the folder; `work` takes its steps."""
    return ReportOptions(
        columns=parse_columns([str(folder / model) for model in models or ("good.onnx", "bad.onnx")]),
        data=folder / "data", work=work, above=[folder / "data"], robustness=2, latency=4, embed=1,
    )  # fmt: skip
