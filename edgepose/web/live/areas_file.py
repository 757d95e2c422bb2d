"""The file of the areas that were drawn, in the folder of the live page; encrypted as all that is stored, where that is configured."""

from pathlib import Path

from edgepose.config.areas import DrawnAreas, parsed_areas, text_of
from edgepose.config.yaml_text import LIMIT_BYTES
from edgepose.encryption.files import state_files, write_whole
from edgepose.errors import ConfigError, OutputError

FOLDER, FILE = "live", "areas.yaml"
"""Folder of the live page in that of the accounts, and name of the file there."""

_KIND = "areas"


def read_areas(path: Path) -> DrawnAreas:
    """Return what the file holds, nothing where there is none.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
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
    content = text_of(areas.cameras).encode()
    if len(content) > LIMIT_BYTES:
        raise OutputError(f"the areas take {len(content) // 1024} KiB; expected at most {LIMIT_BYTES // 1024}")
    try:
        write_whole(path, content, _KIND, owner_of=path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}; expected a folder in web.folder that is writable") from error
