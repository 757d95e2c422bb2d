"""Places on the Earth (WGS 84) as meters east and north of a point nearby."""

import math
from dataclasses import dataclass, field

_SEMI_MAJOR_M = 6_378_137.0
_ECCENTRICITY2 = 6.694_379_990_14e-3


@dataclass(frozen=True, slots=True)
class LocalFrame:
    """A flat frame that touches the ellipsoid at an origin: x points east, y north.

    Within 10 km of the origin a place is right to a meter and, at 60 degrees of latitude, to three.

    Attributes:
        latitude, longitude: of the origin, degrees.
    """

    latitude: float
    longitude: float
    _north_m: float = field(init=False, repr=False)  # meters of one degree of latitude
    _east_m: float = field(init=False, repr=False)  # meters of one degree of longitude

    def __post_init__(self) -> None:
        sine = math.sin(math.radians(self.latitude))
        shrunk = 1 - _ECCENTRICITY2 * sine * sine
        meridian_m = _SEMI_MAJOR_M * (1 - _ECCENTRICITY2) / shrunk**1.5
        parallel_m = _SEMI_MAJOR_M / math.sqrt(shrunk) * math.cos(math.radians(self.latitude))
        object.__setattr__(self, "_north_m", math.radians(1) * meridian_m)
        object.__setattr__(self, "_east_m", math.radians(1) * parallel_m)

    def meters(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Return meters east and north of the origin; the shorter way across the date line."""
        turned = (longitude - self.longitude + 180) % 360 - 180
        return turned * self._east_m, (latitude - self.latitude) * self._north_m

    def degrees(self, east_m: float, north_m: float) -> tuple[float, float]:
        """Return latitude and longitude of a place, degrees."""
        longitude = self.longitude + east_m / self._east_m
        return self.latitude + north_m / self._north_m, (longitude + 180) % 360 - 180
