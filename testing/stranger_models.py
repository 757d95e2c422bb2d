"""ONNX files as strangers export them: pose networks in Ultralytics' layout with known people, in every form and with every fault."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from testing.onnx_files import ULTRALYTICS_METADATA

SIDE = 640


def boxes_of(count: int, side: int = SIDE) -> NDArray[np.float32]:
    """Return the boxes (count, 4), x1 y1 x2 y2, of people who stand in rows side by side without touching."""
    columns = int(np.ceil(np.sqrt(count)))
    cell = side / columns
    x, y = np.arange(count) % columns * cell, np.arange(count) // columns * cell
    return np.stack((x + 0.15 * cell, y + 0.1 * cell, x + 0.85 * cell, y + 0.9 * cell), axis=1).astype(np.float32)


def keypoints_of(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return keypoints (count, 17, 3) inside of boxes."""
    places = np.random.default_rng(7).uniform(0.1, 0.9, (17, 2))
    xy = boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])
    return np.concatenate((xy, np.full((*xy.shape[:2], 1), 0.9)), axis=2).astype(np.float32)


def anchors_of(
    boxes: NDArray[np.float32], *, each: int = 1, classes: int = 1, person: int = 0, spread: float = 0.02
) -> NDArray[np.float32]:
    """Return rows (anchors, 4 + classes + 51): `each` anchors per person, the first exact, the others a little beside it and weaker.

    The first people are so certain that all their anchors outrank the best of the others, as the near people of a crowd are.
    """
    draw = np.random.default_rng(3)
    rows = []
    for index, (box, keypoints) in enumerate(zip(boxes, keypoints_of(boxes), strict=True)):
        best = 0.9 - 0.4 * index / len(boxes)
        for number in range(each):
            size = box[2:] - box[:2]
            shift = draw.uniform(-spread, spread, 2) * size * bool(number)
            center = (box[:2] + box[2:]) / 2 + shift
            moved = keypoints + np.array([*shift, 0], np.float32)
            scores = np.zeros(classes)
            scores[person] = best - 0.001 * number
            rows.append(np.concatenate((center, size, scores, moved.ravel())))
    return np.array(rows, np.float32)


def detections_of(boxes: NDArray[np.float32], *, room: int = 300, person: int = 0) -> NDArray[np.float32]:
    """Return rows (room, 57) of an end-to-end network: box, score, class, keypoints; the rest is zero."""
    rows = np.zeros((room, 57), np.float32)
    count = len(boxes)
    rows[:count, :4], rows[:count, 4], rows[:count, 5] = boxes, np.linspace(0.9, 0.5, count), person
    rows[:count, 6:] = keypoints_of(boxes).reshape(count, 51)
    return rows


def write_yolo(
    path: Path,
    values: NDArray[np.float32],
    *,
    metadata: Mapping[str, str | None] = {},
    input_shape: Sequence[int | str] = (1, 3, SIDE, SIDE),
    input_type: int = TensorProto.FLOAT,
    output_type: int = TensorProto.FLOAT,
    output_shape: Sequence[int | str | None] | None = None,
    stride: int = 32,
    opset: int = 17,
    ir_version: int = 9,
    quantized: bool = False,
    more_outputs: Sequence[str] = (),
    change: Callable[[onnx.ModelProto], None] = lambda model: None,
) -> Path:
    """Write a network whose output for each image is `values`, (channels, anchors) or (rows, channels).

    Args:
        metadata: changes to that of a real export; None removes a key.
        output_shape: that the file names; by default the true one.
        stride: the network fails on sides that are no multiples of it, as one with features at this stride does.
        quantized: whether a QuantizeLinear and a DequantizeLinear are in the graph.
        more_outputs: names of outputs before the right one.
        change: applied to the model at the end.
    """
    batch = input_shape[0]
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        # Two paths that meet only where the sides are multiples of the stride.
        helper.make_node("MaxPool", ["float"], ["fine"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("MaxPool", ["float"], ["coarse"], kernel_shape=[stride, stride], strides=[stride, stride]),
        helper.make_node("Resize", ["coarse", "", "scales"], ["enlarged"], mode="nearest"),
        helper.make_node("Add", ["fine", "enlarged"], ["both"]),
        helper.make_node("ReduceMean", ["both"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "column"], ["nothing_3"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 1, stride / 8, stride / 8], np.float32), "scales"),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "column"),
        numpy_helper.from_array(values[None], "values"),
    ]
    last = "nothing_3"
    if quantized:
        constants += [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.int8(0), "zero_point")]
        nodes.append(helper.make_node("QuantizeLinear", [last, "scale", "zero_point"], ["quantized"]))
        nodes.append(helper.make_node("DequantizeLinear", ["quantized", "scale", "zero_point"], ["dequantized"]))
        last = "dequantized"
    nodes.append(helper.make_node("Add", ["values", last], ["computed"]))
    nodes.append(helper.make_node("Cast", ["computed"], ["output0"], to=output_type))
    shape = (batch, *values.shape) if output_shape is None else output_shape
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, None, None]) for name in more_outputs]
    nodes += [helper.make_node("Identity", ["both"], [name]) for name in more_outputs]
    outputs.append(helper.make_tensor_value_info("output0", output_type, shape))
    inputs = [helper.make_tensor_value_info("images", input_type, input_shape)]
    graph = helper.make_graph(nodes, "stranger", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    known = {**ULTRALYTICS_METADATA, **metadata}
    helper.set_model_props(model, {key: value for key, value in known.items() if value is not None})
    change(model)
    onnx.save(model, str(path))
    return path


def write_yolo_network(path: Path, *, side: int = 96) -> Path:
    """Write a small network of convolutions in Ultralytics' layout, with the operations of their exports; its answers mean nothing.

    Convolutions with SiLU and a residual, a split, pooling, an enlargement and a concatenation make two scales. Their heads give boxes,
    scores and keypoints that are concatenated to (1, 56, anchors). Nodes are named as an export of PyTorch modules names them.
    """
    draw = np.random.default_rng(5)
    nodes: list[onnx.NodeProto] = []
    constants = [
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "double"),
        numpy_helper.from_array(np.array([8, 8], np.int64), "halves"),
        numpy_helper.from_array(np.array([1, 56, -1], np.int64), "flat"),
        numpy_helper.from_array(np.array([4, 1, 51], np.int64), "parts"),
        numpy_helper.from_array(np.float32(side), "side"),
        numpy_helper.from_array(np.array([side, side, 1] * 17, np.float32)[None, :, None], "sides"),
    ]

    def add(kind: str, name: str, inputs: list[str], outputs: int = 1, **attributes: object) -> str:
        made = [f"{name}_output_{number}" for number in range(outputs)]
        nodes.append(helper.make_node(kind, inputs, made, name=name, **attributes))
        return made[0]

    def conv(name: str, source: str, into: int, out: int, size: int = 3, stride: int = 1, silu: bool = True) -> str:
        weights = draw.normal(0, (2 / (into * size * size)) ** 0.5, (out, into, size, size)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"{name}.weight"))
        constants.append(numpy_helper.from_array(np.zeros(out, np.float32), f"{name}.bias"))
        tensor = [source, f"{name}.weight", f"{name}.bias"]
        y = add("Conv", f"/{name}/conv/Conv", tensor, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[size // 2] * 4)
        return add("Mul", f"/{name}/act/Mul", [y, add("Sigmoid", f"/{name}/act/Sigmoid", [y])]) if silu else y

    y = conv("model.0", "images", 3, 16, stride=2)
    y = conv("model.1", y, 16, 16, stride=2)
    add("Split", "/model.2/Split", [y, "halves"], 2, axis=1)
    first, second = nodes[-1].output
    inner = conv("model.2.m.0.cv2", conv("model.2.m.0.cv1", second, 8, 8), 8, 8)
    inner = add("Add", "/model.2/m.0/Add", [second, inner])
    y = conv("model.2.cv2", add("Concat", "/model.2/Concat", [first, second, inner], axis=1), 24, 32, 1)
    fine = conv("model.3", y, 32, 32, stride=2)
    y = conv("model.4", fine, 32, 32, stride=2)
    pooled = add("MaxPool", "/model.5/m/MaxPool", [y], kernel_shape=[5, 5], pads=[2] * 4, strides=[1, 1])
    coarse = conv("model.5.cv2", add("Concat", "/model.5/Concat", [y, pooled], axis=1), 64, 32, 1)
    up = add("Resize", "/model.6/Resize", [coarse, "", "double"], mode="nearest", coordinate_transformation_mode="asymmetric")
    fine = conv("model.8", add("Concat", "/model.7/Concat", [up, fine], axis=1), 64, 32)
    flat = []
    for number, scale in enumerate((fine, coarse)):
        out = conv(f"model.9.cv.{number}", conv(f"model.9.cv.{number}.0", scale, 32, 32), 32, 56, 1, silu=False)
        flat.append(add("Reshape", f"/model.9/Reshape_{number}", [out, "flat"]))
    add("Split", "/model.9/Split", [add("Concat", "/model.9/Concat", flat, axis=2), "parts"], 3, axis=1)
    boxes, scores, keypoints = nodes[-1].output
    boxes = add("Mul", "/model.9/Mul", [add("Sigmoid", "/model.9/Sigmoid", [boxes]), "side"])
    scores = add("Sigmoid", "/model.9/Sigmoid_1", [scores])
    keypoints = add("Mul", "/model.9/Mul_1", [add("Sigmoid", "/model.9/Sigmoid_2", [keypoints]), "sides"])
    nodes.append(helper.make_node("Concat", [boxes, scores, keypoints], ["output0"], name="/model.9/Concat_1", axis=1))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])]
    outputs = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 56, (side // 8) ** 2 + (side // 16) ** 2])]
    model = helper.make_model(
        helper.make_graph(nodes, "stranger", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    helper.set_model_props(model, {**ULTRALYTICS_METADATA, "imgsz": f"[{side}, {side}]"})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path
