"""Places against closed-form truth: cameras that look down, ahead and aslant, with a lens that distorts, and their errors drawn."""

import math

import numpy as np
import pytest

from edgepose.flight.geometry import (
    CameraView,
    Lens,
    Sighting,
    ViewErrors,
    apparent_size_m,
    down_in_frame,
    place,
)
from edgepose.flight.rotations import CAMERA_TO_BODY, NED_TO_ENU, between, matrix, quaternion, turned, yaw_of

LENS = Lens.with_field_of_view(90, 1000, 600)  # focal length 500 px
EXACT = ViewErrors()


def view(*, pitch: float = -90.0, heading: float = 0.0, roll: float = 0.0, height: float = 40.0, lens: Lens = LENS) -> CameraView:
    body = quaternion(*map(math.radians, (roll, pitch, heading)))
    return CameraView(lens, np.array([0.0, 0.0, height]), NED_TO_ENU @ matrix(body) @ CAMERA_TO_BODY)


def test_straight_down_the_frame_is_a_map_with_the_heading_on_top() -> None:
    assert place(view(), Sighting(500, 300), EXACT) == pytest.approx((0, 0, 0), abs=1e-9)
    assert place(view(), Sighting(750, 300), EXACT) == pytest.approx((20, 0, 0), abs=1e-9)  # right is east
    assert place(view(), Sighting(500, 50), EXACT) == pytest.approx((0, 20, 0), abs=1e-9)  # up is north
    assert place(view(heading=90), Sighting(500, 50), EXACT) == pytest.approx((20, 0, 0), abs=1e-9)
    assert place(view(), Sighting(750, 300, height_m=2.0), EXACT) == pytest.approx((19, 0, 0), abs=1e-9)


@pytest.mark.parametrize("pitch", [-20.0, -30.0, -45.0, -60.0])
@pytest.mark.parametrize("heading", [0.0, 135.0, 300.0])
def test_aslant_the_middle_of_the_frame_lies_at_height_over_tangent(pitch: float, heading: float) -> None:
    found = place(view(pitch=pitch, heading=heading), Sighting(500, 300), EXACT)
    distance = 40 / math.tan(math.radians(-pitch))
    assert found == pytest.approx((distance * math.sin(math.radians(heading)), distance * math.cos(math.radians(heading)), 0), abs=1e-9)


def test_places_and_pixels_are_inverse_also_with_roll_and_distortion() -> None:
    lens = Lens(480, 500, 510, 290, (-0.21, 0.06, 0.001, -0.002, 0.01))
    camera = view(pitch=-50, heading=20, roll=12, lens=lens)
    for point in ((10.0, 30.0), (-8.0, 25.0), (15.0, 50.0)):
        x, y = camera.pixels(np.array([[*point, 0.0]]))[0].tolist()
        assert place(camera, Sighting(x, y), EXACT) == pytest.approx((*point, 0), abs=1e-3)


@pytest.mark.parametrize("pitch", [-25.0, -45.0, -75.0, -90.0])
def test_the_radius_holds_95_of_100_drawn_errors(pitch: float) -> None:
    random = np.random.default_rng(7)
    errors = ViewErrors(tilt=math.radians(1.5), heading=math.radians(4), mount=math.radians(1), height_m=1.5, position_m=2)
    sighting = Sighting(620, 380, 3.0, 0.1, 0.1)
    truth = view(pitch=pitch)
    found = place(truth, sighting, errors)
    assert found is not None
    inside = 0
    for _ in range(2000):
        tilts = random.normal(0, (errors.tilt, errors.tilt, errors.heading)) + random.normal(0, errors.mount, 3)
        angle = float(np.linalg.norm(tilts))
        x, y, z = tilts / angle * math.sin(angle / 2)
        turn = matrix((math.cos(angle / 2), float(x), float(y), float(z)))
        moved = CameraView(LENS, truth.position + random.normal(0, (2, 2, 1.5)), turn @ truth.axes)
        pixel = random.normal(0, 3, 2)
        drawn = place(moved, Sighting(620 + pixel[0], 380 + pixel[1], height_m=0.1 + random.normal(0, 0.1)), EXACT)
        inside += drawn is not None and math.dist(drawn[:2], found[:2]) <= found[2]
    assert inside >= 0.94 * 2000
    assert found[2] < 0.6 * math.hypot(40, *found[:2])  # and says something


def test_nobody_is_placed_at_the_horizon_above_it_or_where_errors_reach_over_it() -> None:
    camera = view(pitch=0)
    assert place(camera, Sighting(500, 300), EXACT) is None
    assert place(camera, Sighting(500, 200), EXACT) is None
    assert place(camera, Sighting(500, 345), EXACT) is not None  # 5 degrees below
    assert place(camera, Sighting(500, 345), ViewErrors(tilt=math.radians(2))) is None
    assert place(view(height=-1.0), Sighting(500, 300), EXACT) is None


def test_a_person_is_as_large_as_the_distance_says() -> None:
    assert apparent_size_m(view(), (490, 280, 510, 300)) == pytest.approx(20 * 40 / 500)
    assert apparent_size_m(view(pitch=0), (490, 100, 510, 200)) is None


def test_things_fall_down_in_the_frame_unless_seen_from_straight_above() -> None:
    assert down_in_frame(view(pitch=-20), 500, 300) == pytest.approx((0, 1))
    assert down_in_frame(view(pitch=-20, roll=90), 500, 300) == pytest.approx((1, 0), abs=1e-9)
    assert down_in_frame(view(), 500, 300) == (0.0, 0.0)
    assert down_in_frame(view(), 700, 300) == pytest.approx((-1, 0))  # toward the foot of the camera


def test_attitudes_are_interpolated_the_short_way_and_go_on_at_their_rates() -> None:
    a, b = quaternion(0, 0, math.radians(170)), quaternion(0, 0, math.radians(-170))
    assert abs(math.degrees(yaw_of(between(a, b, 0.5)))) == pytest.approx(180)
    assert abs(math.degrees(yaw_of(between(a, tuple(-value for value in b), 0.25)))) == pytest.approx(175)  # type: ignore[arg-type]
    assert yaw_of(turned(quaternion(0, 0, 0.1), (0, 0, 0.5), 0.4)) == pytest.approx(0.3)
