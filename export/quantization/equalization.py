"""Evens out the channels of linear tensors before they share one INT8 scale, without changing what the network computes.

A channel that is divided by s where it is made and multiplied by s where it is read makes no difference in float, but
in INT8 a quiet channel beside a loud one keeps only some of its 256 steps (after Nagel et al., "Data-free quantization
through weight equalization and bias correction", ICCV 2019, and Xiao et al., "SmoothQuant", ICML 2023).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.quantization.calibration import open_session, with_outputs
from export.quantization.graph import Graph

_LARGEST_FACTOR = 32.0
_SHARED_BY_WEIGHTS = 0.5
"""How much of a channel's loudness moves into the weights of a 1x1 reader: all would only carry the trouble there."""

_SAME_CHANNELS = ("Relu", "Resize")


class Channels:
    """Which channels of which tensors must be scaled together.

    Relu and bilinear doubling pass a positive factor through, an addition needs equal ones on both sides, a concatenation
    lines channels up; anything else (a clip at 6, the decoder) fixes a channel as it is.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = Graph(model)
        self.weights = {name: numpy_helper.to_array(tensor) for name, tensor in self.graph.constants.items()}
        self.of: dict[str, NDArray[np.int64]] = {}
        """Channel numbers of a tensor; equal roots are one channel."""
        self._parent: list[int] = []
        self._fixed: set[int] = set()
        self.convolutions = self.graph.convolutions()
        names = {node.name for node in self.convolutions}
        for node in self.graph.nodes:
            if node.name in names:
                self.of[node.output[0]] = self._new(len(self.weights[node.input[1]]))
            elif node.op_type in _SAME_CHANNELS and node.input[0] in self.of:
                self.of[node.output[0]] = self.of[node.input[0]]
            elif node.op_type == "Concat" and all(name in self.of for name in node.input):
                self.of[node.output[0]] = np.concatenate([self.of[name] for name in node.input])
            elif node.op_type == "Add" and all(name in self.of for name in node.input):
                first, second = (self.of[name] for name in node.input)
                for a, b in zip(first, second, strict=True):
                    self._parent[self.root(a)] = self.root(b)
                self.of[node.output[0]] = first
            else:
                self._fix(node)
        counted: dict[str, int] = {}
        for node in self.convolutions:
            counted[node.input[1]] = counted.get(node.input[1], 0) + 1
            if node.input[0] not in self.of:
                continue
            if counted[node.input[1]] > 1:  # two convolutions share one constant
                self._fixed.update(self.root(channel) for other in self.convolutions if other.input[1] == node.input[1] for channel in self.of.get(other.input[0], ()))
                self._fixed.update(self.root(channel) for other in self.convolutions if other.input[1] == node.input[1] for channel in self.of[other.output[0]])

    def root(self, channel: int) -> int:
        """The number that stands for all channels that are scaled together with this one."""
        while self._parent[channel] != channel:
            self._parent[channel] = self._parent[self._parent[channel]]
            channel = self._parent[channel]
        return int(channel)

    def free(self) -> set[int]:
        """Roots of the channels that may be scaled."""
        fixed = {self.root(channel) for channel in self._fixed}
        return {self.root(channel) for channel in range(len(self._parent))} - fixed

    def _new(self, count: int) -> NDArray[np.int64]:
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def _fix(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            self._fixed.update(int(channel) for channel in self.of.get(name, ()))


def equalize(model: onnx.ModelProto, images: Callable[[], Iterator[NDArray[np.uint8]]]) -> onnx.ModelProto:
    """A copy of a float model that computes the same with evener channels.

    Args:
        model: float model.
        images: starts the calibration pictures anew, uint8 (1, H, W, 3).
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    channels = Channels(result)
    free = channels.free()
    tensors = [name for name, numbers in channels.of.items() if any(channels.root(number) in free for number in numbers)]
    loud = _loudness(model, tensors, images)
    peak: dict[int, float] = {}
    for name in tensors:
        for number, value in zip(channels.of[name], loud[name], strict=True):
            root = channels.root(number)
            peak[root] = max(peak.get(root, 0.0), float(value))
    # How strongly 1x1 readers weigh a channel, relative to the strongest weight of each of their filters.
    weighed: dict[int, float] = {}
    for node in channels.convolutions:
        weight = channels.weights[node.input[1]]
        if node.input[0] in channels.of and weight.shape[1] > 1:
            rows = np.abs(weight).max((2, 3))
            strength = (rows / np.maximum(rows.max(1, keepdims=True), 1e-12)).max(0)
            for number, value in zip(channels.of[node.input[0]], strength, strict=True):
                root = channels.root(number)
                weighed[root] = max(weighed.get(root, 0.0), float(value))
    typical = {name: float(np.median(loud[name][loud[name] > 0])) if (loud[name] > 0).any() else 1.0 for name in tensors}
    reference: dict[int, float] = {}
    for name in tensors:
        for number in channels.of[name]:
            reference.setdefault(channels.root(number), typical[name])
    factor = {root: _factor(peak[root] / reference[root], weighed.get(root)) for root in free if root in peak}
    _scale(result, channels, factor)
    return result


def _factor(loudness: float, weighed: float | None) -> float:
    """What a channel is divided by: `loudness` relative to its tensor's typical channel, `weighed` 0 to 1 by 1x1 readers."""
    if loudness <= 0:
        return 1.0
    if weighed is None:  # a depthwise reader has a scale a channel: weights do not mind
        value = loudness
    else:
        value = loudness**_SHARED_BY_WEIGHTS / max(weighed, 1e-3) ** (1 - _SHARED_BY_WEIGHTS)
    return float(np.clip(value, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR))


def _loudness(model: onnx.ModelProto, tensors: Sequence[str], images: Callable[[], Iterator[NDArray[np.uint8]]]) -> dict[str, NDArray[np.float64]]:
    """Mean over pictures of the largest magnitude of each channel."""
    session = open_session(with_outputs(model, tensors))
    total = {name: np.zeros(1) for name in tensors}
    count = 0
    for image in images():
        count += 1
        for name, values in zip(tensors, session.run(list(tensors), {"images": image}), strict=True):
            total[name] = total[name] + np.abs(values).max((0, 2, 3))
    return {name: value / max(count, 1) for name, value in total.items()}


def _scale(model: onnx.ModelProto, channels: Channels, factor: dict[int, float]) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def factors(name: str) -> NDArray[np.float32]:
        return np.array([factor.get(channels.root(number), 1.0) for number in channels.of[name]], np.float32)

    for node in channels.convolutions:
        weight = channels.weights[node.input[1]].copy()
        made = factors(node.output[0])
        weight /= made[:, None, None, None]
        if node.input[0] in channels.of:
            read = factors(node.input[0])
            weight = weight * (read[:, None, None, None] if weight.shape[1] == 1 and len(read) == len(weight) else read[None, :, None, None])
        if not (made == 1).all() or node.input[0] in channels.of:
            tensors[node.input[1]].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight), node.input[1]))
        if len(node.input) > 2 and not (made == 1).all():
            bias = channels.weights[node.input[2]] / made
            tensors[node.input[2]].CopyFrom(numpy_helper.from_array(bias, node.input[2]))
