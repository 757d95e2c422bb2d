"""Traces a network into the self-describing ONNX model that edgepose runs."""

import copy
import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import nn

from edgepose.errors import ConfigError
from edgepose.model.file import FORMAT_VERSION, METADATA_PREFIX, STRIDE_PX
from edgepose.person import FLIP_PAIRS, KEYPOINT_NAMES, OKS_SIGMAS, SKELETON
from edgepose_export.network.checkpoint import Network, load_deployed, load_network
from edgepose_export.network.layers import fuse
from edgepose_export.network.pose_network import PoseGraph, PoseNetwork
from edgepose_export.network.refiner import RefinerGraph, RefinerNetwork
from edgepose_export.onnx_file import set_metadata, simplify, store_half, write_model

OPSET = 17
"""Lowest opset that has everything the network needs; TensorRT 8.6 and later read it."""

POSE_INPUT, REFINER_INPUT = "images", "crops"
POSE_OUTPUTS, REFINER_OUTPUTS = ("boxes", "scores", "keypoints"), ("keypoints",)
LICENSE = "Apache-2.0"


@dataclass(frozen=True)
class Card:
    """The description in a model file beyond its structure.

    Attributes:
        name: such as `ghost-n-320`.
        input_size: long side of the input in pixels that the network is made for; a refiner's crop has its own.
        trained_on: data sets and teacher, in words.
        accuracy: figures by name, as measured.
        license: SPDX identifier of the weights' license.
    """

    name: str
    input_size: int
    trained_on: str = ""
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    license: str = LICENSE

    def metadata(self, network: Network) -> dict[str, str]:
        """Return all `metadata_props` of a float file of `network`."""
        values = {
            "format_version": FORMAT_VERSION,
            "task": "pose" if isinstance(network, PoseNetwork) else "refine",
            "name": self.name,
            "keypoint_names": json.dumps(KEYPOINT_NAMES),
            "skeleton": json.dumps(SKELETON),
            "flip_pairs": json.dumps(FLIP_PAIRS),
            "oks_sigmas": json.dumps(OKS_SIGMAS),
            "input_size": str(self.input_size if isinstance(network, PoseNetwork) else max(_crop_sides(network))),
            "precision": "float32",
            "calibration": "",
            "parent": "",
            "trained_on": self.trained_on,
            "accuracy": json.dumps(dict(self.accuracy)),
            "license": self.license,
        }
        if isinstance(network, PoseNetwork):
            values["candidates"] = str(network.spec.candidates)
        else:
            values["crop_margin"] = json.dumps(network.spec.crop_margin)
            values["score_weights"] = json.dumps([round(float(value), 4) for value in network.score_weights])
        return {METADATA_PREFIX + key: value for key, value in values.items()}


def to_onnx(network: Network, card: Card, *, height: int = 0, width: int = 0) -> onnx.ModelProto:
    """Trace a network into an ONNX model with folded batch-norms; the network itself does not change.

    Args:
        network: in any mode.
        card: what the file states about itself.
        height, width: fixed sides of the input in pixels, with a batch of one picture; both 0 leaves batch and sides open. A
            refiner's crop has the sides of its spec in any case.

    Raises:
        ConfigError: a side is not a multiple of 32, only one side is fixed, or a refiner's crop has other sides.
    """
    _check_sides(network, card.input_size, height, width)
    fused = copy.deepcopy(network).cpu().eval()
    fuse(fused)
    fixed = height > 0
    if isinstance(fused, RefinerNetwork):
        # A crop has one size; the number of crops is open.
        deployed: nn.Module = RefinerGraph(fused)
        inputs = REFINER_INPUT
        outputs: tuple[str, ...] = REFINER_OUTPUTS
        example = torch.zeros((1 if fixed else 2, *_crop_sides(fused), 3), dtype=torch.uint8)
        axes = None if fixed else {name: {0: "M"} for name in (inputs, *outputs)}
    else:
        deployed = PoseGraph(fused)
        inputs, outputs = POSE_INPUT, POSE_OUTPUTS
        # A traced size must not occur in the graph. An unusual one, neither square nor the card's, shows a frozen size in the tests.
        example = torch.zeros((1, height, width, 3) if fixed else (2, 3 * STRIDE_PX, 5 * STRIDE_PX, 3), dtype=torch.uint8)
        axes = None if fixed else {inputs: {0: "N", 1: "H", 2: "W"}, **{name: {0: "N"} for name in outputs}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The older exporter: the newer one needs onnxscript and writes TopK and GatherElements no better.
        # Tracer warnings about frozen sizes stay on.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, message="Constant folding - Only steps=1")
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            deployed,
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[inputs],
            output_names=list(outputs),
            dynamic_axes=axes,
        )
        model = simplify(onnx.load(str(path)))
    _name_outputs(model, fused, fixed)
    model.graph.name = card.name
    model.producer_name = "edgepose-export"
    model.producer_version = ""
    set_metadata(model, card.metadata(fused))
    onnx.checker.check_model(model, full_check=True)
    return model


def write_onnx(
    checkpoint: Path, output: Path, card: Card, *, height: int = 0, width: int = 0, average: bool = True, half: bool = False
) -> Network:
    """Write the network of a checkpoint as a self-describing ONNX file in float, and return the network.

    Args:
        card: what the file states about itself.
        height, width: as of `to_onnx`.
        average: take the running average of the weights where the checkpoint has one; otherwise the last weights.
        half: store the weights in half precision.

    Raises:
        ConfigError: the checkpoint or a size is refused.
    """
    network = load_deployed(checkpoint) if average else load_network(checkpoint)
    model = to_onnx(network, card, height=height, width=width)
    write_model(store_half(model) if half else model, output)
    return network


def _crop_sides(network: RefinerNetwork) -> tuple[int, int]:
    return network.spec.crop_height, network.spec.crop_width


def _check_sides(network: Network, input_size: int, height: int, width: int) -> None:
    if (height > 0) != (width > 0):
        raise ConfigError(f"the input would be fixed at {width or '?'}x{height or '?'} pixels; expected both sides, or none for any size")
    for side in (input_size, height, width):
        if side < 0 or side % STRIDE_PX:
            raise ConfigError(f"an input side is {side} pixels; expected a multiple of {STRIDE_PX}")
    if isinstance(network, RefinerNetwork) and height and (height, width) != _crop_sides(network):
        own = "x".join(str(side) for side in reversed(_crop_sides(network)))
        raise ConfigError(f"the crop would be fixed at {width}x{height} pixels; expected the refiner's own {own}")


def _name_outputs(model: onnx.ModelProto, network: Network, fixed: bool) -> None:
    """Replace the exporter's names of output sizes by those of the model file contract."""
    keypoints = [len(KEYPOINT_NAMES), 3]
    shapes: dict[str, list[int | str]]
    if isinstance(network, PoseNetwork):
        number, candidates = 1 if fixed else "N", network.spec.candidates
        shapes = {"boxes": [number, candidates, 4], "scores": [number, candidates], "keypoints": [number, candidates, *keypoints]}
    else:
        shapes = {"keypoints": [1 if fixed else "M", *keypoints]}
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
