"""People: the candidates of the pose network (`Candidates`) and the people in a frame (`Person`)."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.ground import GroundPlace

KEYPOINT_NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""The 17 COCO keypoints in COCO order."""

SKELETON = (
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (6, 12),
    (11, 12),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
)
"""Pairs of keypoints that form the bones of the skeleton."""

FLIP_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
"""Pairs of left and right keypoints, which swap in a mirrored image."""

HEAD_KEYPOINTS, SHOULDER_KEYPOINTS = (0, 1, 2, 3, 4), (5, 6)
"""Numbers of the keypoints of the head and of the shoulders."""

OKS_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072,
    0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
)  # fmt: skip
"""Per-keypoint standard deviations of COCO's object keypoint similarity (OKS)."""


class Candidates(msgspec.Struct, frozen=True, eq=False):
    """The K best candidates of N frames, in pixels of the letterboxed input.

    Attributes:
        boxes: float32 (N, K, 4), x1 y1 x2 y2.
        scores: float32 (N, K), 0 to 1, falling.
        keypoints: float32 (N, K, 17, 3), x y confidence (0 to 1).
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person in one frame.

    Attributes:
        box: float32 (4,), x1 y1 x2 y2 in source pixels; (0, 0) is the top-left corner of the top-left pixel.
        score: 0 to 1.
        keypoints: float32 (17, 3), x y confidence in COCO order, x and y in source pixels.
        track: track number, which stays the same for a person from frame to frame, or None if the person is not tracked.
        ground: place on the ground; None where there is no telemetry, or the place cannot be told.
    """

    box: NDArray[np.float32]
    score: float
    keypoints: NDArray[np.float32]
    track: int | None = None
    ground: GroundPlace | None = None

    @property
    def has_pose(self) -> bool:
        """Whether any keypoint has a confidence above 0; otherwise only the box is known."""
        return bool(self.keypoints[:, 2].any())
