"""PP-TinyPose as a special case of our refiner: its ONNX file's weights in our network.

Source: PaddleDetection, "PP-TinyPose" (Apache-2.0). The files hold convolutions with folded batch-norms, in half precision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from edgepose.errors import ConfigError
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.lite_hrnet import Fusion, ResolutionModule, ShuffleUnit, shuffled
from edgepose_export.network.refiner import TINYPOSE_128, TINYPOSE_256, RefinerNetwork


@dataclass(frozen=True)
class _Place:
    """The place of one convolution of the file in our network.

    Attributes:
        unit: takes the weights.
        source: number of shuffled channels that it reads; 0 where they have the file's order.
        target: number of shuffled channels that it writes; 0 where they have the file's order.
        factor: of weights and bias.
    """

    unit: ConvNorm
    source: int = 0
    target: int = 0
    factor: float = 1.0


def load_tinypose(path: Path) -> RefinerNetwork:
    """Load a TinyPose file, 128x96 or 256x192, as a refiner in evaluation mode whose heat maps are the file's.

    Raises:
        ConfigError: the file is missing or is no TinyPose.
    """
    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise ConfigError(f"teacher {path} does not exist") from error
    sides = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]]
    spec = next((spec for spec in (TINYPOSE_128, TINYPOSE_256) if sides == [spec.crop_height, spec.crop_width]), None)
    if spec is None:
        raise ConfigError(f"{path} takes {'x'.join(map(str, sides))} pixels; expected TinyPose for crops of 128x96 or 256x192")
    network = RefinerNetwork(spec).eval()
    weights, places = list(_convolutions(model)), list(_places(network))
    if len(weights) != len(places):
        raise ConfigError(f"{path} has {len(weights)} convolutions; expected the {len(places)} of TinyPose")
    with torch.no_grad():
        for number, ((weight, bias), place) in enumerate(zip(weights, places, strict=True)):
            conv = place.unit.conv
            if weight.shape != conv.weight.shape or conv.bias is None:
                raise ConfigError(f"convolution {number} of {path} is {list(weight.shape)}; expected {list(conv.weight.shape)} of TinyPose")
            ours = torch.argsort(shuffled(place.target)) if place.target else torch.arange(len(bias))
            read = torch.argsort(shuffled(place.source)) if place.source and conv.groups == 1 else torch.arange(weight.shape[1])
            conv.weight.copy_(place.factor * weight[ours][:, read])
            conv.bias.copy_(place.factor * bias[ours])
    return network


def _convolutions(model: onnx.ModelProto) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weight and bias of each convolution in the order in which the layers were made.

    The names of the weights are numbered in this order; the nodes of a file that was trained further have another one.
    """
    values: dict[str, NDArray[np.float32]] = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
    convolutions = [list(node.input[1:3]) for node in model.graph.node if node.op_type == "Conv"]
    for names in sorted(convolutions, key=lambda names: int("0" + "".join(filter(str.isdigit, names[0])))):
        weight, bias = (torch.from_numpy(values[name].astype(np.float32)) for name in names)
        yield weight, bias


def _places(network: RefinerNetwork) -> Iterator[_Place]:
    """Yield our convolutions in the order of the file's graph.

    Our shuffle units shuffle before they work and not after, so the channels between modules have another order than in the file.
    """
    trunk, widths = network.trunk, network.spec.widths
    yield from (_Place(unit) for unit in _units(trunk.stem))
    for number, transition in enumerate(list(trunk.transitions)[:2]):
        yield from _pair(_units(transition), network.spec.stem, widths[number])
    for stage, modules in enumerate(trunk.stages):
        if stage:
            yield from _pair(_units(trunk.transitions[stage + 1]), widths[stage], widths[stage + 1])
        assert isinstance(modules, nn.ModuleList)
        for module in modules:
            assert isinstance(module, ResolutionModule)
            yield from (_Place(part) for unit in module.modules() if isinstance(unit, ShuffleUnit) for part in _units(unit))
            yield from _fusion(module.fusion, widths)
    for number, step in zip(reversed(range(len(widths))), trunk.aggregation.steps, strict=True):
        yield from _pair(_units(step), widths[number], widths[number - 1] if number else 0)
    yield _Place(network.heat)


def _fusion(fusion: Fusion, widths: Sequence[int]) -> Iterator[_Place]:
    """Yield the convolutions of a fusion; those down from the finest branch count twice, because the original adds them to themselves."""
    count = round((1 + (1 + 4 * (len(fusion.ups) + len(fusion.downs))) ** 0.5) / 2)  # paths = count (count - 1)
    for i in range(count):
        for j in range(count):
            if j > i:
                yield from (_Place(unit, widths[j], widths[i]) for unit in _units(fusion.ups[f"{i}_{j}"]))
            elif j < i:
                yield from _pair(_units(fusion.downs[f"{i}_{j}"]), widths[j], widths[i], 1.0 if j else 2.0)


def _pair(units: list[ConvNorm], source: int, target: int, factor: float = 1.0) -> Iterator[_Place]:
    """Yield separable convolutions in series: only the first pair reads shuffled channels, only the last writes them."""
    for number in range(0, len(units), 2):
        shuffle_in = source if number == 0 else 0
        last = number + 2 == len(units)
        yield _Place(units[number], shuffle_in, shuffle_in)
        yield _Place(units[number + 1], shuffle_in, target if last else 0, factor if last else 1.0)


def _units(module: nn.Module) -> list[ConvNorm]:
    return [unit for unit in module.modules() if isinstance(unit, ConvNorm)]
