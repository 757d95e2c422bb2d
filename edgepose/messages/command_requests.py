"""The commands that the daemon accepts, as structs. A command or field that is not defined here is refused."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edgepose.config.schema import Fraction, Name

SNAPSHOT_WIDTH_PX = 640
"""Default width of a snapshot in pixels."""


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all commands. The payload is a JSON object, `{}` at least."""


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
