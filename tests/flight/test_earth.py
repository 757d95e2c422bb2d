"""The flat frame against the ellipsoid, through Earth-centered coordinates."""

import math

import numpy as np
import pytest

from edgepose.earth import LocalFrame


def centered(latitude: float, longitude: float) -> np.ndarray:
    """Return Earth-centered meters of a place on the ellipsoid."""
    a, e2 = 6_378_137.0, 0.00669437999014
    phi, lam = math.radians(latitude), math.radians(longitude)
    normal = a / math.sqrt(1 - e2 * math.sin(phi) ** 2)
    flat = normal * math.cos(phi)
    return np.array([flat * math.cos(lam), flat * math.sin(lam), normal * (1 - e2) * math.sin(phi)])


@pytest.mark.parametrize("latitude", [-60.0, 0.0, 47.4, 70.0])
def test_meters_agree_with_the_ellipsoid_and_turn_back_into_degrees(latitude: float) -> None:
    frame = LocalFrame(latitude, 8.5)
    for east, north in ((300.0, -400.0), (1500.0, 2000.0)):
        there = frame.degrees(east, north)
        assert frame.meters(*there) == pytest.approx((east, north), abs=1e-6)
        chord = float(np.linalg.norm(centered(*there) - centered(latitude, 8.5)))
        assert chord == pytest.approx(math.hypot(east, north), rel=1e-3)


def test_the_date_line_is_no_edge() -> None:
    frame = LocalFrame(0.0, 179.999)
    east, _ = frame.meters(0.0, -179.999)
    assert east == pytest.approx(0.002 * 111_319.49, rel=1e-4)
    assert frame.degrees(east, 0.0)[1] == pytest.approx(-179.999)
