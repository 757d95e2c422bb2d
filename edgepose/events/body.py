"""A pose reduced to the parts that events depend on: head, shoulders, hips, feet and wrists, as far as they are visible."""

import math
from dataclasses import dataclass

from edgepose.person import Person

Point = tuple[float, float]
"""x and y in source pixels, y pointing down."""

_HEAD, _SHOULDERS, _HIPS, _ANKLES = (0, 1, 2, 3, 4), (5, 6), (11, 12), (15, 16)
_ELBOWS, _WRISTS = (7, 8), (9, 10)
_FORESHORTENED = 0.4  # length in body sizes: 0.65 from 60 degrees above, 0.1 to 0.3 from straight above
_LEVEL_LENGTH, _STEEP_LENGTH = 1.1, 0.6  # of a person who stands, from the side and from 60 degrees above
_TRUNKS = 2.4  # length of a standing body in trunks, where the ankles are not visible
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
        elbows, wrists: left and right, None if not visible.
        length: distance of the shoulders from the ankles in body sizes, or what the trunk says of it; None if neither is visible.
        points: all visible keypoints by index.
    """

    box: tuple[float, float, float, float]
    size: float
    head_top: float | None
    shoulders: Point | None
    hips: Point | None
    feet: Point | None
    elbows: tuple[Point | None, Point | None]
    wrists: tuple[Point | None, Point | None]
    length: float | None
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
        shoulders, hips, ankles = (_midpoint(points, pair) for pair in (_SHOULDERS, _HIPS, _ANKLES))
        size = math.sqrt(max(1.0, (right - left) * (bottom - top)))
        feet = ankles
        if feet is None and bottom < frame_height * (1 - _EDGE_MARGIN):
            feet = ((left + right) / 2, bottom)
        elif feet is None and not person.has_pose:
            feet = ((left + right) / 2, (top + bottom) / 2)
        return cls(
            box=(left, top, right, bottom),
            size=size,
            head_top=min((points[index][1] for index in _HEAD if index in points), default=None),
            shoulders=shoulders,
            hips=hips,
            feet=feet,
            elbows=(points.get(_ELBOWS[0]), points.get(_ELBOWS[1])),
            wrists=(points.get(_WRISTS[0]), points.get(_WRISTS[1])),
            length=_length(shoulders, hips, ankles, size),
            points=points,
        )

    @property
    def upright(self) -> bool:
        """Whether the trunk points up in the frame, standing or sitting. False if shoulders or hips are not visible, or seen from above."""
        if self.shoulders is None or self.hips is None or self.foreshortened:
            return False
        return self.hips[1] - self.shoulders[1] > abs(self.shoulders[0] - self.hips[0])

    @property
    def foreshortened(self) -> bool:
        """Whether the body is seen along its length, as from straight above."""
        return self.length is not None and self.length < _FORESHORTENED

    @property
    def steepness(self) -> float:
        """How steeply the camera looks down on the person, if that is one who stands: 0 from the side, 1 from 60 degrees above or more."""
        if self.length is None:
            return 0.0
        return min(1.0, max(0.0, (_LEVEL_LENGTH - self.length) / (_LEVEL_LENGTH - _STEEP_LENGTH)))

    @property
    def center(self) -> Point:
        """Center of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def _length(shoulders: Point | None, hips: Point | None, ankles: Point | None, size: float) -> float | None:
    if shoulders is None or (hips is None and ankles is None):
        return None
    if ankles is not None:
        return math.dist(shoulders, ankles) / size
    assert hips is not None
    return _TRUNKS * math.dist(shoulders, hips) / size


def _midpoint(points: dict[int, Point], pair: tuple[int, int]) -> Point | None:
    """Return the midpoint of a pair of keypoints, the visible one of the two, or None."""
    first, second = points.get(pair[0]), points.get(pair[1])
    if first is None or second is None:
        return first or second
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
