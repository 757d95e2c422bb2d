"""Adapter for pose networks exported by Ultralytics: converts between their tensors and those of edgepose.

Input float32 or float16 (N, 3, H, W), RGB 0 to 1. The output has one of three forms (`edgepose.model.ultralytics_metadata`), all in
input pixels: (N, channels, anchors) with box center x, center y, width, height, a score for each class, then 17 x (x, y, confidence);
the same transposed; or end to end (N, detections, 57) with x1, y1, x2, y2, score, class, then the keypoints
(https://docs.ultralytics.com/tasks/pose, format of exported models).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engine.box_nms import box_nms
from edgepose.engine.output_checks import check_finite, check_people, check_pixels, check_positions, check_shares
from edgepose.errors import EngineError
from edgepose.model.ultralytics_metadata import UltralyticsHead
from edgepose.person import KEYPOINT_NAMES, Candidates

ANCHOR_IOU = 0.7
"""Maximum IoU of two people in an output with one row per anchor: as in Ultralytics' own predictor (`iou`). The general `pose.nms_iou`
is higher, because the networks that it is made for suppress in their graph."""

LEAST_SCORE = 0.01
"""Anchors below this score are nobody; all thresholds of a configuration are meant to be higher."""

_MOST_PEOPLE = 2000  # more than `pose.maximum_people` can be: bounds the time for a network that finds people everywhere
_SCORES, _CLASS, _KEYPOINT_VALUES = 4, 5, 3 * len(KEYPOINT_NAMES)

_People = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def to_input(images: NDArray[np.uint8], kind: type[np.floating[Any]] = np.float32) -> NDArray[np.floating[Any]]:
    """Convert images uint8 (N, H, W, 3) to the network's input (N, 3, H, W) of a type."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    scaled: NDArray[np.float32] = np.multiply(planes, np.float32(1 / 255), dtype=np.float32)
    return scaled.astype(kind, copy=False)


def to_candidates(
    output: NDArray[np.floating[Any]], head: UltralyticsHead, name: str = "the network", *, iou: float = ANCHOR_IOU
) -> Candidates:
    """Return the people of an output as candidates, by falling score; images with fewer are filled with score 0.

    All anchors count that may be people: the boxes are suppressed first and a limit, far above the number of people in a frame, comes last.

    Args:
        output: as the network computed it: (N, values, anchors), its transpose, or end to end (N, detections, values).
        head: what the file says of it.
        name: of the backend, for errors.
        iou: maximum IoU of two people in an output with one row per anchor.

    Raises:
        EngineError: the output has another shape, or is broken (`edgepose.engine.output_checks`).
    """
    form = head.form(output.shape)
    if form is None or (form != "end_to_end" and 0 in output.shape):
        raise EngineError(f"{name} returned {head.output} of shape {output.shape}; expected {_expected(head)}")
    dense = form != "end_to_end"
    planes = output.astype(np.float32, copy=False)  # (N, values, A): a plane for each value of a box, score or keypoint
    if form != "anchors":
        planes = planes.transpose(0, 2, 1)
    first = _SCORES + (head.classes if dense else 2)  # of the keypoints; a detection has its score and its class
    _check(name, planes, first, dense=dense)
    scores = planes[:, _SCORES + head.person] if dense else planes[:, _SCORES] * (planes[:, _CLASS] == head.person)
    return _batched([_people(planes[index], scores[index], first, iou if dense else None) for index in range(len(planes))])


def _expected(head: UltralyticsHead) -> str:
    return f"(N, {_SCORES + head.classes + _KEYPOINT_VALUES}, anchors), or (N, detections, {_SCORES + 2 + _KEYPOINT_VALUES})"


def _check(name: str, planes: NDArray[np.float32], first: int, *, dense: bool) -> None:
    boxes, scores, keypoints = planes[:, :_SCORES], planes[:, _SCORES:first], planes[:, first:]
    check_finite(name, {"boxes": boxes, "scores": scores, "keypoints": keypoints})
    check_shares(name, {"scores": scores if dense else scores[:, :1], "confidences": keypoints[:, 2::3]})
    check_positions(name, {"boxes": boxes, "keypoints (x)": keypoints[:, 0::3], "keypoints (y)": keypoints[:, 1::3]})
    if dense:  # the centers of all anchors fill the image, and so do their keypoints
        check_pixels(name, {"boxes": boxes[:, :2], "keypoints": keypoints[:, 0::3]})
    else:
        rows = keypoints.transpose(0, 2, 1)
        check_people(name, boxes.transpose(0, 2, 1), scores[:, 0], rows.reshape(*rows.shape[:2], len(KEYPOINT_NAMES), 3))


def _people(planes: NDArray[np.float32], scores: NDArray[np.float32], first: int, iou: float | None) -> _People:
    """Return boxes, scores and keypoints of one image's people, by falling score; `iou` is None where the graph has suppressed them."""
    chosen = np.flatnonzero(scores >= LEAST_SCORE)
    boxes, scores = planes[:_SCORES, chosen].T, scores[chosen]
    if iou is not None:
        center, half = boxes[:, :2], boxes[:, 2:] / 2
        boxes = np.concatenate((center - half, center + half), axis=1)
        kept = box_nms(boxes, scores, iou, _MOST_PEOPLE)
    else:
        kept = np.argsort(-scores, kind="stable")[:_MOST_PEOPLE]
    keypoints = planes[first:, chosen[kept]].T.reshape(-1, len(KEYPOINT_NAMES), 3)
    return boxes[kept], scores[kept], keypoints


def _batched(people: list[_People]) -> Candidates:
    shape = (len(people), max(len(scores) for _, scores, _ in people))
    candidates = Candidates(
        np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32), np.zeros((*shape, len(KEYPOINT_NAMES), 3), np.float32)
    )
    for index, (boxes, scores, keypoints) in enumerate(people):
        candidates.boxes[index, : len(scores)] = boxes
        candidates.scores[index, : len(scores)] = scores
        candidates.keypoints[index, : len(scores)] = keypoints
    return candidates
