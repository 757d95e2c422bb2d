"""How large people are in parts of a frame: against the projection of somebody who stands there, and above the horizon."""

import math

import numpy as np
import pytest

from edgepose.config.aircraft import FixedConfig, FlightConfig, MountConfig
from edgepose.config.schema import CameraConfig, Config, TilesConfig
from edgepose.flight.expected_sizes import people_sizes_px
from edgepose.flight.geometry import CameraView, Lens
from edgepose.flight.rotations import CAMERA_TO_BODY, NED_TO_ENU, matrix, quaternion
from edgepose.flight.service import FlightService
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.tiles import cover, tile_needs
from edgepose.tile import Tile

WIDTH, HEIGHT = 1920, 1080
LENS = Lens.with_field_of_view(70, WIDTH, HEIGHT)
WHOLE = Letterbox.fit(HEIGHT, WIDTH, 192, 320)


def view(pitch: float, height: float = 40.0, roll: float = 0.0, lens: Lens = LENS) -> CameraView:
    body = quaternion(math.radians(roll), math.radians(pitch), 0.0)
    return CameraView(lens, np.array([0.0, 0.0, height]), NED_TO_ENU @ matrix(body) @ CAMERA_TO_BODY)


@pytest.mark.parametrize("pitch", [-20.0, -45.0, -70.0])
def test_a_person_who_stands_in_a_part_has_a_size_between_the_two(pitch: float) -> None:
    camera = view(pitch)
    for north in (40 / math.tan(math.radians(-pitch) + offset) for offset in (-0.1, 0.0, 0.1)):
        outline = np.array([(x, north + y, z) for x in (-0.25, 0.25) for y in (-0.25, 0.25) for z in (0.0, 1.7)])
        pixels = camera.pixels(outline)
        side = float((pixels.max(0) - pixels.min(0)).max())
        x, y = camera.pixels(np.array([(0.0, north, 0.0)]))[0].tolist()
        part = Tile(int(x) - 160, int(y) - 96, int(x) + 160, int(y) + 96)
        (smallest, largest) = people_sizes_px(camera, [part], 0.0)[0].tolist()
        assert smallest * 0.7 < side < largest * 1.3


def test_above_the_horizon_nobody_is_and_near_it_somebody_may_be() -> None:
    sky, ground, edge = Tile(800, 0, 1100, 100), Tile(800, 900, 1100, 1000), Tile(800, 500, 1100, 560)
    sizes = people_sizes_px(view(pitch=0.0), [sky, ground, edge], 0.0)
    assert sizes[0].tolist() == [0, 0]
    assert sizes[1, 0] > 10
    assert sizes[2, 0] == 0
    assert 0 < sizes[2, 1] < 3
    wider = people_sizes_px(view(pitch=0.0), [sky, ground, edge], math.radians(3))
    assert wider[0].tolist() == [0, 0]
    assert wider[2, 1] > 2 * sizes[2, 1]
    assert people_sizes_px(view(pitch=-90, roll=180), [sky], 0.0)[0, 0] > 0


def test_the_horizon_of_a_camera_that_rolls_is_aslant() -> None:
    left, right = Tile(0, 500, 100, 560), Tile(1820, 500, 1920, 560)
    low, high = people_sizes_px(view(pitch=0.0, roll=30), [left, right], 0.0)[:, 1].tolist()
    assert (low == 0) != (high == 0)


def fixed(pitch_deg: float, height_m: float) -> list[float] | None:
    mount = MountConfig(field_of_view_deg=70, pitch_deg=pitch_deg)
    flight = FlightConfig(source="fixed", fixed=FixedConfig(height_m=height_m))
    sizes = FlightService(Config(cameras={"a": CameraConfig(source="x", mount=mount)}, flight=flight)).expected_sizes("a")
    assert sizes is not None
    found = sizes.of(0, (WIDTH, HEIGHT), cover(WHOLE, TilesConfig().scale))
    return None if found is None else tile_needs(found, WHOLE, TilesConfig().scale)


def test_a_mast_skips_the_sky_and_seldom_looks_again_at_those_who_stand_below() -> None:
    needs = fixed(-8, 3.5)
    assert needs is not None
    assert np.array(needs).reshape(-1, 7)[:, 3].tolist() == [0, 1, 1, 1, 1, 1, 1, 0.25]  # seven tiles in a row
    assert set(fixed(-60, 30) or ()) == {1}
    assert set(fixed(-90, 250) or ()) == {0}  # people of 3 px


def test_without_telemetry_nothing_is_known() -> None:
    mount = MountConfig(field_of_view_deg=70)
    flying = Config(cameras={"a": CameraConfig(source="x", mount=mount)}, flight=FlightConfig(source="mqtt", topic="t"))
    sizes = FlightService(flying).expected_sizes("a")
    assert sizes is not None
    assert sizes.of(10**18, (WIDTH, HEIGHT), [Tile(0, 0, 10, 10)]) is None
    assert FlightService(Config(cameras={"a": CameraConfig(source="x")})).expected_sizes("a") is None
