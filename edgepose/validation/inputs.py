"""Inputs of `edgepose infer`: files, folders, patterns, lists and streams on a command line become what is read, one after the other."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from edgepose.capture.files.listing import HEIC_SUFFIXES, IMAGE_SUFFIXES, is_pattern, list_images, matching
from edgepose.capture.source import missing_file, path_of
from edgepose.errors import SourceError, UsageError

_LIST_BYTES = 16 * 2**20
_LIST_SUFFIX = ".txt"


class OfflineInput(msgspec.Struct, frozen=True):
    """One input: a video, a stream, a folder of images, or images that are read as if they were in one folder.

    Attributes:
        camera: name in the results; unique in a run.
        source: as a camera's source in the configuration; for several images a name for messages.
        images: the images, where several were named; empty otherwise.
        still: whether it consists of images.
    """

    camera: str
    source: str
    images: tuple[Path, ...] = ()
    still: bool = False

    def paths(self) -> list[Path]:
        """Return the files that it reads, as far as they are known; empty for a stream."""
        if self.images:
            return list(self.images)
        path = path_of(self.source)
        if path is None:
            return []
        try:
            return list_images(path).images if path.is_dir() else [path]
        except OSError:
            return [path]


class OfflineInputs(msgspec.Struct):
    """What a command line names.

    Attributes:
        inputs: in the order of the command line; images that follow one another are one input.
        skipped: names of what a pattern matches and nothing reads, by cause.
    """

    inputs: list[OfflineInput] = msgspec.field(default_factory=list)
    skipped: dict[str, list[str]] = msgspec.field(default_factory=dict)


def find_inputs(sources: Sequence[str]) -> OfflineInputs:
    """Return the inputs that a command line names.

    Args:
        sources: files, folders, patterns (`*.png`, `frame_%04d.png`), lists (`.txt`, one source a line) and streams.

    Raises:
        UsageError: a source is empty.
        SourceError: a file does not exist, or a list is none.
    """
    found = OfflineInputs()
    names: set[str] = set()
    images: list[Path] = []

    def flush() -> None:
        if images:
            found.inputs.append(_of_images(tuple(images), names))
            images.clear()

    for source in _expanded(sources):
        path = path_of(source)
        if path is None:
            flush()
            found.inputs.append(OfflineInput(_unique("stream", names), source))
        elif is_pattern(path):
            for match in _matches(path):
                if match.is_dir():
                    found.skipped.setdefault("folder", []).append(str(match))
                elif is_image(match):
                    images.append(match)
                else:
                    flush()
                    found.inputs.append(OfflineInput(_unique(match.stem, names), str(match)))
        elif not path.exists():
            raise SourceError(missing_file(path), "not_found")
        elif is_image(path):
            images.append(path)
        else:
            flush()
            camera = "stdin" if source == "-" else path.stem or path.resolve().name or "source"
            found.inputs.append(OfflineInput(_unique(camera, names), source, still=path.is_dir()))
    flush()
    if not found.inputs:
        raise SourceError(f"{', '.join(sources)} names no file to read; expected videos, images, folders of images or streams", "no_video")
    return found


def _expanded(sources: Iterable[str]) -> Iterable[str]:
    for source in sources:
        if not source:
            raise UsageError("a SOURCE is empty; expected a video file, an image, a folder of images or a stream")
        path = path_of(source)
        if path is not None and path.suffix.lower() == _LIST_SUFFIX and path.is_file():
            yield from _listed(path)
        else:
            yield source


def _listed(path: Path) -> list[str]:
    """Return the sources in a list: relative to its folder, or else as they are."""
    try:
        if path.stat().st_size > _LIST_BYTES:
            raise SourceError(f"{path} has more than {_LIST_BYTES // 2**20} MB; expected a list of sources, one a line", "unsupported")
        lines = [line.strip() for line in path.read_text().splitlines()]
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; expected a list of sources, one a line", "unauthorized") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not text in UTF-8; expected a list of sources, one a line", "unsupported") from error
    sources = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        named = path_of(line)
        if named is not None:
            beside = path.parent / named
            named = beside if beside.exists() or is_pattern(beside) else named
            if not named.exists() and not is_pattern(named):
                raise SourceError(f"{path} is a text file, line {number} of which names no file; expected one source a line", "not_found")
        sources.append(line if named is None else str(named))
    if not sources:
        raise SourceError(f"{path} is a text file that names no source; expected one source a line", "no_video")
    return sources


def _matches(path: Path) -> list[Path]:
    found = matching(path)
    if not found:
        raise SourceError(missing_file(path), "not_found")
    return found


def is_image(path: Path) -> bool:
    """Return whether a path is read as an image, by its name; HEIC is, to be refused or skipped with its reason."""
    return path.suffix.lower() in (*IMAGE_SUFFIXES, *HEIC_SUFFIXES) and not path.is_dir()


def _of_images(images: tuple[Path, ...], names: set[str]) -> OfflineInput:
    if len(images) == 1:
        return OfflineInput(_unique(images[0].stem or "source", names), str(images[0]), still=True)
    folders = {image.parent for image in images}
    camera = next(iter(folders)).name if len(folders) == 1 else ""
    return OfflineInput(_unique(camera or "images", names), f"{images[0]} and {len(images) - 1} more", images, still=True)


def _unique(name: str, names: set[str]) -> str:
    number = 2
    unique = name
    while unique in names:
        unique, number = f"{name}-{number}", number + 1
    names.add(unique)
    return unique
