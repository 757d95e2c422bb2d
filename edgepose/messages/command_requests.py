"""The commands that the daemon accepts, as structs, and the strict parser of their payloads. All other input is refused."""

from typing import Annotated, Any, Union, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edgepose.config.reference import accepted
from edgepose.config.schema import Fraction, Name
from edgepose.errors import ConfigError

SNAPSHOT_WIDTH_PX = 640
"""Default width of a snapshot in pixels."""

_MAXIMUM_SHOWN = 64  # characters of a value in an error


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all commands. The payload is a JSON object, such as `{}`."""


class ReloadCommand(_Request, frozen=True):
    """Reload the configuration file, as SIGHUP does."""


class SetThresholdCommand(_Request, frozen=True):
    """Change thresholds until the next reload or restart."""

    score_threshold: Annotated[Fraction, Meta(description="as `pose.score_threshold`")] | UnsetType = UNSET
    keypoint_threshold: Annotated[Fraction, Meta(description="as `pose.keypoint_threshold`")] | UnsetType = UNSET
    low_score_threshold: Annotated[Fraction, Meta(description="as `track.low_score_threshold`")] | UnsetType = UNSET


class PauseCommand(_Request, frozen=True):
    """Close the stream of a camera until it is resumed or the daemon restarts."""

    camera: Annotated[Name, Meta(description="name of the camera; absent for all cameras")] | UnsetType = UNSET


class ResumeCommand(_Request, frozen=True):
    """Reopen the stream of a paused camera."""

    camera: Annotated[Name, Meta(description="name of the camera; absent for all cameras")] | UnsetType = UNSET


class SnapshotCommand(_Request, frozen=True):
    """Send the next frame of a camera as a JPEG image in the reply; requires `commands.snapshot: true`."""

    camera: Annotated[Name, Meta(description="name of the camera")]
    width: Annotated[int, Meta(ge=16, le=1920, description="maximum width in pixels; smaller frames are not enlarged")] = SNAPSHOT_WIDTH_PX
    overlay: Annotated[bool, Meta(description="whether people are drawn on it: the next frame that the networks have seen")] = False


class RecordCommand(_Request, frozen=True):
    """Save the black box of the last minutes, which holds no pixels, on the device; requires `black_box.path`."""


Request = ReloadCommand | SetThresholdCommand | PauseCommand | ResumeCommand | SnapshotCommand | RecordCommand

REQUESTS: dict[str, type[Request]] = {
    "reload": ReloadCommand,
    "set-threshold": SetThresholdCommand,
    "pause": PauseCommand,
    "resume": ResumeCommand,
    "snapshot": SnapshotCommand,
    "record": RecordCommand,
}
"""All commands by name. The name is the last level of the topic."""


def parse_request(name: str, payload: bytes) -> Request:
    """Return the command of a name and its payload.

    Raises:
        ConfigError: the command is not accepted; the text has one line for each problem.
    """
    kind = REQUESTS.get(name)
    if kind is None:
        raise ConfigError(f"there is no command {name[:64]!r}; expected one of {', '.join(REQUESTS)}")
    if not payload:  # with MQTT 3.1.1, clearing a retained command sends an empty payload, which must not carry it out
        raise ConfigError(f"the payload of {name} is empty; expected a JSON object, such as {{}}")
    fields = ", ".join(kind.__struct_fields__)
    expected = f"a JSON object of {fields}" if fields else "{}"
    try:
        values = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"the payload of {name} is not JSON; expected {expected}") from error
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
    """Return the type of a field that is present."""
    kinds = tuple(kind for kind in get_args(hint) if kind is not UnsetType)
    return Union[kinds] if UnsetType in get_args(hint) else hint  # noqa: UP007 (of a tuple)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAXIMUM_SHOWN else text[:_MAXIMUM_SHOWN] + "…"
