"""How large people are in parts of a frame, from telemetry: which parts a closer look helps, and which show no ground."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgepose.config.aircraft import FlightConfig, MountConfig
from edgepose.flight.geometry import CameraView, Lens, depression
from edgepose.flight.history import AircraftPose
from edgepose.flight.mount import errors_of, lens_of, view_of
from edgepose.frame import NS_PER_S
from edgepose.ground import TelemetryState
from edgepose.tile import Tile

PoseAt = Callable[[int, bool], AircraftPose | TelemetryState]
"""Returns the pose of the aircraft at a time of the monotonic clock; the flag says whether the gimbal's attitude is needed."""

_TALL_M, _WIDE_M = 1.7, 0.5  # of a person who stands, seen from the side and from above
_GRID = np.linspace(0.0, 1.0, 3)  # of a part of the frame, where people are thought
_MARGIN_SIGMAS = 2.0


def people_sizes_px(view: CameraView, parts: Sequence[Tile], margin: float) -> NDArray[np.float64]:
    """Return the sizes of people in parts of a frame (P, 2): the smallest and the largest of the longer side, in source pixels.

    Args:
        view: of the camera.
        parts: of the frame.
        margin: angle in radians by which the horizon may be elsewhere. The largest size holds for lines of sight that fall by so much
            more; it is 0 where even those do not fall. The smallest is 0 where one without the margin does not fall.
    """
    corners = np.array([(part.left, part.top, part.right, part.bottom) for part in parts], np.float64).reshape(-1, 4)
    x = corners[:, None, 0] + (corners[:, 2] - corners[:, 0])[:, None] * np.tile(_GRID, 3)  # (P, 9)
    y = corners[:, None, 1] + (corners[:, 3] - corners[:, 1])[:, None] * np.repeat(_GRID, 3)
    directions = view.directions(np.stack((x, y), -1).reshape(-1, 2))
    falls = depression(directions)
    lengths = np.linalg.norm(directions, axis=1)

    def sizes(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        below = np.clip(angles, 0.0, math.pi / 2)
        distances = float(view.position[2]) / np.maximum(np.sin(below) * lengths, 1e-9)  # along the optical axis
        seen_m = _TALL_M * np.cos(below) + _WIDE_M * np.sin(below)
        return np.where(angles > 0, seen_m * view.lens.focal_y_px / distances, 0.0).reshape(len(parts), -1)

    return np.stack((sizes(falls).min(1, initial=np.inf), sizes(falls + margin).max(1, initial=0.0)), -1)


class ExpectedSizes:
    """The expected sizes of the people of one camera; used by one thread.

    Args:
        mount: of the camera.
        settings: section `flight`.
        pose_at: telemetry.
    """

    def __init__(self, mount: MountConfig, settings: FlightConfig, pose_at: PoseAt) -> None:
        self._mount = mount
        self._settings = settings
        self._pose_at = pose_at
        self._lens: tuple[tuple[int, int], Lens] | None = None

    def of(self, time_ns: int, size: tuple[int, int], parts: Sequence[Tile]) -> NDArray[np.float64] | None:
        """Return sizes in parts of a frame, as `people_sizes_px` does; None where telemetry is missing.

        Args:
            time_ns: capture time on the monotonic clock.
            size: width and height of the frame.
            parts: of the frame.
        """
        pose = self._pose_at(time_ns - round(self._mount.delay_s * NS_PER_S), self._mount.gimbal)
        if not isinstance(pose, AircraftPose):
            return None
        if self._lens is None or self._lens[0] != size:
            self._lens = size, lens_of(self._mount, *size)
        view = view_of(self._mount, pose, 0.0, 0.0, self._lens[1])
        if view.position[2] <= 0:
            return None
        errors = errors_of(self._mount, pose, self._settings)
        return people_sizes_px(view, parts, _MARGIN_SIGMAS * math.hypot(errors.tilt, errors.mount))
