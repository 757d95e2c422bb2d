"""The choice of clear or encrypted files at the start of a process, and the folders that hold them."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from edgepose.config.load import live_folder, web_folder
from edgepose.config.schema import Config
from edgepose.encryption.files import ClearFiles, StateFiles, use_files
from edgepose.errors import ConfigError, OutputError, UnavailableError

_log = logging.getLogger(__name__)

LOCK = ".edgepose-keys.lock"
"""File in each folder, locked while a process uses its files: `edgepose keys rotate` needs them for itself."""

NO_LIBRARY = (
    "the library cryptography is not installed; expected the extra encryption: in a checkout of edgepose,"
    " run `pip install '.[cpu,encryption]'`"
)
"""End of a message where nothing can be encrypted."""

_locks: list[int] = []  # of this process


def use_configured_files(config: Config, *made: str | Path | None) -> None:
    """Use clear or encrypted files from now on, as the configuration says; called once, before any file is opened.

    Args:
        config: with the key.
        made: folders that this process makes where they are missing.

    Raises:
        ConfigError: the key is missing, or the library is not installed.
        UnavailableError: the key is being exchanged at this moment.
    """
    use_files(configured_files(config))
    if config.encryption.enabled:
        for folder in made:  # to be locked, they must exist
            if folder is None:
                continue
            with contextlib.suppress(OSError):  # the part that writes there reports it
                Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        _locks.extend(locked(state_folders(config), exclusive=False))


def configured_files(config: Config) -> StateFiles:
    """Return the files of a configuration.

    Raises:
        ConfigError: the key is missing, or the library is not installed.
    """
    if not config.encryption.enabled:
        return ClearFiles()
    try:
        from edgepose.encryption.encrypted_files import EncryptedFiles
        from edgepose.encryption.master_keys import read_keys
    except ModuleNotFoundError as error:
        raise ConfigError(f"encryption.enabled is true, and {NO_LIBRARY}") from error
    assert config.encryption.key is not None  # `cross_checks`
    return EncryptedFiles(read_keys(Path(config.encryption.key)))


def state_folders(config: Config) -> list[Path]:
    """Return the folders that hold files of the state, each once."""
    files = [config.events.store, config.webhook.store, config.commands.audit, *_regular(config)]
    folders = [config.black_box.path, config.files.images, config.bundles.folder]
    found = [Path(file).parent for file in files if file] + [Path(folder) for folder in folders if folder]
    found += [web_folder(config), live_folder(config)]
    return list({folder.absolute(): folder.absolute() for folder in found})


def locked(folders: list[Path], *, exclusive: bool) -> Iterator[int]:
    """Lock the folders that exist, and yield the descriptors that hold the locks.

    Raises:
        UnavailableError: another process uses one.
        OutputError: a lock cannot be written.
    """
    for folder in folders:
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            continue
        try:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise OutputError(f"{folder / LOCK} cannot be written: {error.strerror}; expected a folder of edgepose") from error
        with contextlib.suppress(OSError):
            owner = folder.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            what = "a process of edgepose uses" if exclusive else "`edgepose keys rotate` changes"
            raise UnavailableError(f"{what} the files in {folder}; expected it to be stopped, or to end") from error
        yield descriptor


def _regular(config: Config) -> list[str]:
    paths = (config.files.jsonl, config.files.csv, config.files.video)
    return [path for path in paths if path is not None and path != "-" and not Path(path).is_relative_to("/dev")]
