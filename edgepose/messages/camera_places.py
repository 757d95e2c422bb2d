"""The zones and lines of each camera: those in its frame, and those on the map where its people have places on the ground."""

from collections.abc import Iterator
from dataclasses import dataclass

from edgepose.config.schema import Config
from edgepose.ground import WorldPlaces

NOWHERE = WorldPlaces()
"""A map without places."""


@dataclass(frozen=True, slots=True)
class CameraPlaces:
    """The places that a camera reports about.

    Attributes:
        camera: its name.
        zones, lines: names, those in the frame first.
    """

    camera: str
    zones: tuple[str, ...]
    lines: tuple[str, ...]


def camera_places(config: Config, on_map: WorldPlaces) -> Iterator[CameraPlaces]:
    """Yield the places of each camera.

    Args:
        config: names the cameras, the zones and lines in their frames, and whether they have a mount and telemetry.
        on_map: zones and lines on the map.
    """
    for name, camera in config.cameras.items():
        world = NOWHERE if camera.mount is None or config.flight.source == "none" else on_map
        yield CameraPlaces(name, tuple({**camera.zones, **world.zones}), tuple({**camera.lines, **world.lines}))
