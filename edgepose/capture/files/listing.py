"""Files that one source names: a folder of images, a pattern such as `*.png` or `frame_%04d.png`; what is no image is told by cause."""

import glob
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""File name suffixes of images, in lower or upper case."""

HEIC_SUFFIXES = (".heic", ".heif", ".hif")

VIDEO_SUFFIXES = (
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".dav", ".flv", ".gif", ".h264", ".h265", ".hevc", ".insv", ".lrv", ".m2ts", ".m4v",
    ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
)  # fmt: skip
"""File name suffixes of videos, to name them where they are skipped; a video may have any other name."""

_NUMBER = re.compile(r"%(0(?P<digits>\d{1,2}))?d")


class Listing(msgspec.Struct, frozen=True):
    """The images that a folder or a pattern names.

    Attributes:
        images: in natural order.
        skipped: the other files and folders, in the same order, with the cause: `heic`, `video`, `folder` or `other`.
    """

    images: list[Path]
    skipped: list[tuple[Path, str]]


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts `frame2.jpg` before `frame10.jpg`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name.casefold())]


def list_images(path: Path) -> Listing:
    """Return the images that a folder, a pattern or a single file names; subfolders are not searched.

    Raises:
        OSError: the folder cannot be read.
    """
    if path.is_dir():
        return sort_files(child for child in path.iterdir() if not child.name.startswith("."))
    if is_pattern(path):
        return sort_files(matching(path))
    return Listing([path], [])


def find_images(folder: Path) -> list[Path]:
    """Return the images in a folder, without subfolders, in natural order."""
    return list_images(folder).images


def sort_files(paths: Iterable[Path]) -> Listing:
    """Separate images from everything else, in natural order."""
    images: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    for path in sorted(paths, key=natural_key):
        cause = _cause(path)
        if cause is None:
            images.append(path)
        else:
            skipped.append((path, cause))
    return Listing(images, skipped)


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern: it holds `*`, `?`, `[…]` or `%d`, and no file has this name."""
    text = str(path)
    return (glob.has_magic(text) or _NUMBER.search(path.name) is not None) and not _exists(path)


def matching(pattern: Path) -> list[Path]:
    """Return the files and folders that a pattern names, in natural order; hidden files only where it names them."""
    number = _NUMBER.search(pattern.name)
    if number is None:
        return sorted((Path(name) for name in glob.glob(str(pattern), recursive=True)), key=natural_key)
    digits = int(number["digits"] or 1)
    name = re.compile(re.escape(pattern.name[: number.start()]) + rf"(?P<number>\d{{{digits},}})" + re.escape(pattern.name[number.end() :]))
    try:
        children = [(name.fullmatch(child.name), child) for child in pattern.parent.iterdir()]
    except OSError:
        return []
    return [child for _, child in sorted((int(match["number"]), child) for match, child in children if match is not None)]


def is_heic(head: bytes) -> bool:
    """Return whether a file that begins like this is a HEIC photograph (ISO/IEC 23008-12, brands of the box `ftyp`)."""
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")


def _cause(path: Path) -> str | None:
    """Return why a path is no image to be read, None where it is one."""
    try:
        status = path.stat()
    except OSError:
        return "other"  # a link that leads nowhere
    suffix = path.suffix.lower()
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    if suffix in (*HEIC_SUFFIXES, ".avif"):
        return "heic"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return None if suffix in IMAGE_SUFFIXES and stat.S_ISREG(status.st_mode) else "other"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
