"""Areas that were drawn on the live page: zones, lines and masks of cameras, in a file of the page beside the configuration.

The file has the form of the configuration, with nothing but `cameras.<name>.zones`, `lines` and `masks`. Zones and lines of a camera in it
take the place of the configured ones. Masks are added: a configured mask hides what nobody may see, and only the configuration removes it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import yaml
from msgspec.structs import asdict, replace

from edgepose.config.cross_checks import check_together
from edgepose.config.fields import Line, Name, Polygon, Section
from edgepose.config.schema import CameraConfig, Config
from edgepose.config.yaml_text import LIMIT_BYTES, compose, read_bounded, value_of
from edgepose.errors import ConfigError, OutputError

FILE = "areas.yaml"
"""Name of the file, in the folder of the page."""


class CameraAreas(Section, frozen=True):
    """Areas of one camera; None where the configured ones hold."""

    zones: dict[Name, Polygon] | None = None
    lines: dict[Name, Line] | None = None
    masks: dict[Name, Polygon] = {}


class DrawnAreas(Section, frozen=True):
    """Content of the file."""

    cameras: dict[Name, CameraAreas] = {}


def read_areas(path: Path) -> DrawnAreas:
    """Return what the file holds, nothing where there is none.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        root = compose(read_bounded(path))
        return msgspec.convert({} if root is None else value_of(root), DrawnAreas)
    except FileNotFoundError:
        return DrawnAreas()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; expected the file that the live page has written") from error
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        what = str(error).splitlines()[0]
        raise ConfigError(f"{path} is damaged: {what}; expected zones, lines and masks of cameras, or no such file") from error


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


def write_areas(path: Path, areas: DrawnAreas) -> None:
    """Write the file in one step; OutputError where that is not possible."""
    content = text_of(areas.cameras).encode()
    if len(content) > LIMIT_BYTES:
        raise OutputError(f"the areas take {len(content) // 1024} KiB; expected at most {LIMIT_BYTES // 1024}")
    temporary = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{path} cannot be written: {error.strerror}; expected a folder in web.folder that is writable") from error


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
