"""Where a configuration writes, whether that can be, and whether it would destroy what it reads or what it writes elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path

from edgepose.capture.images import find_images
from edgepose.capture.source import path_of
from edgepose.config.schema import Config
from edgepose.errors import ConfigError, ModelError, OutputError
from edgepose.model.file import find_model
from edgepose.output.files import STANDARD_OUTPUT, CsvWriter

_WHAT = {
    "files.jsonl": "the JSON lines",
    "files.csv": "the CSV table",
    "files.video": "the annotated video",
    "files.images": "the annotated pictures",
    "events.store": "the store of events",
    "commands.audit": "the record of commands",
    "black_box.path": "the black box",
}


def video_paths(config: Config) -> dict[str, Path]:
    """The annotated video of each camera, which bears the camera's name where there are several; empty where none is asked for."""
    if config.files.video is None:
        return {}
    path = Path(config.files.video)
    several = len(config.cameras) > 1
    return {name: path.with_stem(f"{path.stem}-{name}") if several else path for name in config.cameras}


def clashes(config: Config) -> Iterator[tuple[str, str]]:
    """Each key that would destroy something, with a sentence that says what and where.

    The configuration file itself is not known here; `edgepose.config.cross_checks` looks after it.
    """
    sources = list(_read(config))
    taken: list[tuple[str, Path]] = []
    for key, path in _each_written(config):
        reader = next((reader for reader, source in sources if _is_same(path, source)), None)
        other = next((other for other, place in taken if _is_same(path, place)), None)
        if reader is not None:
            yield key, f"{path} is {reader} and would be written over by {_WHAT[key]}; expected a place of its own for each"
        elif other is not None:
            yield key, f"{path} would take both {_WHAT[other]} and {_WHAT[key]}; expected a place of its own for each"
        taken.append((key, path))


def refuse_clashes(config: Config) -> None:
    """ConfigError where something would be destroyed."""
    for _, sentence in clashes(config):
        raise ConfigError(sentence)


def written(config: Config) -> Iterator[tuple[str, Path]]:
    """Each key that names a file or folder which the daemon writes, and that place; a key that has no effect is left out."""
    files = config.files
    for key, name in (("files.jsonl", files.jsonl), ("files.csv", files.csv), ("files.video", files.video), ("files.images", files.images)):
        if name is not None:
            yield key, Path("/dev/stdout" if name in STANDARD_OUTPUT else name)
    if config.mqtt.enabled and config.events.enabled and config.events.store is not None:
        yield "events.store", Path(config.events.store)
    if config.commands.enabled and config.commands.audit is not None:
        yield "commands.audit", Path(config.commands.audit)
    if config.black_box.path is not None:
        yield "black_box.path", Path(config.black_box.path)


def unwritable(key: str, path: Path) -> str | None:
    """What keeps this user from writing to a place of `written`, in one sentence; None where nothing does. Nothing is changed."""
    is_folder = key in ("files.images", "black_box.path")
    if is_folder and path.exists() and not path.is_dir():
        return f"{path} is no folder; expected a folder or a name that is free"
    if not is_folder and path.is_dir():
        return f"{path} is a folder; expected a file or a name that is free"
    existing = path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())
    if not path.exists() and not is_folder and existing != path.absolute().parent:
        return f"the folder of {path} does not exist; expected it to be there"
    if existing != path and not existing.is_dir():
        return f"{path} cannot be: {existing} is no folder; expected one there"
    if not os.access(existing, os.W_OK):
        return f"{existing} may not be written by this user; expected write permission"
    if key == "files.csv" and path.is_file():
        try:
            CsvWriter(path).close()  # looks at its header, and changes nothing
        except OutputError as error:
            return str(error)
    return None


def refuse_unwritable(config: Config, before: Config) -> None:
    """OutputError where a place that is not the one of the configuration before cannot be written."""
    known = dict(written(before))
    for key, path in written(config):
        problem = unwritable(key, path) if known.get(key) != path else None
        if problem is not None:
            raise OutputError(f"{key}: {problem}")


def _each_written(config: Config) -> Iterator[tuple[str, Path]]:
    """As `written`, with the film of each camera."""
    yield from ((key, path) for key, path in written(config) if key != "files.video")
    yield from (("files.video", path) for path in video_paths(config).values())


def _read(config: Config) -> Iterator[tuple[str, Path]]:
    """All files that are read, each with what it is."""
    yield from ((f"read by camera {name}", path) for name, path in _sources(config))
    for name, camera in config.cameras.items():
        if camera.ca_file is not None:
            yield f"the certificate authority of camera {name}", Path(camera.ca_file)
    tls = config.mqtt.tls
    for key, file in (
        ("mqtt.password_file", config.mqtt.password_file),
        ("mqtt.tls.ca_file", tls.ca_file),
        ("mqtt.tls.certificate_file", tls.certificate_file),
        ("mqtt.tls.key_file", tls.key_file),
    ):
        if file is not None:
            yield f"the {key}", Path(file)
    for what, model in (("the model", config.model.path), ("the refiner", config.refine.path)):
        try:
            yield what, find_model(model)
        except ModelError:  # whoever needs it says so
            continue


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
