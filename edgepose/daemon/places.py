"""Where a configuration writes, and whether that would destroy what it reads or what it writes elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path

from edgepose.capture.images import find_images
from edgepose.capture.source import path_of
from edgepose.config import Config
from edgepose.errors import ConfigError
from edgepose.output.files import STANDARD_OUTPUT

_WHAT = {"jsonl": "the JSON lines", "csv": "the CSV table", "video": "the annotated video", "images": "the annotated pictures"}


def video_paths(config: Config) -> dict[str, Path]:
    """The annotated video of each camera, which bears the camera's name where there are several; empty where none is asked for."""
    if config.files.video is None:
        return {}
    path = Path(config.files.video)
    several = len(config.cameras) > 1
    return {name: path.with_stem(f"{path.stem}-{name}") if several else path for name in config.cameras}


def clashes(config: Config) -> Iterator[tuple[str, str]]:
    """Each key of `files` that would destroy something, with a sentence that says what and where."""
    sources = list(_sources(config))
    taken: list[tuple[str, Path]] = []
    for key, path in _outputs(config):
        camera = next((camera for camera, source in sources if _is_same(path, source)), None)
        other = next((other for other, place in taken if _is_same(path, place)), None)
        if camera is not None:
            yield key, f"{path} is read by camera {camera} and would be written over by {_WHAT[key]}; expected a place of its own for each"
        elif other is not None:
            yield key, f"{path} would take both {_WHAT[other]} and {_WHAT[key]}; expected a place of its own for each"
        taken.append((key, path))


def refuse_clashes(config: Config) -> None:
    """ConfigError where something would be destroyed."""
    for _, sentence in clashes(config):
        raise ConfigError(sentence)


def _outputs(config: Config) -> Iterator[tuple[str, Path]]:
    files = config.files
    for key, name in (("jsonl", files.jsonl), ("csv", files.csv), ("images", files.images)):
        if name is not None:
            yield key, Path("/dev/stdout" if name in STANDARD_OUTPUT else name)
    for path in video_paths(config).values():
        yield "video", path


def _sources(config: Config) -> Iterator[tuple[str, Path]]:
    for name, camera in config.cameras.items():
        path = path_of(camera.source)
        if path is None:
            continue
        yield name, path
        if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
            yield from ((name, image) for image in find_images(path))


def _is_same(one: Path, other: Path) -> bool:
    if _resolved(one) == Path(os.devnull):  # takes everything and holds nothing
        return False
    try:
        return one.samefile(other)  # sees through links of both kinds
    except OSError:  # one of them is not there yet
        return _resolved(one) == _resolved(other)


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve, no error where links go round in a circle
