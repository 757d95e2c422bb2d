"""The places of the people of one camera on the ground, frame by frame."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from edgepose.config.aircraft import FlightConfig, MountConfig
from edgepose.earth import LocalFrame
from edgepose.flight.expected_sizes import PoseAt
from edgepose.flight.geometry import CameraView, Lens, ViewErrors, place
from edgepose.flight.history import AircraftPose
from edgepose.flight.locator_state import GroundLocatorState
from edgepose.flight.mount import errors_of, lens_of, view_of
from edgepose.flight.rotations import yaw_of
from edgepose.flight.sightings import credibility, sighting_of
from edgepose.frame import NS_PER_S
from edgepose.ground import Aircraft, GroundPlace, TelemetryState
from edgepose.person import Person

_SPEED_WINDOW_S, _SPEED_AFTER_S = 3.0, 1.0
_TRACKS_LIMIT = 512
_PATH_STEP_NS = 90_000_000  # between two points of a path


class Origin:
    """The point that `east_m` and `north_m` count from: the configured one, or the first position of the run.

    Attributes:
        frame: None until there is a position.
    """

    def __init__(self, settings: FlightConfig) -> None:
        self.frame = None if settings.origin is None else LocalFrame(*settings.origin)

    def meters(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Return meters east and north; the first call sets the origin where there is none."""
        if self.frame is None:
            self.frame = LocalFrame(latitude, longitude)
        return self.frame.meters(latitude, longitude)


class TelemetryRecord(msgspec.Struct, frozen=True):
    """What places the people of a frame: the pose of the aircraft, or what is missing; and the origin at that time, in degrees."""

    pose: AircraftPose | TelemetryState
    origin: tuple[float, float] | None


class GroundLocator:
    """The locator of one camera; used by one thread.

    Args:
        mount: of the camera.
        settings: section `flight`.
        pose_at: telemetry.
        origin: shared by all cameras.
        keypoint_threshold: confidence below which a keypoint is not visible.
    """

    def __init__(self, mount: MountConfig, settings: FlightConfig, pose_at: PoseAt, origin: Origin, keypoint_threshold: float) -> None:
        self._mount = mount
        self._settings = settings
        self._pose_at = pose_at
        self._origin = origin
        self._keypoint_threshold = keypoint_threshold
        self._lens: tuple[tuple[int, int], Lens] | None = None
        self._view: CameraView | None = None
        self._errors = ViewErrors()
        self._pose: AircraftPose | TelemetryState = "no_telemetry"
        self._paths: dict[int, deque[tuple[int, float, float]]] = {}  # by track: time, east, north

    @property
    def weighs_sizes(self) -> bool:
        """Whether `weighed` is wanted."""
        return self._settings.weigh_sizes

    def begin(self, time_ns: int, size: tuple[int, int]) -> Aircraft:
        """Take the pose of the aircraft for a frame.

        Args:
            time_ns: capture time on the monotonic clock.
            size: width and height of the frame.
        """
        self._view = None
        pose = self._pose = self._pose_at(time_ns - round(self._mount.delay_s * NS_PER_S), self._mount.gimbal)
        if not isinstance(pose, AircraftPose):
            return Aircraft(pose)
        if self._lens is None or self._lens[0] != size:
            self._lens = size, lens_of(self._mount, *size)
        east_m = north_m = 0.0
        if pose.latitude is not None and pose.longitude is not None:
            east_m, north_m = self._origin.meters(pose.latitude, pose.longitude)
        view = view_of(self._mount, pose, east_m, north_m, self._lens[1])
        if view.position[2] > 0:
            self._view, self._errors = view, errors_of(self._mount, pose, self._settings)
        frame, forward = self._origin.frame, view.axes[:, 2]
        return Aircraft(
            "ok",
            age_ms=pose.age_s * 1e3,
            origin=None if frame is None or pose.latitude is None else (frame.latitude, frame.longitude),
            latitude=pose.latitude,
            longitude=pose.longitude,
            height_m=float(view.position[2]),
            ground_altitude_m=None if pose.altitude_m is None else pose.altitude_m - pose.height_m,
            heading_deg=math.degrees(yaw_of(pose.attitude.quaternion)) % 360,
            camera_pitch_deg=math.degrees(math.asin(max(-1.0, min(1.0, float(forward[2]))))),
            camera_heading_deg=math.degrees(math.atan2(forward[0], forward[1])) % 360,
        )

    def weighed(self, people: Sequence[Person]) -> list[Person]:
        """Return people with lower scores where nobody can be, or nobody of that size; in the frame of the last `begin`."""
        view = self._view
        if view is None:
            return list(people)
        return [replace(person, score=person.score * credibility(person, view)) for person in people]

    def located(self, people: Sequence[Person], time_ns: int, size: tuple[int, int]) -> list[Person]:
        """Return people with their places, in the frame of the last `begin`; those without one are above the horizon, or near it."""
        view = self._view
        if view is None:
            return list(people)
        found = [self._place(person, view, size) for person in people]
        nearest = _nearest(found)
        return [
            person if spot is None else replace(person, ground=self._described(spot, person.track, near_m, time_ns))
            for person, spot, near_m in zip(people, found, nearest, strict=True)
        ]

    def reset(self) -> None:
        """Forget where people were: at a new epoch."""
        self._paths = {}

    def follow(self, before: "GroundLocator | None") -> None:
        """Go on with what another locator of this camera knows of people, unless its meters count from elsewhere."""
        if before is not None and before._origin is self._origin:
            self._paths = before._paths

    def record(self) -> TelemetryRecord:
        """Return what placed the people of the frame of the last `begin`."""
        frame = self._origin.frame
        return TelemetryRecord(self._pose, None if frame is None else (frame.latitude, frame.longitude))

    def snapshot(self) -> GroundLocatorState:
        """Return what is known of people; later frames do not change it."""
        return GroundLocatorState({track: list(path) for track, path in self._paths.items()})

    def restore(self, state: GroundLocatorState) -> None:
        """Continue from a snapshot."""
        self._paths = {track: deque(path) for track, path in state.paths.items()}

    def _place(self, person: Person, view: CameraView, size: tuple[int, int]) -> tuple[float, float, float] | None:
        return place(view, sighting_of(person, view, size, self._keypoint_threshold), self._errors)

    def _described(self, spot: tuple[float, float, float], track: int | None, nearest_m: float | None, time_ns: int) -> GroundPlace:
        east_m, north_m, radius_m = spot
        frame = self._origin.frame
        latitude, longitude = (None, None) if frame is None else frame.degrees(east_m, north_m)
        velocity = None if track is None else self._velocity(track, time_ns, east_m, north_m)
        return GroundPlace(
            east_m,
            north_m,
            radius_m,
            latitude,
            longitude,
            speed_mps=None if velocity is None else math.hypot(*velocity),
            course_deg=None if velocity is None else math.degrees(math.atan2(*velocity)) % 360,
            nearest_m=nearest_m,
        )

    def _velocity(self, track: int, time_ns: int, east_m: float, north_m: float) -> tuple[float, float] | None:
        """Return meters per second east and north over the last seconds of a track, by least squares."""
        path = self._paths.pop(track, None) or deque()
        self._paths[track] = path  # last: the first one is the one unseen for longest
        if len(self._paths) > _TRACKS_LIMIT:
            del self._paths[next(iter(self._paths))]
        if path and time_ns <= path[-1][0]:
            path.clear()
        if not path or time_ns - path[-1][0] >= _PATH_STEP_NS:
            path.append((time_ns, east_m, north_m))
        while time_ns - path[0][0] > _SPEED_WINDOW_S * NS_PER_S:
            path.popleft()
        if time_ns - path[0][0] < _SPEED_AFTER_S * NS_PER_S:
            return None
        rows = np.array(path, np.float64)
        seconds = (rows[:, 0] - time_ns) / NS_PER_S
        seconds -= seconds.mean()
        east, north = (seconds @ rows[:, 1:] / (seconds @ seconds)).tolist()
        return east, north


def _nearest(spots: Sequence[tuple[float, float, float] | None]) -> list[float | None]:
    """Return the distance of each place to the nearest other one."""
    placed = [index for index, spot in enumerate(spots) if spot is not None]
    nearest: list[float | None] = [None] * len(spots)
    if len(placed) > 1:
        points = np.array([spots[index] for index in placed], np.float64)[:, :2]
        distances = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        np.fill_diagonal(distances, np.inf)
        for index, distance in zip(placed, distances.min(0).tolist(), strict=True):
            nearest[index] = distance
    return nearest
