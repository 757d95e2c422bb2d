"""The view of a camera from its mount and the pose of what carries it."""

import math

import numpy as np

from edgepose.config.aircraft import FlightConfig, MountConfig
from edgepose.flight.geometry import CameraView, Lens, ViewErrors
from edgepose.flight.history import AircraftPose
from edgepose.flight.rotations import CAMERA_TO_BODY, NED_TO_ENU, Matrix, matrix, multiplied, quaternion, yaw_of

_TIMING_ERROR_S = 0.03  # between the clock of frames and that of telemetry, one standard deviation
_TURNS_PER_S = math.radians(4)  # growth of the error of an attitude with its age: wind and stick, beyond the rates that are known
_PUSH_MPS2 = 1.5  # acceleration that is not known, one standard deviation


def lens_of(mount: MountConfig, width: int, height: int) -> Lens:
    """Return the lens of a camera for frames of a size."""
    intrinsics = mount.intrinsics
    if intrinsics is None:
        assert mount.field_of_view_deg is not None
        return Lens.with_field_of_view(mount.field_of_view_deg, width, height)
    measured = Lens(
        intrinsics.focal_x_px, intrinsics.focal_y_px, intrinsics.center_x_px, intrinsics.center_y_px, tuple(intrinsics.distortion)
    )
    return measured.scaled(width / intrinsics.width, height / intrinsics.height)


def axes_of(mount: MountConfig, pose: AircraftPose) -> Matrix:
    """Return the axes of a camera (right, down, forward as columns) in the world (east, north, up)."""
    on_mount = quaternion(*map(math.radians, (mount.roll_deg, mount.pitch_deg, mount.yaw_deg)))
    carrier = pose.attitude.quaternion
    if mount.gimbal and pose.gimbal is not None:
        carrier = pose.gimbal.quaternion
        if pose.gimbal.from_nose:
            carrier = multiplied(quaternion(0.0, 0.0, yaw_of(pose.attitude.quaternion)), carrier)
    return NED_TO_ENU @ matrix(multiplied(carrier, on_mount)) @ CAMERA_TO_BODY


def view_of(mount: MountConfig, pose: AircraftPose, east_m: float, north_m: float, lens: Lens) -> CameraView:
    """Return the view of a camera.

    Args:
        mount: of the camera.
        pose: of what carries it.
        east_m, north_m: position of what carries it.
        lens: for the size of the frame.
    """
    lever = NED_TO_ENU @ matrix(pose.attitude.quaternion) @ np.array(mount.position_m)
    return CameraView(lens, np.array([east_m, north_m, pose.height_m]) + lever, axes_of(mount, pose))


def errors_of(mount: MountConfig, pose: AircraftPose, settings: FlightConfig) -> ViewErrors:
    """Return the errors of a view: those configured, and what age and timing add to them."""
    rate = math.sqrt(sum(each * each for each in pose.attitude.rates))
    added = math.hypot(rate * _TIMING_ERROR_S, _TURNS_PER_S * pose.age_s)
    drift_m = _PUSH_MPS2 * pose.age_s**2 / 2
    return ViewErrors(
        tilt=math.hypot(math.radians(settings.tilt_error_deg), added),
        heading=math.hypot(math.radians(settings.heading_error_deg), added),
        mount=math.radians(mount.angle_error_deg),
        height_m=math.hypot(settings.height_error_m, drift_m),
        position_m=math.hypot(settings.position_error_m, drift_m),
    )
