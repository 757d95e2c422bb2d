"""Runs calibration pictures through a float model and records what its tensors hold."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edgepose.errors import ConfigError
from edgepose.model.file import ModelInfo
from edgepose.pose.boxes import box_area
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.regions import Region
from edgepose_export.data.coco import CocoPose
from edgepose_export.quantization.ranges import BINS, TensorStatistics, moving_average

FEWEST_PICTURES = 32
"""Fewer do not show what the activations do: a model calibrated on eight pictures works on those eight."""

Progress = Callable[[int, int], None]
"""Told after each picture: how many are done, of how many."""

_MOST_VALUES = 1 << 16
"""Values of a tensor and picture that go into its histogram, evenly picked."""


class CalibrationSet:
    """Pictures, evenly chosen from folders in COCO format, as the runtime would lay them into the network's input.

    Args:
        folders: each holds `annotations.json` and `images/`.
        count: how many pictures.
        offset: shifts the choice, so that another set of the same folders shares no picture with this one.

    Raises:
        ConfigError: no folder was named, there are fewer than 32 pictures, or a file is not as it should be.
    """

    def __init__(self, folders: Sequence[Path], count: int, *, offset: float = 0.0) -> None:
        if not folders:
            raise ConfigError("calibration needs pictures: name at least one folder with annotations.json and images/ by --data")
        self.data = CocoPose(folders)
        available = min(count, len(self.data))
        if available < FEWEST_PICTURES:
            found = f"{len(self.data)} pictures are in the data" if len(self.data) < FEWEST_PICTURES else f"{count} pictures were asked for"
            raise ConfigError(f"{found}, and calibration needs at least {FEWEST_PICTURES}")
        step = len(self.data) / available
        self.indices = [int((index + offset) * step) for index in range(available)]

    def __len__(self) -> int:
        return len(self.indices)

    def images(self, info: ModelInfo) -> Iterator[NDArray[np.uint8]]:
        """What the network sees in flight, batches of one: letterboxed pictures uint8 (1, H, W, 3) in their own shape, or crops.

        A refiner sees the largest person of each picture, and the middle of a picture in which nobody is labeled: a first
        look finds people where there are none, too.
        """
        for index in self.indices:
            image = self.data.image(index)
            if info.task == "pose":
                yield Letterbox.for_model(info, image.shape[0], image.shape[1]).apply(image)[None]
                continue
            assert info.crop_margin is not None
            boxes = self.data[index].boxes
            height, width = image.shape[:2]
            middle = np.array([width, height, 3 * width, 3 * height], np.float32) / np.float32(4)
            box = boxes[box_area(boxes).argmax()] if len(boxes) else middle
            crop = np.empty((1, info.input_size, info.input_size, 3), np.uint8)
            Region.around(box, info.crop_margin, info.input_size).cut(image, crop[0])
            yield crop

    def hash(self) -> str:
        """SHA-256 (hex) of the pictures' bytes, in order."""
        digest = hashlib.sha256()
        for index in self.indices:
            digest.update(hashlib.sha256(self.data[index].path.read_bytes()).digest())
        return digest.hexdigest()


@dataclass
class _Record:
    low: float = np.inf
    high: float = -np.inf
    average_low: float | None = None
    average_high: float | None = None


def collect_statistics(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    images: Callable[[], Iterator[NDArray[np.uint8]]],
    progress: Progress = lambda done, total: None,
    total: int = 0,
) -> dict[str, TensorStatistics]:
    """Run the pictures twice (extremes, then histograms) and tell what each tensor held.

    Args:
        model: float model file.
        tensors: names of tensors in it.
        images: starts the pictures anew, uint8 (1, H, W, 3).
        progress: told after each picture of both rounds.
        total: number of pictures, for `progress`.
    """
    session = open_session(with_outputs(model, tensors))
    records = {name: _Record() for name in tensors}
    done = 0
    for image in images():
        for name, values in zip(tensors, session.run(list(tensors), {session.get_inputs()[0].name: image}), strict=True):
            low, high = float(values.min()), float(values.max())
            record = records[name]
            record.low, record.high = min(record.low, low), max(record.high, high)
            record.average_low, record.average_high = moving_average(record.average_low, low), moving_average(record.average_high, high)
        done += 1
        progress(done, 2 * total)
    counts = {name: np.zeros(BINS, np.int64) for name in tensors}
    for image in images():
        for name, values in zip(tensors, session.run(list(tensors), {session.get_inputs()[0].name: image}), strict=True):
            record = records[name]
            flat = values.ravel()
            flat = flat[:: max(1, flat.size // _MOST_VALUES)]
            width = max(record.high - record.low, 1e-12) / BINS
            bins = np.clip(((flat - record.low) / width).astype(np.int64), 0, BINS - 1)
            counts[name] += np.bincount(bins, minlength=BINS)
        done += 1
        progress(done, 2 * total)
    return {
        name: TensorStatistics(record.low, record.high, record.average_low or 0.0, record.average_high or 0.0, counts[name])
        for name, record in records.items()
    }


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model that also gives out these float tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {output.name for output in copy.graph.output}
    copy.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors if name not in known)
    return copy


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session on the CPU of this machine."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
