"""The metadata of pose networks exported by Ultralytics, and the forms of their output.

The values are texts of Python or JSON literals, such as `{0: 'person'}`, `[17, 3]`, `(17, 3)` or `640`
(https://docs.ultralytics.com/modes/export; `ultralytics/engine/exporter.py` writes them).
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from edgepose.errors import ModelError
from edgepose.model.onnx_header import TensorHeader
from edgepose.person import KEYPOINT_NAMES

Form = Literal["anchors", "rows", "end_to_end"]
"""Form of the output: `anchors` is (N, channels, anchors), `rows` the same transposed, `end_to_end` (N, detections, 57)."""

_PERSON_NAMES = ("person", "persons", "people", "human", "humans", "pedestrian")
_UNTOLD_NAMES = re.compile(r"(|item|object|obj|class|cls|\d+|(class|cls|obj|object)[ _-]?\d+)")  # names that say nothing
_KEYPOINT_VALUES = 3 * len(KEYPOINT_NAMES)
_BOX_VALUES = 4
_END_TO_END_VALUES = _BOX_VALUES + 2 + _KEYPOINT_VALUES  # box, score, class
_MOST_DETECTIONS = 1000  # of an end-to-end network; anchors are more
_DEFAULT_STRIDE_PX, _LARGEST_STRIDE_PX = 32, 1024
_DEFAULT_SIDE_PX = 640
_LONGEST_TEXT = 100_000
_FLOATS = ("float32", "float16")


class UltralyticsHead(msgspec.Struct, frozen=True):
    """The output of an Ultralytics network.

    Attributes:
        output: name of the tensor.
        classes: number of classes that the network finds.
        person: index of the class of people.
    """

    output: str
    classes: int
    person: int

    def form(self, shape: Sequence[int | None]) -> Form | None:
        """Return the form of an output of a shape, where None is any size; None where it is not an output of this network."""
        channels = _BOX_VALUES + self.classes + _KEYPOINT_VALUES
        if len(shape) != 3:
            return None
        _, first, last = shape
        if first == channels:
            return "anchors"
        if last == _END_TO_END_VALUES and (last != channels or first is None or first <= _MOST_DETECTIONS):
            return "end_to_end"
        if last == channels:
            return "rows"
        return "anchors" if first is None else None


def read_head(metadata: Mapping[str, str], outputs: Sequence[TensorHeader]) -> UltralyticsHead:
    """Return the output to use; of several the first that fits. ModelError where none fits or no class is of people."""
    _check_keypoints(metadata)
    classes, person = _classes(metadata)
    for tensor in outputs:
        head = UltralyticsHead(tensor.name, classes, person)
        if tensor.element in _FLOATS and head.form(tensor.shape) is not None:
            return head
    shown = ", ".join(tensor.text() for tensor in outputs) or "missing"
    channels = _BOX_VALUES + classes + _KEYPOINT_VALUES
    raise ModelError(
        f"the outputs are {shown}; expected of a pose network with {classes} class{'es' if classes > 1 else ''} (metadata names)"
        f" float32 (N, {channels}, anchors), or (N, detections, {_END_TO_END_VALUES}) of an end-to-end one:"
        " export it as a pose network, and leave `nms` out"
    )


def read_sides(metadata: Mapping[str, str]) -> tuple[int, ...]:
    """Return height and width in pixels that the network was exported for, or one number for both (`imgsz`)."""
    if "imgsz" not in metadata:
        return (_DEFAULT_SIDE_PX,)
    sides = _numbers(_literal(metadata, "imgsz", "one or two numbers of pixels, such as [640, 640]"))
    if sides is None or not 1 <= len(sides) <= 2 or min(sides) <= 0:
        raise ModelError(f"metadata imgsz is {metadata['imgsz'][:80]!r}; expected one or two numbers of pixels, such as [640, 640]")
    return sides


def read_stride(metadata: Mapping[str, str]) -> int:
    """Return the largest stride in pixels, of which the sides of the input are multiples; 32 where nothing is said."""
    text = metadata.get("stride", str(_DEFAULT_STRIDE_PX))
    found = [float(number) for number in re.findall(r"\d+(?:\.\d*)?", text[:_LONGEST_TEXT])]
    stride = max(found, default=0.0)
    if not 1 <= stride <= _LARGEST_STRIDE_PX or stride != int(stride):
        raise ModelError(f"metadata stride is {text[:80]!r}; expected a whole number of pixels from 1 to {_LARGEST_STRIDE_PX}, such as 32")
    return int(stride)


def _check_keypoints(metadata: Mapping[str, str]) -> None:
    expected = f"[{len(KEYPOINT_NAMES)}, 3] (the COCO keypoints with x, y and confidence)"
    if "kpt_shape" not in metadata:
        raise ModelError(f"metadata kpt_shape is missing; expected {expected}")
    shape = _numbers(_literal(metadata, "kpt_shape", expected))
    if shape is None:
        raise ModelError(f"metadata kpt_shape is {metadata['kpt_shape'][:80]!r}; expected {expected}")
    if shape != (len(KEYPOINT_NAMES), 3):
        raise ModelError(f"metadata kpt_shape is {list(shape)}; expected {expected}")


def _classes(metadata: Mapping[str, str]) -> tuple[int, int]:
    """Return the number of classes and the index of the one of people."""
    if not metadata.get("names", "").strip():
        return 1, 0
    expected = "the names of the classes, such as {0: 'person'}"
    value = _literal(metadata, "names", expected)
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple | set):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value or not all(str(key).strip().isdecimal() for key in value):
        raise ModelError(f"metadata names is {metadata['names'][:80]!r}; expected {expected}")
    names = {int(str(key)): str(name).strip() for key, name in value.items()}
    if sorted(names) != list(range(len(names))):
        raise ModelError(f"metadata names numbers its classes {sorted(names)[:10]}; expected 0 to {len(names) - 1}")
    for index, name in sorted(names.items()):
        if name.lower() in _PERSON_NAMES:
            return len(names), index
    if len(names) == 1 and _UNTOLD_NAMES.fullmatch(names[0].lower()):
        return 1, 0
    listed = ", ".join(repr(name[:40]) for _, name in sorted(names.items())[:5]) + (", …" if len(names) > 5 else "")
    what = f"the class {listed}" if len(names) == 1 else f"the classes {listed}"
    raise ModelError(f"the network finds {what} (metadata names); expected a class 'person' among them")


def _literal(metadata: Mapping[str, str], key: str, expected: str) -> Any:
    text = metadata[key].strip()
    if len(text) <= _LONGEST_TEXT:
        try:
            return ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            pass
    raise ModelError(f"metadata {key} is {text[:80]!r}; expected {expected}")


def _numbers(value: Any) -> tuple[int, ...] | None:
    """Return one number or several as whole numbers, None where they are not."""
    values = value if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(number, int | float) and not isinstance(number, bool) and number == number // 1 for number in values):
        return None
    return tuple(int(number) for number in values)
