"""What a model file says of itself, and where model files lie.

Nothing here loads a network: the header of the ONNX file is read directly (`edgepose.model.onnx_header`), so that every
backend, `edgepose check` and the configuration agree on one description, whichever inference library is installed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from edgepose.errors import ModelError
from edgepose.model.onnx_header import OnnxHeader, TensorHeader, read_header
from edgepose.person import FLIP_PAIRS, KEYPOINT_NAMES, OKS_SIGMAS, SKELETON

FORMAT_VERSION = "1"
METADATA_PREFIX = "edgepose."
STRIDE_PX = 32
"""Sides of the network input are multiples of this."""

_ASSETS = Path(__file__).parents[1] / "assets"
_MAXIMUM_BYTES = 2**31  # protobuf's own limit for one message
_LARGEST_MARGIN = 4  # a crop beyond shows mostly other things than the person
_ULTRALYTICS_CANDIDATES = 300  # anchors kept before suppression: several dozen fire on each person
_ULTRALYTICS_CHANNELS = 4 + 1 + 3 * len(KEYPOINT_NAMES)

Task = Literal["pose", "refine"]
"""What a network does: find people in a picture, or look again at one person in a crop."""

ScoreWeights = tuple[float, float, float, float]
"""Bias, and weights of the first score's logit, of both poses' similarity and of the second pose's mean confidence."""

_KINDS: Mapping[Task, str] = {"pose": "a pose network", "refine": "a refiner"}

_T = TypeVar("_T")


class Calibration(msgspec.Struct, frozen=True):
    """How activation ranges of an INT8 file were found: hash of the picture set, method, number of pictures."""

    hash: str
    method: str
    images: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Description of a network.

    Attributes:
        layout: `edgepose` (uint8 NHWC in, best candidates or keypoints out) or `ultralytics` (float NCHW in, one row an anchor out).
        task: `pose` (finds people in a picture) or `refine` (gives better keypoints of the person in a square crop).
        input_size: long side of the input in pixels that the network was made for; the side of a refiner's crops.
        input_height, input_width: sides that the file fixes, or None where it takes any multiple of 32.
        batch: pictures a call that the file fixes, or None where it takes any number.
        candidates: most candidates a picture; 0 of a refiner.
        precision: `float32` or `int8`.
        parent: SHA-256 of the file that this one was derived from, or None.
        accuracy: figures by name, as measured when the file was made.
        crop_margin: of a refiner, side of the square crop over the longer side of the person's box, at least 1; else None.
        score_weights: of a refiner, how it turns what both looks say into a probability (`edgepose.pose.regions`); else None.
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
    precision: Literal["float32", "int8"]
    calibration: Calibration | None
    parent: str | None
    trained_on: str
    accuracy: Mapping[str, Any]
    license: str
    crop_margin: float | None = None
    score_weights: ScoreWeights | None = None

    def long_side(self, requested: int = 0) -> int:
        """Return the long side of the input in pixels for a requested one (0: the model's own); ModelError where it cannot be."""
        if self.input_height is not None and self.input_width is not None:
            fixed = max(self.input_height, self.input_width)
            if requested not in (0, fixed):
                size = f"{self.input_width}x{self.input_height}"
                raise ModelError(f"model.input_size is {requested}, but the model's input is fixed at {size}: use 0 or {fixed}")
            return fixed
        if requested % STRIDE_PX:
            raise ModelError(f"model.input_size is {requested}, which is not a multiple of {STRIDE_PX}")
        return requested or self.input_size


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that has been looked at: where it lies, SHA-256 of its bytes (hex), its description."""

    path: Path
    sha256: str
    info: ModelInfo

    def expect(self, task: Task) -> "ModelFile":
        """Return this file where it is a network for `task`; ModelError says which kind it is otherwise."""
        if self.info.task != task:
            found, accepted = (f"{_KINDS[kind]} (task '{kind}')" for kind in (self.info.task, task))
            raise ModelError(f"{self.path} is {found}, accepted here is {accepted}; {_shipped()}")
        return self


def shipped_models() -> dict[str, Task]:
    """What kind of network the models are that are part of the package, by name."""
    return {path.stem: read_model(path).info.task for path in sorted(_ASSETS.glob("*.onnx"))}


def named_model(name_or_path: str, task: Task) -> ModelFile:
    """Find, read and check the model for a task, by the name of a shipped one or by its path; ModelError says what is wrong with it."""
    return read_model(find_model(name_or_path)).expect(task)


def find_model(name_or_path: str) -> Path:
    """Return the path of a shipped model by its name (`default`), or of a file; ModelError lists what exists."""
    for path in _ASSETS.glob("*.onnx"):
        if path.stem == name_or_path:
            return path
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    raise ModelError(f"no model '{name_or_path}': there is no such file, and {_shipped()}")


def read_model(path: str | Path) -> ModelFile:
    """Read and check the description of a model file; ModelError says what is wrong with it."""
    path = Path(path)
    try:
        if path.stat().st_size > _MAXIMUM_BYTES:
            raise ModelError(f"{path} is larger than 2 GiB, which no ONNX file is")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    try:
        header = read_header(data)
    except ValueError as error:
        raise ModelError(f"{path} is not an ONNX file: {error}") from error
    try:
        info = _describe(header)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error.__cause__
    return ModelFile(path, hashlib.sha256(data).hexdigest(), info)


def _shipped() -> str:
    kinds = shipped_models()
    listed = ", ".join(f"{name} ({kinds[name]})" for name in sorted(kinds, key=lambda name: (kinds[name], name)))
    return f"the shipped models are {listed or 'none (this package has no assets)'}"


def _describe(header: OnnxHeader) -> ModelInfo:
    if METADATA_PREFIX + "format_version" in header.metadata:
        return _describe_edgepose(header)
    if "kpt_shape" in header.metadata or "task" in header.metadata:
        return _describe_ultralytics(header)
    raise ModelError(
        "no metadata says what the network is: accepted are files with 'edgepose.*' metadata and pose networks exported by Ultralytics"
    )


def _describe_edgepose(header: OnnxHeader) -> ModelInfo:
    metadata = {key.removeprefix(METADATA_PREFIX): value for key, value in header.metadata.items() if key.startswith(METADATA_PREFIX)}
    if metadata["format_version"] != FORMAT_VERSION:
        raise ModelError(f"the file's format version is '{metadata['format_version']}', this edgepose reads '{FORMAT_VERSION}'")
    task: Task = "refine" if metadata.get("task") == "refine" else "pose"
    if metadata.get("task") != task:
        raise ModelError(f"the file's task is '{metadata.get('task', '')}', accepted are 'pose' and 'refine'")
    names = _value(metadata, "keypoint_names", tuple[str, ...])
    if names != KEYPOINT_NAMES:
        raise ModelError(f"the network has {len(names)} keypoints ({', '.join(names)}), accepted are the 17 of COCO in COCO order")
    sigmas = _value(metadata, "oks_sigmas", tuple[float, ...])
    if len(sigmas) != len(names) or min(sigmas) <= 0:
        raise ModelError(f"metadata edgepose.oks_sigmas has {len(sigmas)} numbers, accepted are {len(names)} above 0")
    input_size = _positive(metadata, "input_size", multiple_of=STRIDE_PX)
    batch, height, width = _pose_shapes(header) if task == "pose" else _refine_shapes(header, input_size)
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
        precision="int8" if _one_of(metadata, "precision", ("float32", "int8")) == "int8" else "float32",
        calibration=_value(metadata, "calibration", Calibration) if metadata.get("calibration") else None,
        parent=metadata.get("parent") or None,
        trained_on=metadata.get("trained_on", ""),
        accuracy=_value(metadata, "accuracy", dict[str, Any]) if metadata.get("accuracy") else {},
        license=metadata.get("license", ""),
        crop_margin=_crop_margin(metadata) if task == "refine" else None,
        score_weights=_value(metadata, "score_weights", tuple[float, float, float, float]) if task == "refine" else None,
    )


def _crop_margin(metadata: Mapping[str, str]) -> float:
    margin = _value(metadata, "crop_margin", float)
    if not 1 <= margin <= _LARGEST_MARGIN:
        raise ModelError(f"metadata edgepose.crop_margin is {margin:g}, accepted are numbers from 1 to {_LARGEST_MARGIN}")
    return margin


def _refine_shapes(header: OnnxHeader, side: int) -> tuple[int | None, int, int]:
    crops = _only_input(header)
    if crops.name != "crops" or crops.element != "uint8" or crops.shape[1:] != (side, side, 3) or len(crops.shape) != 4:
        raise ModelError(f"the input is {_show(crops)}, accepted of a refiner is crops uint8 (M, {side}, {side}, 3)")
    output = header.outputs[0] if len(header.outputs) == 1 else None
    if output is None or output.name != "keypoints" or output.element != "float32" or not _ends_in(output, (len(KEYPOINT_NAMES), 3), 1):
        shown = ", ".join(map(_show, header.outputs))
        raise ModelError(f"the outputs are {shown}, accepted of a refiner is one keypoints float32 (M, 17, 3)")
    return _input_sides(crops.shape[0], side, side)[0], side, side


def _pose_shapes(header: OnnxHeader) -> tuple[int | None, int | None, int | None]:
    image = _only_input(header)
    if image.name != "images" or image.element != "uint8" or len(image.shape) != 4 or image.shape[3] != 3:
        raise ModelError(f"the input is {_show(image)}, accepted is images uint8 (N, H, W, 3)")
    keypoint_count = len(KEYPOINT_NAMES)
    outputs = {tensor.name: tensor for tensor in header.outputs}
    for name, tail in (("boxes", (4,)), ("scores", ()), ("keypoints", (keypoint_count, 3))):
        tensor = outputs.get(name)
        if tensor is None or tensor.element != "float32":
            raise ModelError(
                f"the outputs are {', '.join(map(_show, header.outputs))}, accepted are boxes, scores and keypoints in float32"
            )
        if not _ends_in(tensor, tail, 2):
            raise ModelError(f"the output is {_show(tensor)}, accepted is {name} float32 (N, K{''.join(f', {size}' for size in tail)})")
    batch, height, width, _ = image.shape
    return _input_sides(batch, height, width)


def _ends_in(tensor: TensorHeader, tail: tuple[int, ...], start: int) -> bool:
    """Whether the sizes from `start` on are those; one that the file leaves open is checked by the engine at every run."""
    sizes = tensor.shape[start:]
    return len(sizes) == len(tail) and all(found in (None, wanted) for found, wanted in zip(sizes, tail, strict=True))


def _describe_ultralytics(header: OnnxHeader) -> ModelInfo:
    metadata = header.metadata
    if metadata.get("task") != "pose":
        raise ModelError(f"the file's task is '{metadata.get('task', '')}', accepted is 'pose'")
    keypoints = _value(metadata, "kpt_shape", tuple[int, ...], prefix="")
    if keypoints != (len(KEYPOINT_NAMES), 3):
        raise ModelError(f"metadata kpt_shape is {list(keypoints)}, accepted is [17, 3] (the COCO keypoints with confidences)")
    sides = _value(metadata, "imgsz", tuple[int, ...], prefix="")
    image = _only_input(header)
    if image.element != "float32" or len(image.shape) != 4 or image.shape[1] != 3:
        raise ModelError(f"the input is {_show(image)}, accepted of an Ultralytics file is float32 (N, 3, H, W)")
    output = header.outputs[0] if len(header.outputs) == 1 else None
    if output is None or output.element != "float32" or len(output.shape) != 3 or output.shape[1] not in (None, _ULTRALYTICS_CHANNELS):
        shown = ", ".join(map(_show, header.outputs))
        raise ModelError(
            f"the outputs are {shown}, accepted of an Ultralytics file is one float32 (N, 56, anchors): export it without nms and end2end"
        )
    batch, height, width = _input_sides(image.shape[0], image.shape[2], image.shape[3])
    if not sides or min(sides) <= 0 or max(sides) % STRIDE_PX:
        raise ModelError(f"metadata imgsz is {list(sides)}, accepted are multiples of {STRIDE_PX}")
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
        candidates=_ULTRALYTICS_CANDIDATES,
        precision="float32",
        calibration=None,
        parent=None,
        trained_on="",
        accuracy={},
        license=metadata.get("license", ""),
    )


def _only_input(header: OnnxHeader) -> TensorHeader:
    if len(header.inputs) != 1:
        raise ModelError(f"the network has {len(header.inputs)} inputs, accepted is one")
    return header.inputs[0]


def _input_sides(batch: int | None, height: int | None, width: int | None) -> tuple[int | None, int | None, int | None]:
    if (height is None) != (width is None):
        raise ModelError("the input fixes one side and leaves the other open, accepted are both fixed or both open")
    if height is not None and width is not None and (height % STRIDE_PX or width % STRIDE_PX):
        raise ModelError(f"the input is {width}x{height}, accepted are multiples of {STRIDE_PX}")
    if batch not in (None, 1):
        raise ModelError(f"the network takes {batch} pictures at once, accepted are files for one or for any number")
    return batch, height, width


def _value(metadata: Mapping[str, str], key: str, kind: type[_T], prefix: str = METADATA_PREFIX) -> _T:
    if key not in metadata:
        raise ModelError(f"metadata {prefix}{key} is missing")
    try:
        return msgspec.json.decode(metadata[key], type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ModelError(f"metadata {prefix}{key} is '{metadata[key][:80]}': {error}") from error


def _pairs(metadata: Mapping[str, str], key: str) -> tuple[tuple[int, int], ...]:
    pairs = _value(metadata, key, tuple[tuple[int, int], ...])
    if any(not 0 <= index < len(KEYPOINT_NAMES) for pair in pairs for index in pair):
        raise ModelError(f"metadata edgepose.{key} names a keypoint that does not exist, accepted are 0 to {len(KEYPOINT_NAMES) - 1}")
    return pairs


def _positive(metadata: Mapping[str, str], key: str, multiple_of: int = 1) -> int:
    value = _value(metadata, key, int)
    if value <= 0 or value % multiple_of:
        raise ModelError(f"metadata edgepose.{key} is {value}, accepted are positive multiples of {multiple_of}")
    return value


def _one_of(metadata: Mapping[str, str], key: str, accepted: tuple[str, ...]) -> str:
    value = metadata.get(key, "")
    if value not in accepted:
        raise ModelError(f"metadata edgepose.{key} is '{value}', accepted are {', '.join(accepted)}")
    return value


def _show(tensor: TensorHeader) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.name} {tensor.element} ({sizes})"
