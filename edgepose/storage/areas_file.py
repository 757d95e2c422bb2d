"""The file of the areas that were drawn, in the folder of the live page; encrypted as all that is stored, where that is configured."""

from pathlib import Path

from edgepose.config.areas import DrawnAreas, parsed_areas, text_of, with_areas
from edgepose.config.load import live_folder
from edgepose.config.schema import Config
from edgepose.encryption.files import state_files, write_whole
from edgepose.errors import ConfigError, OutputError

FILE = "areas.yaml"
"""Name of the file in the folder of the live page."""

_KIND = "areas"


def with_drawn_areas(config: Config) -> Config:
    """Return a configuration with the areas that were drawn on its live page; ConfigError where one of them is wrong."""
    if not config.web.enabled:
        return config
    path = live_folder(config) / FILE
    areas = read_areas(path)
    try:
        return with_areas(config, areas)
    except ConfigError as error:
        raise ConfigError(f"{path} does not fit the configuration: {'; '.join(str(error).splitlines())}") from error


def read_areas(path: Path) -> DrawnAreas:
    """Return what the file holds, nothing where there is none.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    from edgepose.config.yaml_text import LIMIT_BYTES

    try:
        content = state_files().load(path, _KIND)
    except FileNotFoundError:
        return DrawnAreas()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}; expected the file that the live page has written") from error
    try:
        if len(content) > LIMIT_BYTES:
            raise ConfigError(f"it is larger than {LIMIT_BYTES // 1024} KiB")
        return parsed_areas(content.decode())
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}, or no such file") from error


def write_areas(path: Path, areas: DrawnAreas) -> None:
    """Write the file in one step; OutputError where that is not possible."""
    from edgepose.config.yaml_text import LIMIT_BYTES

    content = text_of(areas.cameras).encode()
    if len(content) > LIMIT_BYTES:
        raise OutputError(f"the areas take {len(content) // 1024} KiB; expected at most {LIMIT_BYTES // 1024}")
    try:
        write_whole(path, content, _KIND, owner_of=path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}; expected a folder in web.folder that is writable") from error
