"""Commands that the daemon obeys, as structs: what is not written here is refused."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edgepose.config.schema import Fraction, Name

SNAPSHOT_WIDTH_PX = 640
"""Width of a snapshot where none is asked for."""


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all commands: a JSON object, `{}` at least."""


class ReloadCommand(_Request, frozen=True):
    """Read the configuration file anew, as SIGHUP does."""


class SetThresholdCommand(_Request, frozen=True):
    """Set thresholds until the next reload or start."""

    score_threshold: Annotated[Fraction, Meta(description="as `pose.score_threshold`")] | UnsetType = UNSET
    keypoint_threshold: Annotated[Fraction, Meta(description="as `pose.keypoint_threshold`")] | UnsetType = UNSET
    low_score_threshold: Annotated[Fraction, Meta(description="as `track.low_score_threshold`")] | UnsetType = UNSET


class PauseCommand(_Request, frozen=True):
    """Close a camera's source until it is resumed, or the daemon starts anew."""

    camera: Annotated[Name, Meta(description="name of the camera; all of them where absent")] | UnsetType = UNSET


class ResumeCommand(_Request, frozen=True):
    """Open the source of a paused camera again."""

    camera: Annotated[Name, Meta(description="name of the camera; all of them where absent")] | UnsetType = UNSET


class SnapshotCommand(_Request, frozen=True):
    """Send the next frame of a camera as a JPEG, in the reply; only where `commands.snapshot` is true."""

    camera: Annotated[Name, Meta(description="name of the camera")]
    width: Annotated[int, Meta(ge=16, le=1920, description="most pixels across; smaller pictures are not enlarged")] = SNAPSHOT_WIDTH_PX


class RecordCommand(_Request, frozen=True):
    """Keep what the black box knows of the last minutes, without pixels, on the device; only where `black_box.path` is set."""


Request = ReloadCommand | SetThresholdCommand | PauseCommand | ResumeCommand | SnapshotCommand | RecordCommand

REQUESTS: dict[str, type[Request]] = {
    "reload": ReloadCommand,
    "set-threshold": SetThresholdCommand,
    "pause": PauseCommand,
    "resume": ResumeCommand,
    "snapshot": SnapshotCommand,
    "record": RecordCommand,
}
"""All commands by name, which is the last level of their topic."""
