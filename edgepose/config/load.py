"""Loader of the configuration: merges defaults, a YAML file, the environment and `--set`; later ones win.

All unknown keys and invalid values are reported together, each with its origin and what is accepted.
No other module reads the environment.
"""

import difflib
import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from edgepose.config.cross_checks import Keys, cross_check, dotted
from edgepose.config.reference import accepted, file_mark
from edgepose.config.reference import keys as all_keys
from edgepose.config.schema import Config
from edgepose.errors import ConfigError

if TYPE_CHECKING:  # loaded where there is a file, or a list
    import yaml

_log = logging.getLogger(__name__)

DEFAULT_PATH = Path("/etc/edgepose/config.yaml")
ENVIRONMENT_PREFIX = "EDGEPOSE__"

_URL = re.compile(r"^([a-z][a-z0-9+.-]*://|gst:)", re.IGNORECASE)
# Matches too much rather than too little: in a pipeline anywhere, including the properties of elements.
_URL_WITH_PASSWORD = re.compile(
    r"^([a-z][a-z0-9+.-]*://\S*:\S*@|gst:.*(://\S*:\S*@|(-pw|password|passphrase)\s*=))", re.IGNORECASE | re.DOTALL
)

_SHOWN = 200  # characters of a wrong value or key that a message shows
_SEARCHED = 4096  # characters that are searched for a password: more than are shown, and few enough to be fast
_PROBLEMS_SHOWN = 20

_REFUSED = (msgspec.ValidationError, UnicodeEncodeError)  # UnicodeEncodeError: half a surrogate pair, or bytes that are not UTF-8


def load(
    path: Path | None = None, settings: Iterable[str] = (), environment: Mapping[str, str] = os.environ, *, over: Path | None = None
) -> Config:
    """Return the merged and checked configuration.

    Args:
        path: YAML file; None uses `/etc/edgepose/config.yaml` where it exists, otherwise the defaults.
        settings: texts `a.b=value` from the command line; they override everything else.
        environment: environment variables; those named `EDGEPOSE__A__B` override the files.
        over: YAML file whose keys override those of the first.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, a value is invalid, or two values do not go together.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    origins: dict[Keys, str] = {}
    if path is None and DEFAULT_PATH.exists():
        path = DEFAULT_PATH
    if path is not None:
        _merge_file(path, values, origins, problems)
    if over is not None:
        _merge_file(over, values, origins, problems)
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            _warn_of_misspelling(variable)
        else:
            parts = tuple(part.lower() for part in variable.removeprefix(ENVIRONMENT_PREFIX).split("__"))
            _merge_text(parts, environment[variable], f"environment variable {variable}", values, origins, problems)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            missing = "no key before '='" if equals else "no '='"
            problems.append(f"--set {setting}: found {missing}; expected KEY=VALUE such as mqtt.host=broker.local")
            continue
        _merge_text(tuple(name.strip().split(".")), text, f"--set {name}", values, origins, problems)
    for keys in _lacking(Config, values, ()) if not problems else ():
        where = next(origin for known, origin in origins.items() if known[: len(keys) - 1] == keys[:-1])
        expected = "a URL, a pipeline, a video file, an image or a folder of images" if keys[-1] == "source" else "it beside the others"
        problems.append(f"{where}: {dotted(keys[:-1])} has no {keys[-1]}; expected {expected}")
    if problems:
        raise _config_error(problems)
    _set_state_folder(environment.get("STATE_DIRECTORY", ""), values)
    config = msgspec.convert(values, Config)
    problems.extend(cross_check(config, origins, path))
    if problems:
        raise _config_error(problems)
    return config


def _config_error(problems: list[str]) -> ConfigError:
    more = len(problems) - _PROBLEMS_SHOWN
    return ConfigError("\n".join((*problems[:_PROBLEMS_SHOWN], *((f"… and {more} more",) if more > 0 else ()))))


def _warn_of_misspelling(variable: str) -> None:
    """Log a warning for a variable that looks like one of edgepose but is not read, so that a missing underscore does not go unnoticed."""
    prefix = ENVIRONMENT_PREFIX.removesuffix("_")
    if not variable.startswith(prefix):
        return
    meant = variable.removeprefix(prefix).lower().replace("__", "_")
    path = next((key.path for key in all_keys() if key.path.replace(".", "_") == meant), None)
    expected = "two underscores before each part of a key, such as EDGEPOSE__MQTT__HOST"
    if path is not None:
        expected = ENVIRONMENT_PREFIX + path.replace(".", "__").upper()
    _log.warning("environment variable %s is not read; expected %s", variable, expected)


def service_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that a service manager sets: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID` and `JOURNAL_STREAM`."""
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM")
    return {name: environment[name] for name in names if name in environment}


def web_folder(config: Config, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the web page's accounts and results: the configured one, or a default that outlives the program."""
    if config.web.folder is not None:
        return Path(config.web.folder)
    service = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    state = environment.get("XDG_STATE_HOME") or str(Path(environment.get("HOME") or "/") / ".local" / "state")
    return Path(service) / "web" if service else Path(state) / "edgepose" / "web"


LIVE_FOLDER = "live"
"""Name of the folder of the live page in that of the accounts."""


def live_folder(config: Config) -> Path:
    """Return the folder of the live page alone: its audit log, and the areas that were drawn on it."""
    return web_folder(config) / LIVE_FOLDER


def job_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that a job of the web page may have: those that find libraries and devices, and none that holds a secret."""
    names = (
        "PATH",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "LANG",
        "OMP_NUM_THREADS",
        "CUDA_VISIBLE_DEVICES",
        "ORT_DISABLE_TELEMETRY",
    )
    return {name: environment[name] for name in names if name in environment}


def _set_state_folder(folders: str, values: dict[str, Any]) -> None:
    """Set the default paths of files that must outlive the daemon: they belong in the state folder of the service manager."""
    folder = folders.partition(":")[0]
    if folder:
        values.setdefault("events", {}).setdefault("store", f"{folder}/events.db")
        values.setdefault("webhook", {}).setdefault("store", f"{folder}/webhook.db")
        values.setdefault("commands", {}).setdefault("audit", f"{folder}/commands.jsonl")
        values.setdefault("bundles", {}).setdefault("folder", f"{folder}/bundles")
        values.setdefault("model", {}).setdefault("engines", f"{folder}/engines")


def _merge_file(path: Path, values: dict[str, Any], origins: dict[Keys, str], problems: list[str]) -> None:
    import yaml

    from edgepose.config.yaml_text import compose, read_bounded

    try:
        root = compose(read_bounded(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"configuration file {path} cannot be read: {reason}; expected a readable YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or 'cannot be parsed'}") from error
    if root is not None:
        _merge_node(root, Config, (), path, values, origins, problems)


def _merge_node(
    node: "yaml.Node", kind: Any, keys: Keys, path: Path, values: dict[str, Any], origins: dict[Keys, str], problems: list[str]
) -> None:
    """Merge one section of the file into `values`, checking it against its type."""
    import yaml

    from edgepose.config.yaml_text import value_of

    where = f"{path}:{node.start_mark.line + 1}"
    origins.setdefault(keys, where)
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return  # `mqtt:` without keys: all defaults
    if not isinstance(node, yaml.MappingNode):
        problems.append(f"{where}: {dotted(keys)} is not a section of keys; expected {accepted(kind)}")
        return
    known: set[str] = set()
    for key_node, value_node in node.value:
        line = f"{path}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(f"{line}: a key in {dotted(keys)} is a list or a section; expected a name")
            continue
        key = key_node.value
        inner = (*keys, key)
        if key in known:
            problems.append(f"{line}: {dotted(inner)} is set twice; expected once")
            continue
        known.add(key)
        child = _child(kind, inner, line, problems)
        if child is None:
            continue
        origins[inner] = line
        section = _section_of(child)
        if section is not None and not (_accepts_null(child) and value_of(value_node) is None):
            values[key] = values.get(key) or {}
            _merge_node(value_node, section, inner, path, values[key], origins, problems)
        else:
            value = value_of(value_node)
            mark = file_mark(child)
            if isinstance(value, str) and mark is not None and not _URL.match(value):
                value = _relative_to(path, value, is_model=mark.role == "model")
            _store(value, child, inner, line, values, problems, strict=True)


def _relative_to(path: Path, value: str, *, is_model: bool) -> str:
    """Return a file name relative to the folder of the configuration file, so that it works from any working directory."""
    if is_model and "/" not in value and not value.endswith(".onnx"):
        return value  # the name of a shipped model
    return str(path.parent / Path(value).expanduser()) if value else value


def _merge_text(keys: Keys, text: str, where: str, values: dict[str, Any], origins: dict[Keys, str], problems: list[str]) -> None:
    """Merge one text from the environment or the command line into `values`."""
    kind: Any = Config
    section = values
    for depth in range(len(keys)):
        inner = keys[: depth + 1]
        child = _child(kind, inner, where, problems)
        if child is None:
            return
        inside = _section_of(child)
        is_null = depth + 1 == len(keys) and text == "null" and _accepts_null(child)
        if inside is None or is_null:
            if depth + 1 < len(keys):
                problems.append(f"{where}: {dotted(inner)} is a value and has no keys; expected {accepted(child)}")
            elif _has_password(text):
                problems.append(
                    f"{where}: the value holds a password, which other users can read there; expected it in the configuration file"
                )
            else:
                origins[inner] = where
                value = None if is_null else _list_of(text) if _is_list(child, text) else text
                _store(value, child, keys, where, section, problems, strict=False)
            return
        section[keys[depth]] = section.get(keys[depth]) or {}
        section, kind = section[keys[depth]], inside
    problems.append(f"{where}: {dotted(keys)} is a section, not a value; expected one of its keys, {accepted(kind)}")


def _store(value: Any, kind: Any, keys: Keys, where: str, section: dict[str, Any], problems: list[str], *, strict: bool) -> None:
    try:
        if isinstance(value, str) and b"\0" in value.encode():
            raise msgspec.ValidationError  # nothing that a key names can contain a null character
        section[keys[-1]] = msgspec.convert(value, kind, strict=strict)
    except _REFUSED:
        mark = file_mark(kind)
        is_source = mark is not None and mark.role == "source" and value
        shown = f"of type {type(value).__name__}" if is_source else _shown(value)
        problems.append(f"{where}: {dotted(keys)} is {shown}; expected {accepted(kind)}")


def _shown(value: Any) -> str:
    """Return a value for an error message: short, and without its password."""
    if isinstance(value, str) and _has_password(value):
        return "a URL with a password"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return f"a value of type {type(value).__name__} that is too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def _has_password(text: str) -> bool:
    return _URL_WITH_PASSWORD.match(text[:_SEARCHED]) is not None


def _child(kind: Any, keys: Keys, where: str, problems: list[str]) -> Any:
    """Return the type below `kind` that the last key names, or None after adding the problem to `problems`."""
    key = keys[-1]
    if get_origin(kind) is dict:
        name_type, value_type = get_args(kind)
        try:
            msgspec.convert(key, name_type)
        except _REFUSED:
            problems.append(f"{where}: {_shown(key)} cannot be a name in {dotted(keys[:-1])}; expected {accepted(name_type)}")
            return None
        return value_type
    hints = _hints(kind)
    if key in hints:
        hint = hints[key]
        bare = hint.__origin__ if get_origin(hint) is Annotated else hint
        return bare if get_origin(bare) is dict else hint
    comparable = len(key) <= _SHOWN and len(problems) < _PROBLEMS_SHOWN  # a comparison takes long, and only some problems are shown
    close: list[str] = difflib.get_close_matches(key, hints, n=1) if comparable else []
    expected = f"did you mean {close[0]}?" if close else "expected one of " + ", ".join(hints)
    name = dotted(keys)
    problems.append(f"{where}: unknown key {name if len(name) <= _SHOWN else name[:_SHOWN] + '…'}; {expected}")
    return None


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _section_of(kind: Any) -> Any:
    """Return the section that a key holds, also where it may be absent; None for a value."""
    if get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return kind
    parts = get_args(kind) if _accepts_null(kind) else ()
    return next((part for part in parts if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)


def _accepts_null(kind: Any) -> bool:
    """Return whether a key accepts null: then `null` means that in the environment and on the command line too, not a text."""
    return type(None) in get_args(kind.__origin__ if get_origin(kind) is Annotated else kind)


def _lacking(kind: Any, values: dict[str, Any], keys: Keys) -> Iterator[Keys]:
    """Yield the keys that have no default and no value, of sections that are there."""
    is_map = get_origin(kind) is dict
    for field in () if is_map else msgspec.structs.fields(kind):
        if field.required and field.name not in values:
            yield (*keys, field.name)
    for key, value in values.items():
        if isinstance(value, dict):
            section = _section_of(get_args(kind)[1] if is_map else _child(kind, (*keys, key), "", []))
            if section is not None:
                yield from _lacking(section, value, (*keys, key))


def _list_of(text: str) -> Any:
    from edgepose.config.yaml_text import parse_value

    return parse_value(text)


def _is_list(kind: Any, text: str) -> bool:
    """Return whether a text is a list: a key that accepts a single value too takes it as one only in brackets."""
    bare = kind.__origin__ if get_origin(kind) is Annotated else kind
    if get_origin(bare) is list:
        return True
    return text.lstrip().startswith("[") and any(_is_list(one, text) for one in get_args(bare))


def device_name(config: Config) -> str:
    """Return the device's name in topics: the configured one, or the host name with characters that a topic cannot hold replaced."""
    return config.device or re.sub(r"[^A-Za-z0-9_.-]+", "-", socket.gethostname()).strip("-.")[:64] or "edgepose"
