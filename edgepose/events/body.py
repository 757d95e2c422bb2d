"""One pose reduced to what events are made of: where head, shoulders, hips, feet and wrists are, if they are seen at all."""

import math
from dataclasses import dataclass

from edgepose.person import Person

Point = tuple[float, float]
"""x, y in source pixels, y downwards."""

_HEAD, _SHOULDERS, _HIPS, _ANKLES = (0, 1, 2, 3, 4), (5, 6), (11, 12), (15, 16)
_LEFT_WRIST, _RIGHT_WRIST = 9, 10
_EDGE = 0.01  # share of the picture's side at which a box counts as cut off


@dataclass(frozen=True, slots=True)
class Body:
    """One person at one moment, in source pixels.

    Attributes:
        box: x1 y1 x2 y2.
        size: square root of the box's area, the unit of lengths and speeds of a body.
        head_top: y of the highest keypoint of the head, None where none is seen.
        shoulders, hips: middles of what is seen of both, or None.
        feet: middle of the ankles where they are seen, else of the box's lower side, or None where the picture cuts that off.
        wrists: left and right, None where not seen.
        points: all keypoints that are seen, by index.
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
    def of(cls, person: Person, height: int, threshold: float) -> "Body":
        """Reduces a pose.

        Args:
            height: of the picture, pixels.
            threshold: keypoints below this confidence are not seen.
        """
        # Plain numbers: NumPy takes longer to be called than these take to be added.
        points = {index: (x, y) for index, (x, y, confidence) in enumerate(person.keypoints.tolist()) if confidence >= threshold}
        left, top, right, bottom = person.box.tolist()
        feet = _middle(points, _ANKLES)
        if feet is None and bottom < height * (1 - _EDGE):
            feet = ((left + right) / 2, bottom)
        return cls(
            box=(left, top, right, bottom),
            size=math.sqrt(max(1.0, (right - left) * (bottom - top))),
            head_top=min((points[index][1] for index in _HEAD if index in points), default=None),
            shoulders=_middle(points, _SHOULDERS),
            hips=_middle(points, _HIPS),
            feet=feet,
            wrists=(points.get(_LEFT_WRIST), points.get(_RIGHT_WRIST)),
            points=points,
        )

    @property
    def upright(self) -> bool:
        """Whether the trunk points upwards in the picture, standing or sitting; not where shoulders or hips are not seen."""
        if self.shoulders is None or self.hips is None:
            return False
        return self.hips[1] - self.shoulders[1] > abs(self.shoulders[0] - self.hips[0])

    @property
    def centre(self) -> Point:
        """Middle of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def _middle(points: dict[int, Point], pair: tuple[int, int]) -> Point | None:
    first, second = points.get(pair[0]), points.get(pair[1])
    if first is None or second is None:
        return first or second
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
