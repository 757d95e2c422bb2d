"""Areas that were drawn on the live page: zones, lines and masks of cameras, in a file of the page beside the configuration.

The file has the form of the configuration, with nothing but `cameras.<name>.zones`, `lines` and `masks`. Zones and lines of a camera in it
take the place of the configured ones. Masks are added: a configured mask hides what nobody may see, and only the configuration removes it.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import asdict, replace

from edgepose.config.cross_checks import check_together
from edgepose.config.fields import Line, Name, Polygon, Section
from edgepose.config.schema import CameraConfig, Config
from edgepose.errors import ConfigError


class CameraAreas(Section, frozen=True):
    """Areas of one camera; None where the configured ones hold."""

    zones: dict[Name, Polygon] | None = None
    lines: dict[Name, Line] | None = None
    masks: dict[Name, Polygon] = {}


class DrawnAreas(Section, frozen=True):
    """Content of the file."""

    cameras: dict[Name, CameraAreas] = {}


def parsed_areas(text: str) -> DrawnAreas:
    """Return the areas of a text; ConfigError where it holds something else."""
    import yaml

    from edgepose.config.yaml_text import compose, value_of

    try:
        root = compose(text)
        return msgspec.convert({} if root is None else value_of(root), DrawnAreas)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"{str(error).splitlines()[0]}; expected zones, lines and masks of cameras") from error


def with_areas(config: Config, areas: DrawnAreas) -> Config:
    """Return a configuration with areas that were drawn; those of cameras that it lacks have no effect.

    Raises:
        ConfigError: an area is none, such as one whose edges cross.
    """
    cameras = {name: _with(camera, areas.cameras.get(name)) for name, camera in config.cameras.items()}
    changed = replace(config, cameras=cameras)
    check_together(changed)
    return changed


def with_camera(areas: DrawnAreas, name: str, camera: CameraAreas) -> DrawnAreas:
    """Return areas with others for one camera."""
    return replace(areas, cameras={**areas.cameras, name: camera})


def text_of(cameras: Mapping[str, CameraAreas]) -> str:
    """Return areas as a part of a configuration file, one area a line."""
    lines = ["cameras:" if cameras else "cameras: {}"]
    for name, camera in cameras.items():
        kinds = {kind: areas for kind, areas in asdict(camera).items() if areas is not None}
        lines.append(f"  {_quoted(name)}:")
        for kind, areas in kinds.items():
            lines.append(f"    {kind}:" if areas else f"    {kind}: {{}}")
            lines += [f"      {_quoted(area)}: {_quoted(_rounded(corners))}" for area, corners in areas.items()]
    return "\n".join(lines) + "\n"


def _with(camera: CameraConfig, drawn: CameraAreas | None) -> CameraConfig:
    if drawn is None:
        return camera
    return replace(
        camera,
        zones=camera.zones if drawn.zones is None else drawn.zones,
        lines=camera.lines if drawn.lines is None else drawn.lines,
        masks={**drawn.masks, **camera.masks},
    )


def _quoted(value: object) -> str:
    """Return a value as JSON, which is YAML, whatever a name looks like."""
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _rounded(corners: "Polygon | Line") -> list[list[float]]:
    return [[round(x, 4), round(y, 4)] for x, y in corners]
