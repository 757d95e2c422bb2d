"""The values that configuration keys share: their types, their base class, and the mark of keys that name a file."""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta


class FileMark(NamedTuple):
    """The mark of a key that names a file or folder.

    Attributes:
        role: `read` or `write` (a file), `folder` (a folder that is written to), `model` (a shipped model or a file that is read) or
            `source` (a URL, a pipeline, or a file or folder that is read).
        content: what the file holds, for error messages; `<name>` stands for the name of the camera.
    """

    role: Literal["read", "write", "folder", "model", "source"]
    content: str


def file_key(role: Literal["read", "write", "folder", "model", "source"], content: str) -> dict[str, Any]:
    """Return the `extra` of a key that names a file; `edgepose.config.reference` reads it."""
    return {"file": FileMark(role, content)}


Seconds = Annotated[float, Meta(gt=0, le=86400)]

Days = Annotated[float, Meta(gt=0, le=36_500)]

Fraction = Annotated[float, Meta(ge=0, le=1)]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]

# No scheme, path or port: the whole text would be resolved as a host name, forever. Two colons make an IPv6 address.
Host = Annotated[str, Meta(pattern=r"^([^\s/:@\[\]]+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%\w+)?)$")]

HostList = Annotated[list[Host], Meta(min_length=1, max_length=8)]

Polygon = Annotated[
    list[tuple[Fraction, Fraction]],
    Meta(
        min_length=3,
        max_length=64,
        description="corners of the zone, in order around it",
        extra={"words": "a list of 3 to 64 corners [x, y] as fractions (0 to 1) of the frame's width and height"},
    ),
]

Line = Annotated[
    tuple[tuple[Fraction, Fraction], tuple[Fraction, Fraction]],
    Meta(
        description="both ends of the line",
        extra={"words": "a list of two points [x, y] as fractions (0 to 1) of the frame's width and height"},
    ),
]

VideoFile = Annotated[str, Meta(pattern=r"\.[Mm][Pp]4$")]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: immutable, keyword-only, unknown keys refused."""
