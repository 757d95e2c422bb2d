"""Motion of the camera between frames: the homography of the ground, estimated from points that are followed by sparse optical flow.

Corners (J. Shi, C. Tomasi, "Good Features to Track", CVPR 1994) outside of people are followed by pyramidal Lucas-Kanade flow, and a
homography is fitted to them by RANSAC, so that what moves by itself does not count.

Frames are compared with a reference frame as long as half of its points are found, not with the frame before: errors of many small steps
would add up, and a hovering drone drifts by less than a pixel a frame. The motion since the frame before is what brings the motion that was
told so far to the measured one.
"""

import math
from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.motion import STILL, Motion, MotionUnknown
from edgepose.person import Person
from edgepose.pose.letterbox import Letterbox

_LONG_SIDE_PX = 320  # of the image in which points are followed
_POINTS = 100
_FEWEST_POINTS = 12
_QUALITY, _DISTANCE_PX = 0.01, 8
_MARGIN = 0.1  # of a person's box, which is not exact
_MOST_PEOPLE = 0.85  # share of the frame; what is left of it says nothing reliable
_WINDOW_PX, _LEVELS = 13, 3
_RETURN_PX = 1.0  # a point that is followed there and back must return this close
_ERROR_PX = 1.0
_INLIERS = 0.35  # share of the followed points that the homography explains
_FOLLOWED = 0.3  # share of the points in the picture that are found again; fewer mean another scene
_STILL_PX = 0.35  # motion of the points below which the camera is still ...
_STILL_SHARE = 75.0  # ... of this percentage of them: the rest may be noise
_RENEWED = 0.5  # share of the reference's points below which the next reference is taken, ...
_ZOOMED = 1.25  # ... or where this much larger or smaller, as points look different then
_SCALE_RANGE = (0.8, 1.25)
_LARGEST_ANGLE = math.radians(25)
_LARGEST_SHIFT = 0.5  # of the frame's long side
_DEPTH_RANGE = (0.7, 1.4)  # of the frame's corners, against that of its middle
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


class _View(msgspec.Struct, frozen=True, eq=False):
    """A frame as points are followed in it.

    Attributes:
        gray: uint8 (h, w).
        to_flow: (3, 3), from source pixels to its pixels.
        free: uint8 (h, w), 0 where people are.
    """

    gray: NDArray[np.uint8]
    to_flow: NDArray[np.float64]
    free: NDArray[np.uint8]


class CameraMotion:
    """The estimator of one camera's motion; not thread-safe."""

    def __init__(self) -> None:
        self._reference: _View | None = None
        self._points = np.empty((0, 1, 2), np.float32)  # corners of the reference
        self._crowded = False
        self._before: _View | None = None  # the frame before
        self._seen = np.eye(3)  # homography of flow pixels, from the reference to the frame before, as measured ...
        self._told = np.eye(3)  # ... and as told: what is too small is told later

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
        view = _view(image, letterbox, people)
        if self._reference is None or self._before is None or self._reference.gray.shape != view.gray.shape:
            self._start(view)
            return Motion(STILL.matrix, "first")
        found = self._measure(view)
        if isinstance(found, str) and self._before is not self._reference:
            self._refer(self._before)  # the reference may be too far away
            found = self._measure(view)
        if isinstance(found, str):
            self._start(view)
            return Motion(STILL.matrix, found)
        seen, points, there = found
        step = seen @ np.linalg.inv(self._told)
        moves = np.hypot(*(there - _mapped(self._told, points))[:, 0].T)
        moved = float(np.percentile(moves, _STILL_SHARE)) >= _STILL_PX
        self._before, self._seen = view, seen
        if moved:
            self._told = seen
        zoom = math.sqrt(abs(float(np.linalg.det(seen[:2, :2]))))
        if len(points) < _RENEWED * len(self._points) or not 1 / _ZOOMED < zoom < _ZOOMED:
            self._refer(view)
        if not moved:
            return STILL
        source = np.linalg.inv(view.to_flow) @ step @ view.to_flow
        return Motion(source / source[2, 2])

    def _start(self, view: _View) -> None:
        """Make a frame the reference of which nothing before is known."""
        self._before, self._seen, self._told = view, np.eye(3), np.eye(3)
        self._refer(view)

    def _refer(self, view: _View) -> None:
        """Make the frame before the reference."""
        back = np.linalg.inv(self._seen)
        self._told, self._seen, self._reference = self._told @ back, np.eye(3), view
        self._crowded = float(np.count_nonzero(view.free)) < (1 - _MOST_PEOPLE) * view.free.size
        points = None if self._crowded else cv2.goodFeaturesToTrack(view.gray, _POINTS, _QUALITY, _DISTANCE_PX, mask=view.free)
        self._points = np.empty((0, 1, 2), np.float32) if points is None else points.astype(np.float32)

    def _measure(self, view: _View) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]] | MotionUnknown:
        """Return the homography from the reference to a frame, the points (P, 1, 2) that it explains in both, or why there is none."""
        assert self._reference is not None
        if len(self._points) < _FEWEST_POINTS:
            return "people" if self._crowded else "blank"
        expected = _mapped(self._seen, self._points)
        inside = _inside(expected, view.gray)
        points = self._points[inside]
        if len(points) < _FEWEST_POINTS:
            return "cut"
        there, found = _flow(self._reference.gray, view.gray, points, expected[inside], _LEVELS)
        back, returned = _flow(view.gray, self._reference.gray, there, points, 0)
        good = found & returned & (np.abs(back - points).max(axis=(1, 2)) < _RETURN_PX) & _inside(there, view.gray)
        if good.sum() < max(_FEWEST_POINTS, _FOLLOWED * len(points)):
            return "blank" if view.gray.std() < 2 else "cut"
        x, y = there[good][:, 0].astype(int).T
        good[good] = view.free[y, x] > 0
        if good.sum() < _FEWEST_POINTS:
            return "people"
        matrix, inliers = cv2.findHomography(points[good], there[good], cv2.USAC_MAGSAC, _ERROR_PX)
        if matrix is None or inliers.sum() < max(_FEWEST_POINTS, _INLIERS * good.sum()):
            return "cut"
        if not _is_possible(matrix @ np.linalg.inv(self._told), view.gray.shape):
            return "implausible"
        explained = inliers[:, 0] == 1
        return np.asarray(matrix, np.float64), points[good][explained], there[good][explained]


def _flow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points: NDArray[np.float32], expected: NDArray[np.float32], levels: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return where points (P, 1, 2) of one image are in another, near to where they are expected, and which of them (P,) were found."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        points,
        expected.copy(),
        winSize=(_WINDOW_PX, _WINDOW_PX),
        maxLevel=levels,
        criteria=_CRITERIA,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return np.asarray(there, np.float32), np.asarray(found[:, 0] == 1)


def _view(image: NDArray[np.uint8], letterbox: Letterbox, people: Sequence[Person]) -> _View:
    """Return the gray image of a letterboxed frame, the matrix from source pixels to it, and where no people are."""
    bottom, right = letterbox.top + letterbox.content_height, letterbox.left + letterbox.content_width
    gray = cv2.cvtColor(image[letterbox.top : bottom, letterbox.left : right], cv2.COLOR_RGB2GRAY)
    scale = min(1.0, _LONG_SIDE_PX / max(gray.shape))
    if scale < 1:
        gray = cv2.resize(gray, (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    scale_x, scale_y = gray.shape[1] / letterbox.source_width, gray.shape[0] / letterbox.source_height
    # OpenCV's positions are those of pixel centers: (0, 0) is the middle of the first pixel, half a pixel from the corner.
    to_flow = np.array(((scale_x, 0.0, -0.5), (0.0, scale_y, -0.5), (0.0, 0.0, 1.0)))
    free = np.full(gray.shape, 255, np.uint8)
    for person in people:
        x0, y0, x1, y1 = person.box.tolist()
        grow = _MARGIN * max(x1 - x0, y1 - y0)
        corners = np.array([(x0 - grow, y0 - grow, 1.0), (x1 + grow, y1 + grow, 1.0)]) @ to_flow[:2].T
        (first, top), (last, low) = np.clip(np.round(corners), 0, (gray.shape[1], gray.shape[0])).astype(int).tolist()
        free[top:low, first:last] = 0
    return _View(np.asarray(gray, np.uint8), to_flow, free)


def _mapped(matrix: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.perspectiveTransform(points, matrix), np.float32)


def _inside(points: NDArray[np.float32], gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which of the points (P, 1, 2) are in the picture."""
    return np.asarray(((points >= 0) & (points <= (gray.shape[1] - 1, gray.shape[0] - 1))).all(axis=(1, 2)))


def _is_possible(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Return whether a camera makes a homography between two frames."""
    motion = Motion(matrix / matrix[2, 2])
    middle = np.array((shape[1] / 2, shape[0] / 2), np.float32)
    corners = np.array(((0, 0), (shape[1], 0), (0, shape[0]), (shape[1], shape[0])), np.float32)
    depths = motion.depth(corners) / motion.depth(middle)
    if depths.min() < _DEPTH_RANGE[0] or depths.max() > _DEPTH_RANGE[1]:
        return False
    across, down = motion.vectors(np.array((1, 0), np.float32), middle).tolist()
    shift = float(np.hypot(*(motion.points(middle) - middle)))
    zoomed = _SCALE_RANGE[0] <= motion.scale(middle) <= _SCALE_RANGE[1]
    return zoomed and abs(math.atan2(down, across)) <= _LARGEST_ANGLE and shift <= _LARGEST_SHIFT * max(shape)
