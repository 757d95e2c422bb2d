"""The payload of a command, judged strictly: what is wrong with it is said in the words of the configuration."""

from typing import Any, Union, get_args, get_type_hints

import msgspec
from msgspec import UnsetType

from edgepose.config.reference import accepted
from edgepose.errors import ConfigError
from edgepose.messages.command_requests import REQUESTS, Request

_LONGEST_SHOWN = 64


def parse(name: str, payload: bytes) -> Request:
    """The command of a name and its payload; ConfigError has a line for each thing that is wrong with it."""
    kind = REQUESTS.get(name)
    if kind is None:
        raise ConfigError(f"there is no command {name[:64]!r}; expected one of {', '.join(REQUESTS)}")
    if not payload:  # what clears a retained command looks like this with MQTT 3.1.1, and must not carry it out
        raise ConfigError(f"the payload of {name} is empty; expected a JSON object, {{}} at least")
    fields = ", ".join(kind.__struct_fields__)
    expected = f"a JSON object of {fields}" if fields else "{}"
    try:
        values = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"the payload of {name} is no JSON; expected {expected}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the payload of {name} is {_shown(values)}; expected {expected}")
    problems = _problems(name, kind, values)
    if problems:
        raise ConfigError("\n".join(problems))
    return msgspec.convert(values, kind)


def _problems(name: str, kind: type[Request], values: dict[Any, Any]) -> list[str]:
    hints = {field: _given(hint) for field, hint in get_type_hints(kind, include_extras=True).items()}
    problems = []
    for field, value in values.items():
        if field not in hints:
            problems.append(f"{name} has no field {_shown(field)}; expected {'one of ' + ', '.join(hints) if hints else 'none'}")
            continue
        try:
            msgspec.convert(value, hints[field])
        except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for half a surrogate pair
            problems.append(f"{field} is {_shown(value)}; expected {accepted(hints[field])}")
    missing = [field.name for field in msgspec.structs.fields(kind) if field.required and field.name not in values]
    return problems + [f"{name} lacks the field {field}; expected {accepted(hints[field])}" for field in missing]


def _given(hint: Any) -> Any:
    """The type of a field that is there."""
    kinds = tuple(kind for kind in get_args(hint) if kind is not UnsetType)
    return Union[kinds] if UnsetType in get_args(hint) else hint  # noqa: UP007 (of a tuple)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
