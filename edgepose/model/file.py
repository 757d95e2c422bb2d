"""Model files and their description in the metadata; `edgepose.model.shipped` finds them by name.

Nothing here loads a network: the header of the ONNX file is read directly (`edgepose.model.onnx_header`), so that every backend,
`edgepose check` and the configuration use one description, whichever inference library is installed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from edgepose.errors import ModelError
from edgepose.model.onnx_header import OnnxHeader, TensorHeader, read_header
from edgepose.model.ultralytics_metadata import UltralyticsHead, read_head, read_sides, read_stride
from edgepose.person import FLIP_PAIRS, KEYPOINT_NAMES, OKS_SIGMAS, SKELETON

FORMAT_VERSION = "2"
METADATA_PREFIX = "edgepose."
STRIDE_PX = 32
"""The sides of a network's input are multiples of this, unless its file names another stride."""

_MAXIMUM_BYTES = 2**31  # protobuf's own limit for one message
_LARGEST_MARGIN = 4  # a larger crop shows mostly background
_LARGEST_STRIDE_PX = 1024

Task = Literal["pose", "refine"]
"""The task of a network: detect people in an image (`pose`), or compute the keypoints of one person in a crop (`refine`)."""

ScoreWeights = tuple[float, float, float]
"""Bias, and the weights of the logit of score times confidence and of the agreement (`edgepose.pose.refine.regions.refined_score`)."""

_KINDS: Mapping[Task, str] = {"pose": "a pose network", "refine": "a refiner"}

_T = TypeVar("_T")


class Calibration(msgspec.Struct, frozen=True):
    """The calibration of an INT8 file: hash of the calibration set, method, number of images."""

    hash: str
    method: str
    images: int


class ModelInfo(msgspec.Struct, frozen=True):
    """The description of a network.

    Attributes:
        layout: `edgepose` (input uint8 NHWC, output best candidates or keypoints) or `ultralytics` (input float NCHW, output as `head`
            describes).
        format_version: version of the metadata format.
        task: `pose` (detects people in an image) or `refine` (computes more accurate keypoints of the person in a crop).
        name: name of the network.
        keypoint_names, skeleton, flip_pairs, oks_sigmas: as in `edgepose.person`.
        input_size: long side in pixels of the input that the network was trained for; of a refiner, of its crops.
        input_height, input_width: sides that the file fixes, None where it accepts any multiple of `stride`; a refiner always fixes them.
        batch: images per call that the file fixes, None where it accepts any number.
        candidates: maximum number of candidates per image; 0 for a refiner, and where the file does not limit it.
        precision: `float32`, `float16` or `int8`.
        calibration: calibration of an INT8 file, None where unknown.
        parent: SHA-256 of the file that this one was derived from, or None.
        trained_on: training data in words.
        accuracy: figures by name, as measured when the file was made.
        license: license of the weights.
        crop_margin: of a refiner, size of the crop relative to the person's box grown to the crop's aspect, at least 1; otherwise None.
        score_weights: of a refiner, how both poses make a probability (`edgepose.pose.refine.regions`); otherwise None.
        cpu_precision: precision of the model that is better on CPUs (`edgepose.model.shipped`), measured when the files were made.
        stride: the sides of the input are multiples of it, in pixels.
        head: output of the layout `ultralytics`; None of others.
    """

    layout: Literal["edgepose", "ultralytics"]
    format_version: str
    task: Task
    name: str
    keypoint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    oks_sigmas: tuple[float, ...]
    input_size: int
    input_height: int | None
    input_width: int | None
    batch: int | None
    candidates: int
    precision: Literal["float32", "float16", "int8"]
    calibration: Calibration | None
    parent: str | None
    trained_on: str
    accuracy: Mapping[str, Any]
    license: str
    crop_margin: float | None = None
    score_weights: ScoreWeights | None = None
    cpu_precision: Literal["float32", "int8"] = "float32"
    stride: int = STRIDE_PX
    head: UltralyticsHead | None = None

    @property
    def crop_shape(self) -> tuple[int, int]:
        """Height and width in pixels of a refiner's crops; ValueError for another network."""
        if self.task != "refine" or self.input_height is None or self.input_width is None:
            raise ValueError(f"{self.name} is not a refiner; expected a model with crops of a fixed size")
        return self.input_height, self.input_width

    def long_side(self, requested: int = 0) -> int:
        """Return the long side of the input in pixels for a requested one (0: the model's own); ModelError where it is invalid."""
        if self.input_height is not None and self.input_width is not None:
            fixed = max(self.input_height, self.input_width)
            if requested not in (0, fixed):
                size = f"{self.input_width}x{self.input_height}"
                raise ModelError(f"model.input_size is {requested}, but the model's input is fixed at {size}; expected 0 or {fixed}")
            return fixed
        if requested % self.stride:
            raise ModelError(f"model.input_size is {requested}; expected a multiple of {self.stride}")
        return requested or self.input_size


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file, read once: what runs is what was hashed, even if the file is replaced meanwhile.

    Attributes:
        path: where it was read.
        sha256: of its bytes, hex.
        info: its description.
        data: its bytes.
        server: URL of a model on a server; None for a file. Its `path` is only a name then, it has no `data`, and the hash is of its
            description.
    """

    path: Path
    sha256: str
    info: ModelInfo
    data: bytes = field(repr=False, compare=False)
    server: str | None = None

    @property
    def where(self) -> str:
        """The path of the file, or the URL of a model on a server."""
        return self.server or str(self.path)

    def expect(self, task: Task) -> "ModelFile":
        """Return this file if its network is for `task`; otherwise ModelError says which task it is for."""
        if self.info.task != task:
            found, expected = (f"{_KINDS[kind]} (task '{kind}')" for kind in (self.info.task, task))
            raise ModelError(f"{self.where} is {found}; expected {expected}")
        return self


def read_model(path: str | Path) -> ModelFile:
    """Read and check the description of a model file; ModelError says what is wrong."""
    path = Path(path)
    try:
        if path.stat().st_size > _MAXIMUM_BYTES:
            raise ModelError(f"{path} is larger than 2 GiB, the limit of an ONNX file")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    try:
        header = read_header(data)
    except ValueError as error:
        hint = "; expected an ONNX export of it" if path.suffix.lower() in (".pt", ".pth", ".engine", ".tflite") else ""
        raise ModelError(f"{path} is not an ONNX file: {error}{hint}") from error
    try:
        info = describe(header, path.name)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error.__cause__
    return ModelFile(path, hashlib.sha256(data).hexdigest(), info, data)


def describe(header: OnnxHeader, name: str) -> ModelInfo:
    """Return the description of a network from its tensors and metadata; ModelError says what is wrong, `name` is that of its file."""
    if header.external:
        raise ModelError(
            f"its weights are in another file ({', '.join(repr(name[:80]) for name in header.external[:3])}), which the model's"
            f" SHA-256 does not cover; expected all in one file: onnx.save(onnx.load('{name}'), 'one-file.onnx')"
        )
    if METADATA_PREFIX + "format_version" in header.metadata:
        return _describe_edgepose(header)
    if "kpt_shape" in header.metadata or "task" in header.metadata:
        return _describe_ultralytics(header)
    raise ModelError(
        "no metadata describes the network; expected a file with 'edgepose.*' metadata, or a pose network exported by Ultralytics with its"
        " metadata (task, kpt_shape, names, imgsz, stride), which simplifiers and quantizers may drop"
    )


def _describe_edgepose(header: OnnxHeader) -> ModelInfo:
    metadata = {key.removeprefix(METADATA_PREFIX): value for key, value in header.metadata.items() if key.startswith(METADATA_PREFIX)}
    if metadata["format_version"] != FORMAT_VERSION:
        raise ModelError(
            f"the file's format version is '{metadata['format_version']}'; expected '{FORMAT_VERSION}':"
            " write the file anew with edgepose-export onnx"
        )
    task: Task = "refine" if metadata.get("task") == "refine" else "pose"
    if metadata.get("task") != task:
        raise ModelError(f"the file's task is '{metadata.get('task', '')}'; expected 'pose' or 'refine'")
    names = _value(metadata, "keypoint_names", tuple[str, ...])
    if names != KEYPOINT_NAMES:
        raise ModelError(f"the network has {len(names)} keypoints ({', '.join(names)}); expected the 17 COCO keypoints in COCO order")
    sigmas = _value(metadata, "oks_sigmas", tuple[float, ...])
    if len(sigmas) != len(names) or min(sigmas) <= 0:
        raise ModelError(f"metadata edgepose.oks_sigmas has {len(sigmas)} numbers; expected {len(names)} above 0")
    stride = _positive(metadata, "stride") if "stride" in metadata else STRIDE_PX
    if stride > _LARGEST_STRIDE_PX:
        raise ModelError(f"metadata edgepose.stride is {stride}; expected at most {_LARGEST_STRIDE_PX}")
    input_size = _positive(metadata, "input_size", multiple_of=stride)
    batch, height, width = _pose_shapes(header, stride) if task == "pose" else _refine_shapes(header, input_size, stride)
    return ModelInfo(
        layout="edgepose",
        format_version=metadata["format_version"],
        task=task,
        name=metadata.get("name", ""),
        keypoint_names=names,
        skeleton=_pairs(metadata, "skeleton"),
        flip_pairs=_pairs(metadata, "flip_pairs"),
        oks_sigmas=sigmas,
        input_size=input_size,
        input_height=height,
        input_width=width,
        batch=batch,
        candidates=_positive(metadata, "candidates") if task == "pose" else 0,
        # A graph that computes in integers is INT8, whatever was written before it was quantized.
        precision="int8" if header.quantized else _precision(metadata, "precision"),
        calibration=_value(metadata, "calibration", Calibration) if metadata.get("calibration") else None,
        parent=metadata.get("parent") or None,
        trained_on=metadata.get("trained_on", ""),
        accuracy=_value(metadata, "accuracy", dict[str, Any]) if metadata.get("accuracy") else {},
        license=metadata.get("license", ""),
        crop_margin=_crop_margin(metadata) if task == "refine" else None,
        score_weights=_value(metadata, "score_weights", tuple[float, float, float]) if task == "refine" else None,
        cpu_precision=_cpu_precision(metadata),
        stride=stride,
    )


def _crop_margin(metadata: Mapping[str, str]) -> float:
    margin = _value(metadata, "crop_margin", float)
    if not 1 <= margin <= _LARGEST_MARGIN:
        raise ModelError(f"metadata edgepose.crop_margin is {margin:g}; expected a number from 1 to {_LARGEST_MARGIN}")
    return margin


def _refine_shapes(header: OnnxHeader, input_size: int, stride: int) -> tuple[int | None, int, int]:
    crops = _only_input(header)
    if crops.name != "crops" or crops.element != "uint8" or len(crops.shape) != 4 or crops.shape[3] != 3:
        raise ModelError(f"the input is {crops.text()}; expected of a refiner crops uint8 (M, H, W, 3)")
    batch, height, width = _input_sides(*crops.shape[:3], stride=stride)
    if height is None or width is None or max(height, width) != input_size:
        raise ModelError(
            f"the input is {crops.text()}; expected of a refiner fixed sides, the longer one {input_size} (edgepose.input_size)"
        )
    output = header.outputs[0] if len(header.outputs) == 1 else None
    if output is None or output.name != "keypoints" or output.element != "float32" or not _ends_in(output, (len(KEYPOINT_NAMES), 3), 1):
        shown = ", ".join(tensor.text() for tensor in header.outputs)
        raise ModelError(f"the outputs are {shown}; expected of a refiner one keypoints float32 (M, 17, 3)")
    return batch, height, width


def _pose_shapes(header: OnnxHeader, stride: int) -> tuple[int | None, int | None, int | None]:
    image = _only_input(header)
    if image.name != "images" or image.element != "uint8" or len(image.shape) != 4 or image.shape[3] != 3:
        raise ModelError(f"the input is {image.text()}; expected images uint8 (N, H, W, 3)")
    keypoint_count = len(KEYPOINT_NAMES)
    outputs = {tensor.name: tensor for tensor in header.outputs}
    for name, tail in (("boxes", (4,)), ("scores", ()), ("keypoints", (keypoint_count, 3))):
        tensor = outputs.get(name)
        if tensor is None or tensor.element != "float32":
            raise ModelError(
                f"the outputs are {', '.join(tensor.text() for tensor in header.outputs)}; expected boxes, scores and keypoints in float32"
            )
        if not _ends_in(tensor, tail, 2):
            raise ModelError(f"the output is {tensor.text()}; expected {name} float32 (N, K{''.join(f', {size}' for size in tail)})")
    batch, height, width, _ = image.shape
    return _input_sides(batch, height, width, stride=stride)


def _ends_in(tensor: TensorHeader, tail: tuple[int, ...], start: int) -> bool:
    """Return whether the dimensions from `start` on are `tail`; the engine checks a dimension that the file leaves open at every run."""
    sizes = tensor.shape[start:]
    return len(sizes) == len(tail) and all(found in (None, wanted) for found, wanted in zip(sizes, tail, strict=True))


def _describe_ultralytics(header: OnnxHeader) -> ModelInfo:
    metadata = header.metadata
    if metadata.get("task", "pose") != "pose":
        raise ModelError(f"the file's task is {metadata['task'][:40]!r}; expected 'pose'")
    image = _only_input(header)
    if image.element not in ("float32", "float16") or len(image.shape) != 4 or image.shape[1] not in (None, 3):
        raise ModelError(f"the input is {image.text()}; expected of an Ultralytics file float32 (N, 3, H, W)")
    head, sides, stride = read_head(metadata, header.outputs), read_sides(metadata), read_stride(metadata)
    batch, height, width = _input_sides(image.shape[0], image.shape[2], image.shape[3], stride=stride)
    if height is None and max(sides) % stride:
        raise ModelError(f"metadata imgsz is {list(sides)}; expected multiples of the stride, {stride}")
    ours = {key.removeprefix(METADATA_PREFIX): value for key, value in metadata.items() if key.startswith(METADATA_PREFIX)}
    return ModelInfo(
        layout="ultralytics",
        format_version=metadata.get("version", ""),
        task="pose",
        name=metadata.get("description", ""),
        keypoint_names=KEYPOINT_NAMES,
        skeleton=SKELETON,
        flip_pairs=FLIP_PAIRS,
        oks_sigmas=OKS_SIGMAS,
        input_size=max(sides),
        input_height=height,
        input_width=width,
        batch=batch,
        candidates=0,
        precision="int8" if header.quantized else "float16" if image.element == "float16" else "float32",
        calibration=_value(ours, "calibration", Calibration) if ours.get("calibration") else None,  # `edgepose-export quantize` made it
        parent=ours.get("parent") or None,
        trained_on="",
        accuracy={},
        license=metadata.get("license", ""),
        stride=stride,
        head=head,
    )


def _only_input(header: OnnxHeader) -> TensorHeader:
    if len(header.inputs) != 1:
        raise ModelError(f"the network has {len(header.inputs)} inputs; expected one")
    return header.inputs[0]


def _input_sides(batch: int | None, height: int | None, width: int | None, *, stride: int) -> tuple[int | None, int | None, int | None]:
    if (height is None) != (width is None):
        raise ModelError("the input fixes one side and leaves the other open; expected both fixed or both open")
    if height is not None and width is not None and (height % stride or width % stride):
        raise ModelError(f"the input is {width}x{height}; expected multiples of {stride}")
    if batch not in (None, 1):
        raise ModelError(f"the network takes {batch} images per call; expected 1 or any number: export it with a batch of 1")
    return batch, height, width


def _value(metadata: Mapping[str, str], key: str, kind: type[_T]) -> _T:
    if key not in metadata:
        raise ModelError(f"metadata {METADATA_PREFIX}{key} is missing")
    try:
        return msgspec.json.decode(metadata[key], type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ModelError(f"metadata {METADATA_PREFIX}{key} is '{metadata[key][:80]}': {error}") from error


def _pairs(metadata: Mapping[str, str], key: str) -> tuple[tuple[int, int], ...]:
    pairs = _value(metadata, key, tuple[tuple[int, int], ...])
    if any(not 0 <= index < len(KEYPOINT_NAMES) for pair in pairs for index in pair):
        raise ModelError(
            f"metadata edgepose.{key} names a keypoint that does not exist; expected indices from 0 to {len(KEYPOINT_NAMES) - 1}"
        )
    return pairs


def _positive(metadata: Mapping[str, str], key: str, multiple_of: int = 1) -> int:
    value = _value(metadata, key, int)
    if value <= 0 or value % multiple_of:
        raise ModelError(f"metadata edgepose.{key} is {value}; expected a positive multiple of {multiple_of}")
    return value


def _precision(metadata: Mapping[str, str], key: str) -> Literal["float32", "float16", "int8"]:
    value = metadata.get(key, "")
    if value == "float16":
        return "float16"
    if value in ("float32", "int8"):
        return "int8" if value == "int8" else "float32"
    raise ModelError(f"metadata edgepose.{key} is '{value}'; expected one of float32, float16, int8")


def _cpu_precision(metadata: Mapping[str, str]) -> Literal["float32", "int8"]:
    value = metadata.get("cpu_precision", "float32")
    if value not in ("float32", "int8"):
        raise ModelError(f"metadata edgepose.cpu_precision is '{value}'; expected one of float32, int8")
    return "int8" if value == "int8" else "float32"
