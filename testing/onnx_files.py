"""Tiny ONNX files with known outputs, for tests of model files and engines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgepose.person import FLIP_PAIRS, KEYPOINT_NAMES, OKS_SIGMAS, SKELETON

CANDIDATES = 6
ANCHORS = 40

EDGEPOSE_METADATA = {
    "edgepose.format_version": "2",
    "edgepose.task": "pose",
    "edgepose.name": "tiny",
    "edgepose.keypoint_names": json.dumps(KEYPOINT_NAMES),
    "edgepose.skeleton": json.dumps(SKELETON),
    "edgepose.flip_pairs": json.dumps(FLIP_PAIRS),
    "edgepose.oks_sigmas": json.dumps(OKS_SIGMAS),
    "edgepose.input_size": "256",
    "edgepose.candidates": str(CANDIDATES),
    "edgepose.precision": "int8",
    "edgepose.calibration": json.dumps({"hash": "ab12", "method": "minmax", "images": 100}),
    "edgepose.parent": "cd34",
    "edgepose.trained_on": "nothing",
    "edgepose.accuracy": json.dumps({"AP": 0.25}),
    "edgepose.license": "Apache-2.0",
}
REFINER_METADATA: dict[str, str | None] = {
    **EDGEPOSE_METADATA,
    "edgepose.task": "refine",
    "edgepose.name": "tiny refiner",
    "edgepose.input_size": "64",
    "edgepose.candidates": None,
    "edgepose.crop_margin": "1.25",
    "edgepose.score_weights": "[-1, 0.5, 2.0]",
}
ULTRALYTICS_METADATA = {
    "description": "Ultralytics YOLO11n-pose model trained on /some/coco-pose.yaml",
    "author": "Ultralytics",
    "version": "8.3.0",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    "stride": "32",
    "task": "pose",
    "batch": "1",
    "imgsz": "[640, 640]",
    "names": "{0: 'person'}",
    "kpt_shape": "[17, 3]",
}


def answers(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return boxes (K, 4), falling scores (K,), keypoints (K, 17, 3) that the edgepose file gives for a white image."""
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 150, (CANDIDATES, 2))
    boxes = np.concatenate((corner, corner + generator.uniform(30, 90, (CANDIDATES, 2))), axis=1)
    scores = np.sort(generator.uniform(0.3, 0.9, CANDIDATES))[::-1]
    keypoints = np.concatenate((generator.uniform(0, 150, (CANDIDATES, 17, 2)), generator.uniform(0, 1, (CANDIDATES, 17, 1))), axis=2)
    return boxes.astype(np.float32), scores.astype(np.float32), keypoints.astype(np.float32)


def anchors(seed: int = 0) -> NDArray[np.float32]:
    """Return the output of the Ultralytics file for a pure red image, (56, anchors)."""
    values = np.random.default_rng(seed).uniform(0, 1, (56, ANCHORS))
    values[0:2] *= [[96], [64]]
    values[2:4] *= 8  # small boxes, which do not overlap much
    return values.astype(np.float32)


def refined(seed: int = 0) -> NDArray[np.float32]:
    """Return keypoints (17, 3) in crop pixels that the refiner file gives for a white crop."""
    generator = np.random.default_rng(seed)
    return np.concatenate((generator.uniform(0, 64, (17, 2)), generator.uniform(0.5, 1, (17, 1))), axis=1).astype(np.float32)


def write_edgepose(
    path: Path,
    *,
    metadata: Mapping[str, str | None] = {},
    input_shape: Sequence[int | str] = ("N", "H", "W", 3),
    input_type: int = TensorProto.UINT8,
    input_name: str = "images",
    keypoints: int = 17,
    scores: NDArray[np.float32] | None = None,
) -> Path:
    """Write a file of our own layout; scores: those of `answers` times mean brightness (0 to 1), at most 1. None removes a metadata key."""
    boxes_value, scores_value, keypoints_value = answers()
    constants = [
        numpy_helper.from_array(boxes_value[None], "boxes_constant"),
        numpy_helper.from_array(scores_value[None] if scores is None else scores[None], "scores_constant"),
        numpy_helper.from_array(np.ascontiguousarray(keypoints_value[None, :, :keypoints]), "keypoints_constant"),
        numpy_helper.from_array(np.float32(255), "white"),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.float32(1), "one"),
        numpy_helper.from_array(np.array([1], np.int64), "axis_1"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes_12"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes_123"),
    ]
    nodes = [
        helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["gray"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["gray", "white"], ["brightness"]),  # (N,)
        helper.make_node("Unsqueeze", ["brightness", "axis_1"], ["column"]),  # (N, 1)
        helper.make_node("Mul", ["scores_constant", "column"], ["brightened"]),
        helper.make_node("Clip", ["brightened", "zero", "one"], ["scores"]),
        helper.make_node("Mul", ["brightness", "zero"], ["nothing"]),
        helper.make_node("Unsqueeze", ["nothing", "axes_12"], ["nothing_3"]),
        helper.make_node("Unsqueeze", ["nothing", "axes_123"], ["nothing_4"]),
        helper.make_node("Add", ["boxes_constant", "nothing_3"], ["boxes"]),
        helper.make_node("Add", ["keypoints_constant", "nothing_4"], ["keypoints"]),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", CANDIDATES, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CANDIDATES]),
        helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["N", CANDIDATES, keypoints, 3]),
    ]
    inputs = [helper.make_tensor_value_info(input_name, input_type, input_shape)]
    return _save(path, helper.make_graph(nodes, "tiny", inputs, outputs, constants), {**EDGEPOSE_METADATA, **metadata})


def write_ultralytics(
    path: Path, *, metadata: Mapping[str, str | None] = {}, input_shape: Sequence[int | str] = (1, 3, 64, 96), channels: int = 56
) -> Path:
    """Write a file in Ultralytics' layout; its output is `anchors` times the mean of the red plane (0 to 1)."""
    constants = [
        numpy_helper.from_array(anchors()[None, :channels], "constant"),
        numpy_helper.from_array(np.array(0, np.int64), "red_index"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes_12"),
    ]
    nodes = [
        helper.make_node("Gather", ["images", "red_index"], ["red"], axis=1),
        helper.make_node("ReduceMean", ["red"], ["redness"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["redness", "axes_12"], ["factor"]),
        helper.make_node("Mul", ["constant", "factor"], ["output0"]),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, input_shape)]
    outputs = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [input_shape[0], channels, ANCHORS])]
    return _save(path, helper.make_graph(nodes, "tiny", inputs, outputs, constants), {**ULTRALYTICS_METADATA, **metadata})


def write_refiner(
    path: Path,
    *,
    metadata: Mapping[str, str | None] = {},
    input_shape: Sequence[int | str] = ("M", 64, 64, 3),
    input_name: str = "crops",
    output_name: str = "keypoints",
    keypoints: NDArray[np.float32] | None = None,
) -> Path:
    """Write a refiner; its confidences are those of `refined`, or of `keypoints`, times the mean brightness of a crop (0 to 1)."""
    answer = refined() if keypoints is None else keypoints
    constants = [
        numpy_helper.from_array(answer[None], "constant"),
        numpy_helper.from_array(np.array([[[1, 1, 0]]], np.float32), "places"),
        numpy_helper.from_array(np.array([[[0, 0, 1 / 255]]], np.float32), "confidences"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes_12"),
    ]
    nodes = [
        helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["gray"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["gray", "axes_12"], ["level"]),  # (M, 1, 1)
        helper.make_node("Mul", ["level", "confidences"], ["seen"]),
        helper.make_node("Add", ["seen", "places"], ["factors"]),  # (M, 1, 3)
        helper.make_node("Mul", ["constant", "factors"], [output_name]),
    ]
    inputs = [helper.make_tensor_value_info(input_name, TensorProto.UINT8, input_shape)]
    outputs = [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [input_shape[0], *answer.shape])]
    return _save(path, helper.make_graph(nodes, "tiny", inputs, outputs, constants), {**REFINER_METADATA, **metadata})


def _save(path: Path, graph: onnx.GraphProto, metadata: Mapping[str, str | None]) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {key: value for key, value in metadata.items() if value is not None})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
