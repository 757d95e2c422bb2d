"""Equalizes the channels of linear tensors before they share one INT8 scale, without changing the network's function.

Dividing a channel by s where it is written and multiplying it by s where it is read makes no difference in float. In INT8, a
small channel beside a large one uses only some of the 256 steps (after Nagel et al., "Data-free quantization
through weight equalization and bias correction", ICCV 2019, and Xiao et al., "SmoothQuant", ICML 2023).
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepose_export.callbacks import Progress
from edgepose_export.quantization.calibration import CalibrationImages, open_session, with_outputs
from edgepose_export.quantization.graph import ACTIVATIONS, Graph

_LARGEST_FACTOR = 32.0
_SHARED_BY_WEIGHTS = 0.75
"""Share of a channel's magnitude that moves into the weights of a 1x1 reader; moving all of it only shifts the problem there (error
of the raw maps with 0.5, 0.75 and 1: 0.067, 0.050 and 0.071; without equalization 0.215)."""

_CLIP = 6.0
_CLIP_MARGIN = 1.25
"""Room that a channel keeps between its largest calibration value and its clip, because other pictures can exceed that value."""

_SAME_CHANNELS = ("Relu", "Resize", "MaxPool", "ReduceMean")
_GATES = ("Sigmoid", "HardSigmoid")


class ChannelGroups:
    """The channels of all tensors, in groups that must be scaled together.

    Relu, enlargements, maxima and means over windows, and the product with a gate pass a positive factor through. An addition needs
    equal factors on both sides. A concatenation appends channels, a selection renumbers them. A clip at 6 allows a factor for channels
    that stay far below it. Any other reader (a sigmoid, and so SiLU; the decoder) fixes a channel.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = Graph(model)
        self.weights = {name: numpy_helper.to_array(tensor) for name, tensor in self.graph.constants.items()}
        self.of: dict[str, NDArray[np.int64]] = {}
        """Channel numbers of each tensor; channels with the same root are scaled together."""
        self._parent: list[int] = []
        self._fixed: set[int] = set()
        self._clipped: set[int] = set()
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
            elif node.op_type == "Gather" and node.input[0] in self.of and node.input[1] in self.weights and _axis(node) == 1:
                self.of[node.output[0]] = self.of[node.input[0]][self.weights[node.input[1]]]
            elif node.op_type == "Mul" and (gated := self._gated(node)) is not None:
                self.of[node.output[0]] = self.of[gated]
            elif node.op_type == "Clip" and node.input[0] in self.of:
                self.of[node.output[0]] = self.of[node.input[0]]
                self._clipped.update(int(channel) for channel in self.of[node.input[0]])
            else:
                self._fix(node)
        # Where two convolutions share a constant, scaling one would scale both.
        shared = [
            node for node in self.convolutions if any(node.input[1] == other.input[1] and node is not other for other in self.convolutions)
        ]
        for node in shared:
            for name in (node.input[0], node.output[0]):
                self._fixed.update(int(channel) for channel in self.of.get(name, ()))

    def root(self, channel: int) -> int:
        """Return the number of the group of a channel."""
        while self._parent[channel] != channel:
            self._parent[channel] = self._parent[self._parent[channel]]
            channel = self._parent[channel]
        return int(channel)

    def free(self) -> set[int]:
        """Return the roots of the channels that may be scaled."""
        fixed = {self.root(channel) for channel in self._fixed}
        return {self.root(channel) for channel in range(len(self._parent))} - fixed

    def clipped(self) -> set[int]:
        """Return the roots of the channels that a clip at 6 reads."""
        return {self.root(channel) for channel in self._clipped}

    def _gated(self, node: onnx.NodeProto) -> str | None:
        """Return the map in a product of a map and a gate between 0 and 1, as attention and SiLU have; None where it is another one."""
        known = [name for name in node.input if name in self.of]
        makers = [self.graph.producer.get(name) for name in node.input if name not in self.of]
        return known[0] if len(known) == 1 and all(maker is not None and maker.op_type in _GATES for maker in makers) else None

    def _new(self, count: int) -> NDArray[np.int64]:
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def _fix(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            self._fixed.update(int(channel) for channel in self.of.get(name, ()))


def equalize(
    model: onnx.ModelProto,
    images: CalibrationImages,
    progress: Progress = lambda done, total: None,
    total: int = 0,
) -> onnx.ModelProto:
    """Return a copy of a float model with the same function and equalized channels.

    Args:
        model: float model.
        images: starts the calibration pictures from the first.
        progress: called after each picture.
        total: number of pictures, for `progress`.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    channels = ChannelGroups(result)
    free = channels.free()
    tensors = [
        name
        for name, numbers in channels.of.items()
        # A tensor that only an activation reads is never quantized: its negative side does not count.
        if any(channels.root(number) in free for number in numbers)
        and any(node.op_type not in ACTIVATIONS for node in channels.graph.readers[name])
    ]
    if not tensors:
        return result
    magnitudes = _magnitudes(model, tensors, images, lambda done: progress(done, total))
    peak: dict[int, float] = {}
    for name in tensors:
        for number, value in zip(channels.of[name], magnitudes[name], strict=True):
            root = channels.root(number)
            peak[root] = max(peak.get(root, 0.0), float(value))
    # The weight of a channel in its 1x1 readers, relative to the largest weight of each of their filters.
    weighed: dict[int, float] = {}
    for node in channels.convolutions:
        weight = channels.weights[node.input[1]]
        if node.input[0] in channels.of and weight.shape[1] > 1:
            rows = np.abs(weight).max((2, 3))
            strength = (rows / np.maximum(rows.max(1, keepdims=True), 1e-12)).max(0)
            for number, value in zip(channels.of[node.input[0]], strength, strict=True):
                root = channels.root(number)
                weighed[root] = max(weighed.get(root, 0.0), float(value))
    typical = {name: float(np.median(magnitudes[name][magnitudes[name] > 0])) if (magnitudes[name] > 0).any() else 1.0 for name in tensors}
    reference: dict[int, float] = {}
    for name in tensors:
        for number in channels.of[name]:
            reference.setdefault(channels.root(number), typical[name])
    clipped = channels.clipped()
    factor: dict[int, float] = {}
    for root in free & peak.keys():
        if root in clipped:
            factor[root] = min(1.0, max(_factor(peak[root] / _CLIP, weighed.get(root)), peak[root] * _CLIP_MARGIN / _CLIP))
        else:
            factor[root] = _factor(peak[root] / reference[root], weighed.get(root))
    _scale(result, channels, factor)
    return result


def _axis(node: onnx.NodeProto) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 0)


def _factor(magnitude: float, weighed: float | None) -> float:
    """Return the divisor of a channel from its magnitude relative to its tensor's median and its weight (0 to 1) in 1x1 readers."""
    if magnitude <= 0:
        return 1.0
    # A depthwise reader has one scale per channel, so its weights lose nothing.
    value = magnitude if weighed is None else magnitude**_SHARED_BY_WEIGHTS / max(weighed, 1e-3) ** (1 - _SHARED_BY_WEIGHTS)
    return float(np.clip(value, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR))


def _magnitudes(
    model: onnx.ModelProto, tensors: Sequence[str], images: CalibrationImages, progress: Callable[[int], None]
) -> dict[str, NDArray[np.float64]]:
    """Return the largest magnitude of each channel: the mean over pictures, or the maximum over pictures after a clip."""
    session = open_session(with_outputs(model, tensors))
    behind_clip = {node.output[0] for node in model.graph.node if node.op_type == "Clip"}
    total = {name: np.zeros(1) for name in tensors}
    count = 0
    for image in images():
        count += 1
        for name, values in zip(tensors, session.run(list(tensors), {session.get_inputs()[0].name: image}), strict=True):
            largest = np.abs(values).max((0, 2, 3)).astype(np.float64)
            total[name] = np.maximum(total[name], largest) if name in behind_clip else total[name] + largest
        progress(count)
    return {name: value if name in behind_clip else value / max(count, 1) for name, value in total.items()}


def _scale(model: onnx.ModelProto, channels: ChannelGroups, factor: dict[int, float]) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def factors(name: str) -> NDArray[np.float32]:
        return np.array([factor.get(channels.root(number), 1.0) for number in channels.of[name]], np.float32)

    for node in channels.convolutions:
        weight = channels.weights[node.input[1]].copy()
        made = factors(node.output[0])
        weight /= made[:, None, None, None]
        if node.input[0] in channels.of:
            read = factors(node.input[0])
            weight = weight * (
                read[:, None, None, None] if weight.shape[1] == 1 and len(read) == len(weight) else read[None, :, None, None]
            )
        if not (made == 1).all() or node.input[0] in channels.of:
            tensors[node.input[1]].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight), node.input[1]))
        if len(node.input) > 2 and not (made == 1).all():
            bias = channels.weights[node.input[2]] / made
            tensors[node.input[2]].CopyFrom(numpy_helper.from_array(bias, node.input[2]))
