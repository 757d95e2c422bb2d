"""What every key of the configuration accepts, read off the tree in `config.py`.

One reading serves the error messages, `docs/configuration.md` and the test that compares the two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from edgepose.config.schema import Config


@dataclass(frozen=True, slots=True)
class Key:
    """One key that can be set.

    Attributes:
        path: dotted, such as `mqtt.host`; `<name>` stands for a name that the operator chooses.
        accepted: the values it takes, in words.
        default: as it is written in YAML, or `(required)`.
        description: what it is for.
    """

    path: str
    accepted: str
    default: str
    description: str


def keys() -> tuple[Key, ...]:
    """All keys, in the order of the tree."""
    root = inspect.type_info(Config)
    assert isinstance(root, inspect.StructType)
    return tuple(_walk(root, ""))


def accepted(annotation: Any) -> str:
    """The values that a type annotation of the tree takes, in words: `a whole number from 0 to 65535`."""
    return _words(inspect.type_info(annotation))


def _walk(struct: inspect.StructType, prefix: str) -> Iterator[Key]:
    for field in struct.fields:
        path = prefix + field.encode_name
        kind, description = _unwrap(field.type)
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
            yield Key(path, _words(kind), default, description)


def _unwrap(kind: inspect.Type) -> tuple[inspect.Type, str]:
    if isinstance(kind, inspect.Metadata):
        return kind.type, str((kind.extra_json_schema or {}).get("description", ""))
    return kind, ""


def _yaml(value: object) -> str:
    return msgspec.json.encode(value).decode() if not isinstance(value, str) else value


def _words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata) and "words" in (kind.extra or {}):
        return str((kind.extra or {})["words"])
    kind, _ = _unwrap(kind)
    match kind:
        case inspect.UnionType(types=types):
            return " or ".join("nothing (null)" if isinstance(one, inspect.NoneType) else _words(one) for one in types)
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.StrType(pattern=None):
            return "text"
        case inspect.StrType(pattern=pattern):
            return _PATTERNS[str(pattern)]
        case inspect.ListType(item_type=item):
            return f"a list in brackets{_example(item)}{_lengths(kind)}: each {_words(item)}"
        case inspect.StructType(fields=fields):
            return "a section with the keys " + ", ".join(field.encode_name for field in fields)
        case inspect.DictType(value_type=value):
            one = "a section of its own" if isinstance(value, inspect.StructType) else _words(value)
            return f"a section of names, each with {one}"
    raise NotImplementedError(f"no words for {kind}")


# A regular expression is no sentence; a new pattern in the tree needs its words here.
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": "a name of up to 64 letters, digits, '_', '.' and '-'",
    r"^[^+#\x00]+$": "text without '+' and '#'",
    r"^([^\s/:@\[\]]+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%\w+)?)$": "a host name or address (the port has a key of its own)",
    r"\.[Mm][Pp]4$": "the name of a file that ends in .mp4",
}


def _lengths(kind: inspect.ListType) -> str:
    return "" if kind.max_length is None else f", of {kind.max_length} at most"


def _example(item: inspect.Type) -> str:
    return f" such as [{item.values[0]}]" if isinstance(item, inspect.LiteralType) else ""


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:.10g} to {kind.le:.10g}"
    if kind.gt is not None and kind.le is not None:
        return f" above {kind.gt:g}, at most {kind.le:g}"
    return ""
