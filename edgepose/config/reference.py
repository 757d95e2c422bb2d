"""Reference of the configuration: what each key accepts and which keys name files, read from the tree in `schema.py`.

Error messages, `docs/configuration.md` and all code that treats keys as paths use this one reading.
"""

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import inspect

from edgepose.config.schema import Config, FileMark


class Key(msgspec.Struct, frozen=True):
    """One key that can be set.

    Attributes:
        path: dotted, such as `mqtt.host`; `<name>` stands for a name that the operator chooses.
        accepted: the accepted values in words.
        default: the default as written in YAML, or `(required)`.
        description: what the key is for.
        file: the mark of a key that names a file or folder.
    """

    path: str
    accepted: str
    default: str
    description: str
    file: FileMark | None = None


class NamedFile(msgspec.Struct, frozen=True):
    """A file or folder that a configuration names.

    Attributes:
        keys: path of the key, such as `("cameras", "front", "ca_file")`.
        mark: the mark of the key, with the name of the camera in `content`.
        value: the value of the key.
    """

    keys: tuple[str, ...]
    mark: FileMark
    value: str


def keys() -> tuple[Key, ...]:
    """Return all keys in the order of the tree."""
    root = inspect.type_info(Config)
    assert isinstance(root, inspect.StructType)
    return tuple(_walk(root, ""))


def accepted(annotation: Any) -> str:
    """Return the values that a type annotation of the tree accepts, in words: `a whole number from 0 to 65535`."""
    return _words(inspect.type_info(annotation))


def file_mark(annotation: Any) -> FileMark | None:
    """Return the mark of a type annotation of the tree that names a file or folder, None where it names none."""
    return _mark(inspect.type_info(annotation))


def named_files(config: Config) -> Iterator[NamedFile]:
    """Yield each file and folder that a configuration names, in the order of the tree; keys without a value are left out."""
    for path, mark in _file_keys():
        yield from _values(config, path, mark, path, ())


@cache
def _file_keys() -> tuple[tuple[tuple[str, ...], FileMark], ...]:
    """Return the path and the mark of each key that names a file or folder, in the order of the tree."""
    return tuple(_marked(Config, ()))


def _marked(struct: type[msgspec.Struct], before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], FileMark]]:
    """Yield them below a section, from its annotations alone: each start needs these, and `keys` takes five times as long."""
    for field in msgspec.structs.fields(struct):
        path, kind = (*before, field.encode_name), field.type
        if get_origin(kind) is Annotated:
            mark = next((meta.extra["file"] for meta in kind.__metadata__ if meta.extra and "file" in meta.extra), None)
            if mark is not None:
                yield path, mark
            kind = kind.__origin__
        parts = get_args(kind)
        if get_origin(kind) is dict:
            path, parts = (*path, "<name>"), parts[1:]
        for part in parts or (kind,):
            bare = part.__origin__ if get_origin(part) is Annotated else part
            if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
                yield from _marked(bare, path)


def _values(node: Any, path: tuple[str, ...], mark: FileMark, rest: tuple[str, ...], before: tuple[str, ...]) -> Iterator[NamedFile]:
    """Yield the values of one key below `node`; `<name>` in the rest of its path matches each entry of a dictionary."""
    if not rest:
        names = [name for part, name in zip(path, before, strict=True) if part == "<name>"]
        content = mark.content.replace("<name>", names[0]) if names else mark.content
        if node is not None:
            yield NamedFile(before, mark._replace(content=content), node)
    elif node is None:  # a section that is absent
        return
    elif rest[0] == "<name>":
        for name, value in node.items():
            yield from _values(value, path, mark, rest[1:], (*before, name))
    else:
        yield from _values(getattr(node, rest[0]), path, mark, rest[1:], (*before, rest[0]))


def _walk(struct: inspect.StructType, prefix: str) -> Iterator[Key]:
    for field in struct.fields:
        path = prefix + field.encode_name
        kind, description = _unwrap(_unless_absent(field.type))
        if isinstance(kind, inspect.StructType):
            yield from _walk(kind, path + ".")
        elif isinstance(kind, inspect.DictType) and isinstance(kind.value_type, inspect.StructType):
            yield from _walk(kind.value_type, f"{path}.<name>.")
        elif isinstance(kind, inspect.DictType):
            _, description = _unwrap(kind.value_type)
            yield Key(f"{path}.<name>", _words(kind.value_type), "(required)", description)
        else:
            value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()  # of lists
            default = "(required)" if field.required else _yaml(value)
            yield Key(path, _words(field.type), default, description, _mark(field.type))


def _unless_absent(kind: inspect.Type) -> inspect.Type:
    """Return the section of a key that holds one or null; any other type as it is."""
    if isinstance(kind, inspect.UnionType) and any(isinstance(part, inspect.StructType) for part in kind.types):
        return next(part for part in kind.types if isinstance(part, inspect.StructType))
    return kind


def _unwrap(kind: inspect.Type) -> tuple[inspect.Type, str]:
    if isinstance(kind, inspect.Metadata):
        return kind.type, str((kind.extra_json_schema or {}).get("description", ""))
    return kind, ""


def _mark(kind: inspect.Type) -> FileMark | None:
    mark = (kind.extra or {}).get("file") if isinstance(kind, inspect.Metadata) else None
    assert mark is None or isinstance(mark, FileMark)
    return mark


def _yaml(value: object) -> str:
    return msgspec.json.encode(value).decode() if not isinstance(value, str) else value


def _words(kind: inspect.Type, text: str = "text") -> str:
    """Return the values that a type accepts, in words.

    Args:
        kind: the type.
        text: words for any text, which a file mark makes more precise.
    """
    if isinstance(kind, inspect.Metadata) and "words" in (kind.extra or {}):
        return str((kind.extra or {})["words"])
    mark = _mark(kind)
    if mark is not None:
        text = _FILE_WORDS[mark.role]
    kind, _ = _unwrap(kind)
    match kind:
        case inspect.UnionType(types=types):
            return " or ".join("null" if isinstance(one, inspect.NoneType) else _words(one, text) for one in types)
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.StrType(pattern=None):
            return text
        case inspect.StrType(pattern=pattern):
            return _PATTERN_WORDS[str(pattern)]
        case inspect.ListType(item_type=item):
            return f"a list in brackets{_example(item)}{_length(kind)}; each {_words(item)}"
        case inspect.StructType(fields=fields):
            return "a section with the keys " + ", ".join(field.encode_name for field in fields)
        case inspect.TupleType(item_types=items):
            return f"a list in brackets of {len(items)}: {', '.join(dict.fromkeys(map(_words, items)))}"
        case inspect.DictType(value_type=value):
            one = "a section of its own" if isinstance(value, inspect.StructType) else _words(value)
            return f"a section of names, each with {one}"
    raise NotImplementedError(f"no words for {kind}")


_FILE_WORDS = {
    "read": "the path of a file",
    "write": "the path of a file",
    "folder": "the path of a folder",
    "model": "a model name or the path of a file",
    "source": "a URL, a pipeline or a path",
}

# A regular expression is not a sentence: a new pattern in the tree needs its words here.
_PATTERN_WORDS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": "a name of up to 64 letters, digits, '_', '.' and '-'",
    r"^[^+#\x00]+$": "text without '+' and '#'",
    r"^([^\s/:@\[\]]+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%\w+)?)$": "a host name or address without a port",
    r"^https?://[^\s/?#@]+([/?#][^\s]*)?$": "a URL that begins with https:// or http://, without user name and password",
    r"^((udpin|udpout|tcpout)://[^\s/:@]+:[0-9]{1,5}|serial://[^\s:]+:[0-9]+)$": (
        "udpin://HOST:PORT, udpout://HOST:PORT, tcpout://HOST:PORT or serial:///dev/NAME:BAUD"
    ),
    r"\.[Mm][Pp]4$": "the path of a file that ends in .mp4",
}


def _length(kind: inspect.ListType) -> str:
    return "" if kind.max_length is None else f", with at most {kind.max_length} entries"


def _example(item: inspect.Type) -> str:
    return f" such as [{item.values[0]}]" if isinstance(item, inspect.LiteralType) else ""


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:.10g} to {kind.le:.10g}"
    if kind.gt is not None and kind.le is not None:
        return f" above {kind.gt:g}, at most {kind.le:g}"
    return ""
