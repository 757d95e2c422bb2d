"""The signal-to-noise ratio that INT8 leaves in each layer of a network.

Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, for the
arithmetic; the ratio is the usual one, 10 log10 of the power of the float values over the power of the error.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgepose.model.file import ModelInfo, read_model
from edgepose_export.callbacks import Progress
from edgepose_export.quantization.calibration import FEWEST_PICTURES, CalibrationSet, open_session, with_outputs
from edgepose_export.quantization.graph import Graph, float_convolutions, place
from edgepose_export.report.columns import Column

PICTURES = 16
LARGEST_DB = 80.0
"""Ratios above this are equal but for rounding."""


def float_file(path: Path, columns: Iterable[Column]) -> Path | None:
    """Return the float file that an INT8 file was made from: among the columns, or beside it under the same name; None without one."""
    info = read_model(path).info
    beside = path.with_name(path.name.removesuffix(".onnx").removesuffix("-int8") + ".onnx")
    candidates = [file for column in columns for file in column.files] + [beside]
    for other in candidates:
        if other == path or not other.is_file():
            continue
        found = read_model(other).info
        if (found.task, found.name, found.layout, found.precision) == (info.task, info.name, info.layout, "float32"):
            return other
    return None


def layer_ratios(plain: Path, quantized: Path, data: Path, progress: Progress) -> list[dict[str, Any]]:
    """Compare the output of each convolution of an INT8 file with that of its float file, on pictures.

    Each channel is compared up to a factor, because equalization scales the channels of both sides of a layer.

    Args:
        plain: float file.
        quantized: INT8 file made from it.
        data: pictures; 16 of them are used.
        progress: called after each picture.

    Returns:
        For each convolution in the order of the graph: `layer`, whether it is `int8`, and `SQNR_dB`. Layers that only one of the files
        has are left out.
    """
    first, second = onnx.load(str(plain)), onnx.load(str(quantized))
    in_float = set(float_convolutions(second))
    before, after = _outputs(first), _outputs(second)
    names = [name for name in after if name in before]
    if not names:
        return []
    wanted = [[before[name] for name in names], [after[name] for name in names]]
    sessions = [open_session(with_outputs(model, tensors)) for model, tensors in zip((first, second), wanted, strict=True)]
    sums: list[NDArray[np.float64] | None] = [None] * len(names)  # (3, C): powers of both and their product
    info = read_model(plain).info
    for number, image in enumerate(islice(CalibrationSet([data], FEWEST_PICTURES).images(info), PICTURES), 1):
        fed = _input(image, info)
        a, b = (session.run(tensors, {session.get_inputs()[0].name: fed}) for session, tensors in zip(sessions, wanted, strict=True))
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            if x.shape != y.shape:
                continue
            u, v = (np.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(np.float64) for values in (x, y))
            powers = np.stack([(u * u).sum(1), (v * v).sum(1), (u * v).sum(1)])
            known = sums[index]
            sums[index] = powers if known is None else known + powers
        progress(number, PICTURES)
    nodes = {node.name: node for node in first.graph.node}
    return [
        {"layer": place(nodes[name]) or name, "int8": name not in in_float, "SQNR_dB": round(ratio_db(*powers), 2)}
        for name, powers in zip(names, sums, strict=True)
        if powers is not None
    ]


def ratio_db(own: NDArray[np.float64], other: NDArray[np.float64], product: NDArray[np.float64]) -> float:
    """Return the ratio in dB from the powers (C,) of the float channels, of the INT8 channels, and of their products.

    A channel's error is what no factor explains, in the float channel's own units, and at most the channel itself.
    """
    likeness = np.maximum(product, 0) ** 2 / np.maximum(own * other, 1e-300)  # squared cosine of the angle between both
    error = own * np.clip(1 / np.maximum(likeness, 0.5) - 1, 0, 1)
    total, noise = float(own.sum()), float(error.sum())
    if total <= 0:
        return LARGEST_DB
    return min(LARGEST_DB, 10 * float(np.log10(total / max(noise, total * 10 ** (-LARGEST_DB / 10)))))


def _outputs(model: onnx.ModelProto) -> dict[str, str]:
    """Return the tensor after each convolution, its activation and its Q/DQ, by the name of the convolution."""
    graph = Graph(model)
    found = {}
    for node in graph.nodes:
        if node.op_type == "Conv" and node.name:
            output = graph.result(node)
            found[node.name] = f"{output}_float" if f"{output}_float" in graph.producer else output
    return found


def _input(image: NDArray[np.uint8], info: ModelInfo) -> NDArray[Any]:
    """Return pictures, uint8 (N, H, W, 3), as the file takes them."""
    if info.layout == "edgepose":
        return image
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def pairs(columns: Sequence[Column]) -> dict[str, list[tuple[Path, Path]]]:
    """Return the float and INT8 files to compare, by the name of the column."""
    found: dict[str, list[tuple[Path, Path]]] = {}
    for column in columns:
        for path in column.files:
            if read_model(path).info.precision == "int8" and (plain := float_file(path, columns)) is not None:
                found.setdefault(column.name, []).append((plain, path))
    return found
