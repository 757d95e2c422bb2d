"""Motion of the camera between frames: a similarity, estimated from points of the ground that are followed by sparse optical flow.

Corners (J. Shi, C. Tomasi, "Good Features to Track", CVPR 1994) outside of people are followed by pyramidal Lucas-Kanade flow, and a
similarity is fitted to them by RANSAC, so that what moves by itself does not count. A hovering drone drifts by less than a pixel a
frame: frames are compared with a reference frame, which is kept while the camera seems still, so that a slow drift adds up until it
can be measured.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.motion import STILL, Motion, MotionUnknown
from edgepose.person import Person
from edgepose.pose.letterbox import Letterbox

_LONG_SIDE_PX = 320  # of the image in which points are followed
_POINTS = 80
_FEWEST_POINTS = 12
_QUALITY, _DISTANCE_PX = 0.02, 8
_MARGIN = 0.1  # of a person's box, which is not exact
_MOST_PEOPLE = 0.85  # share of the frame; what is left of it says nothing reliable
_WINDOW_PX, _LEVELS = 13, 3
_RETURN_PX = 1.0  # a point that is followed there and back must return this close
_ERROR_PX = 2.0
_INLIERS = 0.35  # share of the followed points that the similarity explains
_FOLLOWED = 0.3  # share of the points that are found again; fewer mean another scene
_STILL_PX = 0.35  # motion of the frame's corners below which the camera is still
_REFERENCE_FRAMES = 30  # then a new reference is taken although the camera is still, because light changes
_SCALE_RANGE = (0.8, 1.25)
_LARGEST_ANGLE = math.radians(25)
_LARGEST_SHIFT = 0.5  # of the frame's long side
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)


class CameraMotion:
    """The estimator of one camera's motion; not thread-safe."""

    def __init__(self) -> None:
        self._reference: NDArray[np.uint8] | None = None  # gray (h, w)
        self._points = np.empty((0, 1, 2), np.float32)  # corners of the reference
        self._age = 0  # frames since the reference
        self._crowded = False

    def reset(self) -> None:
        """Forget the reference, at a new epoch of a stream or another size of its frames."""
        self._reference = None

    def update(self, image: NDArray[np.uint8], letterbox: Letterbox, people: Sequence[Person]) -> Motion:
        """Return the camera's motion since the frame before; call it for every frame.

        Args:
            image: uint8 (H, W, 3) RGB, the letterboxed frame.
            letterbox: its layout.
            people: those in this frame, in source pixels; points on them are not followed.
        """
        gray, to_flow = _flow_image(image, letterbox)
        if self._reference is None or self._reference.shape != gray.shape:
            self._take(gray, people, to_flow)
            return Motion(STILL.matrix, "first")
        found = self._follow(gray)
        if not isinstance(found, str) and (cause := _wildness(found, gray.shape)):
            found = cause
        if isinstance(found, str):
            self._take(gray, people, to_flow)
            return Motion(STILL.matrix, found)
        self._age += 1
        moved = _largest_move(found, gray.shape) >= _STILL_PX
        if moved or self._age >= _REFERENCE_FRAMES:
            self._take(gray, people, to_flow)
        if not moved:
            return STILL
        source = np.linalg.inv(to_flow) @ found @ to_flow
        return Motion(source[:2])

    def _take(self, gray: NDArray[np.uint8], people: Sequence[Person], to_flow: NDArray[np.float64]) -> None:
        """Make a frame the reference."""
        free = np.full(gray.shape, 255, np.uint8)
        for person in people:
            left, top, right, bottom = person.box.tolist()
            grow = _MARGIN * max(right - left, bottom - top)
            corners = np.array([(left - grow, top - grow, 1.0), (right + grow, bottom + grow, 1.0)]) @ to_flow[:2].T
            (x0, y0), (x1, y1) = np.clip(np.round(corners), 0, (gray.shape[1], gray.shape[0])).astype(int).tolist()
            free[y0:y1, x0:x1] = 0
        self._crowded = float(np.count_nonzero(free)) < (1 - _MOST_PEOPLE) * free.size
        points = None if self._crowded else cv2.goodFeaturesToTrack(gray, _POINTS, _QUALITY, _DISTANCE_PX, mask=free)
        self._points = np.empty((0, 1, 2), np.float32) if points is None else points.astype(np.float32)
        self._reference, self._age = gray, 0

    def _follow(self, gray: NDArray[np.uint8]) -> NDArray[np.float64] | MotionUnknown:
        """Return the similarity (3, 3) from the reference to a frame, in flow pixels, or why there is none."""
        assert self._reference is not None
        if len(self._points) < _FEWEST_POINTS:
            return "people" if self._crowded else "blank"
        there, found = _flow(self._reference, gray, self._points)
        back, returned = _flow(gray, self._reference, there)
        good = found & returned & (np.abs(back - self._points).max(axis=(1, 2)) < _RETURN_PX)
        if good.sum() < max(_FEWEST_POINTS, _FOLLOWED * len(self._points)):
            return "blank" if gray.std() < 2 else "cut"
        matrix, inliers = cv2.estimateAffinePartial2D(self._points[good], there[good], method=cv2.RANSAC, ransacReprojThreshold=_ERROR_PX)
        if matrix is None or inliers.sum() < max(_FEWEST_POINTS, _INLIERS * good.sum()):
            return "cut"
        return np.vstack([matrix, (0.0, 0.0, 1.0)])


def _flow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return where points (P, 1, 2) of one image are in another, and which of them (P,) were found."""
    size = (_WINDOW_PX, _WINDOW_PX)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=size, maxLevel=_LEVELS, criteria=_CRITERIA)
    return np.asarray(there, np.float32), np.asarray(found[:, 0] == 1)


def _flow_image(image: NDArray[np.uint8], letterbox: Letterbox) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the gray image (h, w) in which points are followed, and the matrix (3, 3) from source pixels to it."""
    bottom, right = letterbox.top + letterbox.content_height, letterbox.left + letterbox.content_width
    gray = cv2.cvtColor(image[letterbox.top : bottom, letterbox.left : right], cv2.COLOR_RGB2GRAY)
    scale = min(1.0, _LONG_SIDE_PX / max(gray.shape))
    if scale < 1:
        gray = cv2.resize(gray, (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    scale_x, scale_y = gray.shape[1] / letterbox.source_width, gray.shape[0] / letterbox.source_height
    # OpenCV's positions are those of pixel centers: (0, 0) is the middle of the first pixel, half a pixel from the corner.
    to_flow = np.array(((scale_x, 0.0, -0.5), (0.0, scale_y, -0.5), (0.0, 0.0, 1.0)))
    return np.asarray(gray, np.uint8), to_flow


def _wildness(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> MotionUnknown | None:
    """Return `implausible` for a similarity that no camera makes between two frames."""
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    angle = math.atan2(matrix[1, 0], matrix[0, 0])
    middle = np.array((shape[1] / 2, shape[0] / 2, 1.0))
    shift = float(np.hypot(*(matrix @ middle - middle)[:2]))
    possible = _SCALE_RANGE[0] <= scale <= _SCALE_RANGE[1] and abs(angle) <= _LARGEST_ANGLE and shift <= _LARGEST_SHIFT * max(shape)
    return None if possible else "implausible"


def _largest_move(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Return how far a similarity moves the corners of an image at most, in pixels."""
    corners = np.array(((0, 0, 1), (shape[1], 0, 1), (0, shape[0], 1), (shape[1], shape[0], 1)), np.float64)
    return float(np.hypot(*(corners @ matrix.T - corners).T[:2]).max())
