"""Output paths: where a configuration writes, whether that is possible, and what it would overwrite."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgepose.capture.files.listing import find_images, is_pattern, matching
from edgepose.capture.source import path_of
from edgepose.config.reference import NamedFile, named_files
from edgepose.config.schema import Config
from edgepose.errors import ConfigError, ModelError, OutputError
from edgepose.model.shipped import find_model
from edgepose.output.files import STANDARD_OUTPUT, CsvWriter


def video_paths(config: Config) -> dict[str, Path]:
    """Return the path of each camera's annotated video, with the camera's name where there are several; empty where no video is written."""
    if config.files.video is None:
        return {}
    path = Path(config.files.video)
    several = len(config.cameras) > 1
    return {name: path.with_stem(f"{path.stem}-{name}") if several else path for name in config.cameras}


def clashes(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each key whose file or folder would overwrite something, with a sentence that describes it.

    The path of the configuration file is not known here: `edgepose.config.cross_checks` protects it.
    """
    sources = list(_read_paths(config))
    taken: list[tuple[NamedFile, Path]] = []
    for named, path in _each_written(config):
        key = ".".join(named.keys)
        read = next((content for content, source in sources if _is_same(path, source)), None)
        other = next((other.mark.content for other, taken_path in taken if _is_same(path, taken_path)), None)
        if read is not None:
            yield key, f"{path} is {read} and would be overwritten by {named.mark.content}; expected a different path for each"
        elif other is not None:
            yield key, f"{path} would hold both {other} and {named.mark.content}; expected a different path for each"
        taken.append((named, path))


def refuse_clashes(config: Config) -> None:
    """Raise ConfigError where something would be overwritten."""
    for _, sentence in clashes(config):
        raise ConfigError(sentence)


def refuse_overwriting(read: Iterable[Path], written: Iterable[Path]) -> None:
    """Raise ConfigError where a file that is written is also read, or is written twice."""
    sources = {os.path.realpath(path) for path in read}
    taken: set[str] = set()
    for path in written:
        real = os.path.realpath(path)
        if real in sources:
            raise ConfigError(f"{path} is a source and would be overwritten; expected a different path for the result")
        if real in taken and real != os.devnull:
            raise ConfigError(f"{path} would hold two results; expected a different path for each")
        taken.add(real)


def written_paths(config: Config) -> Iterator[tuple[NamedFile, Path]]:
    """Yield each file or folder that the daemon writes, with its path; keys without an effect are left out."""
    for named in named_files(config):
        if named.mark.role in ("write", "folder") and _has_effect(config, named):
            yield named, Path("/dev/stdout" if named.keys[0] == "files" and named.value in STANDARD_OUTPUT else named.value)


def write_error(named: NamedFile, path: Path) -> str | None:
    """Return why this user cannot write to a path of `written_paths`, in one sentence; None where nothing prevents it.

    Nothing is changed on disk.
    """
    is_folder = named.mark.role == "folder"
    if is_folder and path.exists() and not path.is_dir():
        return f"{path} is not a folder; expected a folder or an unused name"
    if not is_folder and path.is_dir():
        return f"{path} is a folder; expected a file or an unused name"
    existing = path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())
    if not path.exists() and not is_folder and existing != path.absolute().parent:
        return f"the folder of {path} does not exist; expected an existing folder"
    if existing != path and not existing.is_dir():
        return f"{path} cannot be created: {existing} is not a folder; expected a folder"
    if not os.access(existing, os.W_OK):
        return f"{existing} is not writable by this user; expected write permission"
    if named.keys == ("files", "csv") and path.is_file():
        try:
            CsvWriter(path).close()  # reads its header and changes nothing
        except OutputError as error:
            return str(error)
    return None


def refuse_unwritable(config: Config, before: Config) -> None:
    """Raise OutputError where a path that the configuration before did not have cannot be written."""
    known = {named.keys: path for named, path in written_paths(before)}
    for named, path in written_paths(config):
        sentence = write_error(named, path) if known.get(named.keys) != path else None
        if sentence is not None:
            raise OutputError(f"{'.'.join(named.keys)}: {sentence}")


def _has_effect(config: Config, named: NamedFile) -> bool:
    match named.keys:
        case ("events", "store"):
            return config.mqtt.enabled and config.events.enabled
        case ("webhook", "store"):
            return config.webhook.url is not None
        case ("commands", "audit"):
            return config.commands.enabled
        case ("bundles", "folder"):
            return config.bundles.enabled
        case ("web", "folder"):
            return False  # the daemon does not use it
    return True


def _each_written(config: Config) -> Iterator[tuple[NamedFile, Path]]:
    """Yield as `written_paths` does, but the annotated video of each camera, last."""
    videos: list[tuple[NamedFile, Path]] = []
    for named, path in written_paths(config):
        if named.keys == ("files", "video"):
            videos = [(named, video) for video in video_paths(config).values()]
        else:
            yield named, path
    yield from videos


def _read_paths(config: Config) -> Iterator[tuple[str, Path]]:
    """Yield what each file that is read holds, with its path."""
    for named in named_files(config):
        match named.mark.role:
            case "source":
                yield from ((named.mark.content, path) for path in _source_paths(named.value))
            case "read":
                yield named.mark.content, Path(named.value)
            case "model":
                if named.keys[0] == "refine" and not config.refine.people:  # which is not read
                    continue
                try:
                    yield named.mark.content, find_model(named.value, backend=config.model.backend, precision=config.model.precision)
                except ModelError:  # reported where the model is opened
                    continue


def _source_paths(source: str) -> Iterator[Path]:
    path = path_of(source)
    if path is None:
        return
    yield path
    if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
        yield from find_images(path)
    elif is_pattern(path):
        yield from matching(path)


def _is_same(one: Path, other: Path) -> bool:
    if _resolved(one) == Path(os.devnull):  # accepts everything and keeps nothing
        return False
    try:
        return one.samefile(other)  # follows symbolic links and recognizes hard links
    except OSError:  # one of them does not exist yet
        return _resolved(one) == _resolved(other)


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve, no error for a loop of symbolic links
