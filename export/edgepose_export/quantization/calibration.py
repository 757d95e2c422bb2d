"""Calibration pictures, and statistics of a float model's tensors on them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edgepose.engine.native_errors import NATIVE_ERRORS, error_when_loading
from edgepose.engine.ultralytics import to_input
from edgepose.errors import ConfigError
from edgepose.model.file import ModelInfo
from edgepose.pose.boxes import box_area
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.refine.regions import Region
from edgepose_export.callbacks import Progress
from edgepose_export.data.coco import CocoPose
from edgepose_export.quantization.ranges import BINS, TensorStatistics, moving_average

FEWEST_PICTURES = 32
"""Fewer pictures do not show the ranges of activations: a model calibrated on eight pictures works on those eight."""

_SMALLEST_CUT = 0.6
"""Smallest side of a cut view, as a share of the picture's side."""

CalibrationImages = Callable[[], Iterator[NDArray[np.generic]]]
"""Starts the calibration pictures from the first, each as the network takes it: a batch of one."""

_MOST_VALUES = 1 << 16
"""Values of a tensor and picture that enter its histogram, evenly picked."""


@dataclass(frozen=True, slots=True)
class PictureView:
    """A way to show a picture: as it is, mirrored, or a part of it.

    Attributes:
        mirrored: whether left and right are exchanged.
        cut: left, top, right and bottom of the part, as shares of the picture's sides.
    """

    mirrored: bool = False
    cut: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    def show(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the view of a picture, uint8 (H, W, 3), and the boxes (P, 4) in it; boxes that are mostly cut off are left out."""
        if self == PictureView():
            return image, boxes
        height, width = image.shape[:2]
        x1, y1, x2, y2 = (round(share * side) for share, side in zip(self.cut, (width, height, width, height), strict=True))
        part = image[y1:y2, x1:x2]
        origin, size = np.array([x1, y1, x1, y1], np.float32), np.array([x2 - x1, y2 - y1] * 2, np.float32)
        inside = np.clip(boxes - origin, 0, size).astype(np.float32)
        inside = inside[box_area(inside) > 0.5 * box_area(boxes)]
        if self.mirrored:
            part = part[:, ::-1]
            inside[:, [0, 2]] = size[0] - inside[:, [2, 0]]
        return np.ascontiguousarray(part), inside


class CalibrationSet:
    """Pictures, evenly chosen from data sets, in the form in which the runtime gives them to the network.

    Fewer than 32 pictures are shown in several views each: mirrored, and parts of them. That is enough to try, not to ship; `warning`
    says so.

    Args:
        folders: data sets, see `edgepose_export.data.formats`.
        count: number of pictures.
        offset: shifts the choice by a share of its step, so that two sets of the same folders share no picture, or no view of one.

    Attributes:
        warning: one sentence where the data has fewer than 32 pictures, else empty.

    Raises:
        ConfigError: no folder is named, fewer than 32 pictures are requested, or a file is refused.
    """

    def __init__(self, folders: Sequence[Path], count: int, *, offset: float = 0.0) -> None:
        if not folders:
            raise ConfigError("calibration needs pictures; expected at least one folder with annotations.json and images/ in --data")
        self.data = CocoPose(folders)
        if count < FEWEST_PICTURES:
            raise ConfigError(f"{count} pictures are requested; calibration needs at least {FEWEST_PICTURES}")
        available = min(count, len(self.data))
        step = len(self.data) / available
        self.indices = [int((index + offset) * step) for index in range(available)]
        self.views = [PictureView()] * available
        self.warning = ""
        if available < FEWEST_PICTURES:
            self.indices, self.views = _views(len(self.data), offset)
            self.warning = (
                f"the data has {len(self.data)} pictures, so mirrored and cut views of them make up {FEWEST_PICTURES}: "
                f"enough to try, but ranges from {FEWEST_PICTURES} or more different pictures are better"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def inputs(self, info: ModelInfo) -> Iterator[NDArray[np.generic]]:
        """Yield the pictures as the file takes them: as `images`, or of the layout `ultralytics` float32 (1, 3, H, W)."""
        for image in self.images(info):
            yield to_input(image) if info.layout == "ultralytics" else image

    def images(self, info: ModelInfo) -> Iterator[NDArray[np.uint8]]:
        """Yield the network's inputs in batches of one: letterboxed pictures, uint8 (1, H, W, 3) in their own shape, or crops.

        A refiner gets the largest person of each picture. Where nobody is labeled, it gets the middle of the picture, because
        the first stage has false detections too.
        """
        for index, view in zip(self.indices, self.views, strict=True):
            image, boxes = view.show(self.data.image(index), self.data[index].boxes)
            if info.task == "pose":
                yield Letterbox.for_model(info, image.shape[0], image.shape[1]).apply(image)[None]
                continue
            assert info.crop_margin is not None
            height, width = image.shape[:2]
            middle = np.array([width, height, 3 * width, 3 * height], np.float32) / np.float32(4)
            box = boxes[box_area(boxes).argmax()] if len(boxes) else middle
            crop = np.empty((1, *info.crop_shape, 3), np.uint8)
            Region.around(box, info.crop_margin, info.crop_shape).cut(image, crop[0])
            yield crop

    def hash(self) -> str:
        """Return the SHA-256 (hex) of the pictures' bytes and of views that are not the whole picture, in order."""
        digest = hashlib.sha256()
        for index, view in zip(self.indices, self.views, strict=True):
            digest.update(hashlib.sha256(self.data[index].path.read_bytes()).digest())
            if view != PictureView():
                digest.update(repr(view).encode())
        return digest.hexdigest()


def _views(pictures: int, offset: float) -> tuple[list[int], list[PictureView]]:
    """Return 32 pairs of picture and view: each picture as it is and mirrored, then parts of it; with an offset parts alone."""
    whole = [] if offset else [PictureView(), PictureView(mirrored=True)]
    rng = np.random.default_rng(int(1000 * offset))
    indices, views = [], []
    for number in range(FEWEST_PICTURES):
        turn = number // pictures
        if turn < len(whole):
            view = whole[turn]
        else:
            sides = rng.uniform(_SMALLEST_CUT, 0.95, 2)
            left, top = rng.uniform(0, 1 - sides).tolist()
            view = PictureView(bool(number % 2), (left, top, left + float(sides[0]), top + float(sides[1])))
        indices.append(number % pictures)
        views.append(view)
    return indices, views


@dataclass
class _Extremes:
    low: float = np.inf
    high: float = -np.inf
    average_low: float | None = None
    average_high: float | None = None


def collect_statistics(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    images: CalibrationImages,
    progress: Progress = lambda done, total: None,
    total: int = 0,
) -> dict[str, TensorStatistics]:
    """Run the pictures twice (extremes, then histograms) and return the statistics of each tensor.

    Args:
        model: float model file.
        tensors: names of tensors in it.
        images: starts the pictures from the first.
        progress: called after each picture of both rounds.
        total: number of pictures, for `progress`.
    """
    session = open_session(with_outputs(model, tensors))
    records = {name: _Extremes() for name in tensors}
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
    """Return a copy of the model that also outputs these float tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {output.name for output in copy.graph.output}
    copy.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors if name not in known)
    return copy


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a session on the CPU of this machine; ModelError where onnxruntime refuses the network."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except NATIVE_ERRORS as error:
        raise error_when_loading(error, "onnxruntime refuses the network", cpu=True) from error
