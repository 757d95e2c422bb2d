"""Encryption of what was written before it was enabled: the same content under another name, and the clear file is removed."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from edgepose.config.load import live_folder, web_folder
from edgepose.config.schema import Config
from edgepose.encryption.encrypted_files import EncryptedFiles
from edgepose.encryption.files import write_whole

_READ_BYTES = 512 << 20  # in memory at once

_EVENTS, _LINES, _HEAD, _SEGMENT, _RESULT, _PICTURE = "events", "lines", "lines head", "segment", "output", "picture"


def encrypt_existing(config: Config, files: EncryptedFiles) -> tuple[int, list[Path]]:
    """Encrypt the clear files of the configuration, and return how many, and those that stay clear.

    Args:
        config: names them; no process works with them.
        files: those of this process.

    Raises:
        OSError: the disk fails; a further call does the rest.
    """
    count = 0
    left: list[Path] = []
    for path, kind in list(_clear_files(config)):
        if not path.is_file() or path.is_symlink():
            continue
        if os.path.lexists(files.place(path)) or path.stat().st_size > _READ_BYTES:
            left.append(path)  # a newer one is encrypted already, or it is too large
            continue
        status = path.stat()
        write_whole(path, path.read_bytes(), kind, mode=status.st_mode & 0o777, owner_of=path.parent)
        os.utime(files.place(path), ns=(status.st_atime_ns, status.st_mtime_ns))
        path.unlink()
        count += 1
    if config.black_box.path is not None:
        count += _encrypt_recordings(Path(config.black_box.path), files)
    return count, left


def _clear_files(config: Config) -> Iterator[tuple[Path, str]]:
    for store in filter(None, (config.events.store, config.webhook.store)):
        yield from ((Path(f"{store}{suffix}"), _EVENTS) for suffix in ("", ".damaged"))
    if config.events.store is not None:
        yield Path(config.events.store).with_name("clock"), "clock"
    page = web_folder(config)
    bundles = None if config.bundles.folder is None else f"{config.bundles.folder}/audit.jsonl"
    for audit in filter(None, (config.commands.audit, str(page / "audit.jsonl"), str(live_folder(config) / "audit.jsonl"), bundles)):
        yield from ((Path(f"{audit}{suffix}"), kind) for suffix, kind in (("", _LINES), (".1", _LINES), (".head", _HEAD)))
    yield from ((page / name, "accounts") for name in ("accounts.json", "setup-link", "address"))
    yield live_folder(config) / "areas.yaml", "areas"
    yield from ((page / name, "certificate") for name in ("certificate.pem", "certificate.key"))
    for result in filter(None, (config.files.jsonl, config.files.csv)):
        yield from ((Path(f"{result}{suffix}"), _RESULT) for suffix in ("", ".1"))
    if config.files.video is not None:
        video = Path(config.files.video)
        names = re.compile(rf"{re.escape(video.stem)}(-.+)?{re.escape(video.suffix)}")
        yield from ((path, _PICTURE) for path in sorted(video.parent.iterdir()) if names.fullmatch(path.name))
    if config.files.images is not None and Path(config.files.images).is_dir():
        images = re.compile(r".+-\d+-\d{6,}\.(jpg|png)")
        yield from ((path, _PICTURE) for path in sorted(Path(config.files.images).iterdir()) if images.fullmatch(path.name))


def _encrypt_recordings(folder: Path, files: EncryptedFiles) -> int:
    """Encrypt the ring and all recordings, and return how many segments; those that several share become several."""
    count = 0
    for inner in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not inner.is_dir() or not re.fullmatch(r"ring|\d{8}T\d{6}Z-.+", inner.name):
            continue
        for segment in sorted(inner.glob("*.segment")):
            status = segment.stat()
            write_whole(segment, segment.read_bytes(), _SEGMENT, mode=0o440)
            os.utime(files.place(segment), ns=(status.st_atime_ns, status.st_mtime_ns))
            segment.unlink()
            count += 1
        for other in inner.iterdir():
            if files.name(other.name) is None:
                other.rename(files.place(other))
        status = inner.stat()
        sealed = folder / files.sealed(inner.name)
        if sealed.exists():
            for each in inner.iterdir():
                each.rename(sealed / each.name)
            inner.rmdir()
        else:
            inner.rename(sealed)
        os.utime(sealed, ns=(status.st_atime_ns, status.st_mtime_ns))
    return count
