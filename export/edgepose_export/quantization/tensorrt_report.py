"""What TensorRT makes of a model, layer by layer, read from its build log: precision, fusions, and what is not INT8 and why.

The engine inspector needs a device; the verbose log of a build lists the same layers without one. Each layer names the nodes of the
ONNX file that it computes (`Metadata: [ONNX Layer: …]`), so nothing is guessed from names.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import shape_inference

from edgepose.engine.tensorrt.build import BuildRequest, Profile, ReportProgress, build_engine
from edgepose.engine.tensorrt.library import TensorRtLibrary
from edgepose.model.file import METADATA_PREFIX, read_model
from edgepose_export.onnx_file import get_metadata
from edgepose_export.quantization.graph import FLOAT_CONVOLUTIONS, Graph, float_convolutions

_LAYER = re.compile(r"^Name: (.+?), LayerType: (\w+), Inputs: \[(.*?)\], Constants: \[(.*?)\], Outputs: \[(.*)\], TacticName", re.DOTALL)
_KIND = re.compile(r"Datatype: (\w+)")
_NODES = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_CONVOLVES = ("correlation", "gemm", "runtime_fusion")  # kinds of layers that multiply weights
_SIZE_PX = 320  # of a network without fixed sides, for its multiply-adds


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an engine.

    Attributes:
        name: the engine's own.
        kind: of the library, such as `correlation` (a convolution) or `kgen` (a fused kernel).
        inputs, outputs: types of its tensors, such as `Int8`, `Half`, `Float`.
        constants: types of its weights.
        nodes: names of the nodes of the file that it computes.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConvolutionReport:
    """One convolution of the file in the engine.

    Attributes:
        node: its name in the file.
        layer: name of the engine's layer.
        precision: `Int8`, `Half` or `Float`, of its input.
        multiply_adds: of one image.
        fused: other nodes in the same layer, Q/DQ not counted.
        why: why it is not INT8; empty where it is.
    """

    node: str
    layer: str
    precision: str
    multiply_adds: int
    fused: int
    why: str


@dataclass(frozen=True, slots=True)
class EngineLayers:
    """What TensorRT makes of a file.

    Attributes:
        library: name and version.
        layers: of the engine.
        convolutions: of the file, in order.
        plan_bytes: size of the engine.
        took_s: of the build.
    """

    library: str
    layers: tuple[Layer, ...]
    convolutions: tuple[ConvolutionReport, ...]
    plan_bytes: int
    took_s: float

    def float_share(self) -> float:
        """Return the share of the multiply-adds that is not INT8."""
        total = sum(entry.multiply_adds for entry in self.convolutions)
        return sum(entry.multiply_adds for entry in self.convolutions if entry.precision != "Int8") / max(1, total)

    def objections(self, listed: Sequence[str] | None) -> list[str]:
        """Return what is not as the file says, one sentence each.

        Args:
            listed: the convolutions that the file's metadata names as not INT8; None for a file that is not INT8.
        """
        if listed is None:
            return []
        found = {entry.node for entry in self.convolutions if entry.precision != "Int8"}
        surprising = sorted(found - set(listed))
        missing = sorted(set(listed) - found)
        return [f"{name} lies between Q and DQ and is not INT8 in the engine" for name in surprising] + [
            f"{name} is listed as float, but is INT8 in the engine" for name in missing
        ]


def engine_layers(
    library: TensorRtLibrary, path: Path, input_size: int = 0, report: ReportProgress = lambda progress: None
) -> EngineLayers:
    """Build a file and return its layers.

    Raises:
        ModelError: the library does not take the file.
        EngineError: the build failed.
    """
    model = read_model(path)
    lines: list[str] = []

    def keep(severity: str, text: str) -> None:
        if severity == "verbose" and "LayerType: " in text:
            lines.extend(text.splitlines())

    built = build_engine(library, BuildRequest(model, Profile.of(model, input_size)), report, keep)
    layers = tuple(parse_layers(lines))
    loaded = onnx.load_from_string(model.data)
    return EngineLayers(library.words, layers, tuple(_convolutions(loaded, layers)), len(built.plan), built.took_s)


def parse_layers(lines: Sequence[str]) -> list[Layer]:
    """Return the layers that a build log lists; the last list counts."""
    found: dict[str, Layer] = {}
    for line in lines:
        match = _LAYER.match(line)
        if match is None:
            continue
        name, kind, inputs, constants, outputs = match.groups()
        nodes = tuple(dict.fromkeys(_NODES.findall(line[match.end() :])))
        types = [tuple(_KIND.findall(part)) for part in (inputs, constants, outputs)]
        found[name] = Layer(name, kind, types[0], types[1], types[2], nodes)
    return list(found.values())


def listed_as_float(model: onnx.ModelProto) -> list[str] | None:
    """Return the convolutions that an INT8 file names as not INT8; None for another file."""
    text = get_metadata(model).get(METADATA_PREFIX + FLOAT_CONVOLUTIONS)
    names: list[str] | None = json.loads(text) if text else None
    return names


def _convolutions(model: onnx.ModelProto, layers: Sequence[Layer]) -> list[ConvolutionReport]:
    # A kernel that scales or activates the result names the convolution too: the layer that convolves counts.
    layer_of: dict[str, Layer] = {}
    for layer in sorted(layers, key=lambda layer: _CONVOLVES.index(layer.kind) if layer.kind in _CONVOLVES else len(_CONVOLVES)):
        for name in layer.nodes:
            layer_of.setdefault(name, layer)
    costs = multiply_adds(model)
    in_float = set(float_convolutions(model))
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    reports = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        made_by = layer_of.get(node.name)
        precision = _precision_of(made_by)
        fused = 0 if made_by is None else sum(1 for name in made_by.nodes if name != node.name and not name.endswith("Linear"))
        why = ""
        if precision != "Int8":
            why = (
                "the file has no Q/DQ" if not quantized else "the file keeps it in float" if node.name in in_float else "TensorRT chose so"
            )
        reports.append(
            ConvolutionReport(node.name, "" if made_by is None else made_by.name, precision, costs.get(node.name, 0), fused, why)
        )
    return reports


def _precision_of(layer: Layer | None) -> str:
    """Return the type that a convolution's layer computes in: that of its weights, which no fusion changes."""
    if layer is None:
        return "unknown"
    kinds = {*layer.inputs, *layer.constants}
    return next((kind for kind in ("Int8", "Half", "Float") if kind in kinds), "unknown")


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-adds of each convolution with constant weights, for one image of 320 px where the file leaves the size open."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    layout = copy.graph.input[0].type.tensor_type.shape.dim
    channels_last = layout[-1].dim_value == 3
    sides = (1, _SIZE_PX, _SIZE_PX, 3) if channels_last else (1, 3, _SIZE_PX, _SIZE_PX)
    for position, (dimension, side) in enumerate(zip(layout, sides, strict=True)):
        if position == 0 or not dimension.dim_value:
            dimension.Clear()
            dimension.dim_value = side
    inferred = shape_inference.infer_shapes(copy, data_prop=True)
    shapes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in inferred.graph.value_info}
    graph = Graph(copy)
    costs: dict[str, int] = {}
    for node in copy.graph.node:
        if node.op_type != "Conv":
            continue
        weights = _weights(graph, node)
        shape = shapes.get(node.output[0], [])
        if weights is not None and len(shape) == 4:
            costs[node.name] = shape[1] * shape[2] * shape[3] * weights[1] * weights[2] * weights[3]
    return costs


def _weights(graph: Graph, node: onnx.NodeProto) -> Sequence[int] | None:
    """Return the shape of a convolution's weights, (out, in, height, width), through DequantizeLinear and casts."""
    name = node.input[1]
    while name not in graph.constants:
        maker = graph.producer.get(name)
        if maker is None or maker.op_type not in ("DequantizeLinear", "Cast"):
            return None
        name = maker.input[0]
    return list(graph.constants[name].dims)


def summary(found: EngineLayers) -> Mapping[str, object]:
    """Return the figures of a report for scripts."""
    return {
        "library": found.library,
        "layers": len(found.layers),
        "plan_bytes": found.plan_bytes,
        "build_s": round(found.took_s, 1),
        "float_share": round(found.float_share(), 4),
        "convolutions": [
            {
                "node": entry.node,
                "precision": entry.precision,
                "multiply_adds": entry.multiply_adds,
                "fused": entry.fused,
                **({"why": entry.why} if entry.why else {}),
            }
            for entry in found.convolutions
        ],
    }
