"""A pose reduced to the parts that events depend on: head, shoulders, hips, feet and wrists, as far as they are visible."""

import math
from dataclasses import dataclass

from edgepose.person import Person

Point = tuple[float, float]
"""x and y in source pixels, y pointing down."""

_HEAD, _SHOULDERS, _HIPS, _ANKLES = (0, 1, 2, 3, 4), (5, 6), (11, 12), (15, 16)
_LEFT_WRIST, _RIGHT_WRIST = 9, 10
_EDGE_MARGIN = 0.01  # a box that ends this close to the lower edge of the frame, as a share of its height, is cut off


@dataclass(frozen=True, slots=True)
class Body:
    """One person in one frame, in source pixels.

    Attributes:
        box: x1 y1 x2 y2.
        size: square root of the area of the box, the unit of lengths and speeds of a body.
        head_top: y of the highest keypoint of the head, None if none is visible.
        shoulders, hips: midpoint of the visible keypoints of the pair, or None.
        feet: midpoint of the visible ankles; without ankles, the midpoint of the lower edge of the box. Where the frame cuts that off,
            None, or the center of the box of a person without a pose, who is small.
        wrists: left and right, None if not visible.
        points: all visible keypoints by index.
    """

    box: tuple[float, float, float, float]
    size: float
    head_top: float | None
    shoulders: Point | None
    hips: Point | None
    feet: Point | None
    wrists: tuple[Point | None, Point | None]
    points: dict[int, Point]

    @classmethod
    def from_person(cls, person: Person, frame_height: int, keypoint_threshold: float) -> "Body":
        """Return the body of a person.

        Args:
            person: in source pixels.
            frame_height: height of the frame in pixels.
            keypoint_threshold: confidence below which a keypoint is not visible.
        """
        # Plain numbers: the overhead of a NumPy call exceeds the cost of these sums.
        points = {index: (x, y) for index, (x, y, confidence) in enumerate(person.keypoints.tolist()) if confidence >= keypoint_threshold}
        left, top, right, bottom = person.box.tolist()
        feet = _midpoint(points, _ANKLES)
        if feet is None and bottom < frame_height * (1 - _EDGE_MARGIN):
            feet = ((left + right) / 2, bottom)
        elif feet is None and not person.has_pose:
            feet = ((left + right) / 2, (top + bottom) / 2)
        return cls(
            box=(left, top, right, bottom),
            size=math.sqrt(max(1.0, (right - left) * (bottom - top))),
            head_top=min((points[index][1] for index in _HEAD if index in points), default=None),
            shoulders=_midpoint(points, _SHOULDERS),
            hips=_midpoint(points, _HIPS),
            feet=feet,
            wrists=(points.get(_LEFT_WRIST), points.get(_RIGHT_WRIST)),
            points=points,
        )

    @property
    def upright(self) -> bool:
        """Whether the trunk points up in the frame, standing or sitting. False if shoulders or hips are not visible."""
        if self.shoulders is None or self.hips is None:
            return False
        return self.hips[1] - self.shoulders[1] > abs(self.shoulders[0] - self.hips[0])

    @property
    def center(self) -> Point:
        """Center of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def _midpoint(points: dict[int, Point], pair: tuple[int, int]) -> Point | None:
    """Return the midpoint of a pair of keypoints, the visible one of the two, or None."""
    first, second = points.get(pair[0]), points.get(pair[1])
    if first is None or second is None:
        return first or second
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
