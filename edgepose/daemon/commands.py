"""Commands over MQTT: judged strictly, obeyed on the main thread one after the other, answered, and noted."""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from edgepose.config.cross_checks import check_together
from edgepose.config.schema import Config
from edgepose.daemon.audit import Audit
from edgepose.daemon.payloads import parse
from edgepose.daemon.snapshot import LIMIT_BYTES, snapshot_message
from edgepose.errors import ConfigError, EdgeposeError
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState
from edgepose.messages.command_requests import (
    PauseCommand,
    RecordCommand,
    ReloadCommand,
    ResumeCommand,
    SetThresholdCommand,
    SnapshotCommand,
)
from edgepose.messages.structs import CommandReplyMessage, SnapshotMessage, timestamp
from edgepose.mqtt.command_inbox import Command
from edgepose.recorder.folder import Recording

_log = logging.getLogger(__name__)

WAITING_LIMIT = 32
"""Most commands that wait to be obeyed."""

SNAPSHOT_WITHIN_S = 5.0
"""How long a snapshot waits for the next frame."""

RECORDING_WITHIN_S = 30.0
"""How long a recording may take: it is brought to the disk, and cards are slow."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of a command; `reason` is set where it is refused."""

    reason: str | None = None
    changes: list[str] | None = None
    snapshot: SnapshotMessage | None = None
    recording: str | None = None


Done = Callable[[CommandResult], None]


class CommandTarget(Protocol):
    """What commands are carried out with: `edgepose.daemon.daemon.Daemon`."""

    @property
    def config(self) -> Config:
        """In use now."""
        ...

    def reload(self, done: Done) -> None:
        """Begins to read the configuration anew, and tells how that went."""
        ...

    def configure(self, config: Config) -> None:
        """Goes over to other thresholds."""
        ...

    def pause(self, camera: str) -> None:
        """Closes a camera's source."""
        ...

    def resume(self, camera: str) -> None:
        """Opens it again."""
        ...

    def record(self, reason: str) -> Recording:
        """Begins to make a recording of the black box; EdgeposeError where there is none to be made now."""
        ...

    def states(self) -> Sequence[CameraState]:
        """What is known of each camera."""
        ...

    def tap(self, camera: str, take: Callable[[Frame], None]) -> None:
        """Gives the next frame of a camera to `take`, from another thread."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Awaited:
    """A command that is answered when something is there: a frame, a recording.

    Attributes:
        verdict: None while it is not.
        too_late: why the command is refused after `until_s`.
    """

    command: Command
    verdict: Callable[[], CommandResult | None]
    until_s: float
    too_late: str


class CommandHandler:
    """Takes commands from the publisher's thread and obeys them in the main thread's `turn`."""

    def __init__(self, target: CommandTarget, reply: Callable[[Command, CommandReplyMessage], None], audit: Audit) -> None:
        """
        Args:
            reply: sends an answer; from any thread.
        """
        self._target = target
        self._reply = reply
        self._audit = audit
        self._waiting: queue.Queue[Command] = queue.Queue(maxsize=WAITING_LIMIT)
        self._awaited: list[_Awaited] = []

    def take(self, command: Command) -> None:
        """Queues a command, or refuses it where too many wait; from any thread, at once."""
        try:
            self._waiting.put_nowait(command)
        except queue.Full:
            self._answer(command, CommandResult(f"{WAITING_LIMIT} commands wait already; expected fewer at a time"))

    def turn(self, now_s: float) -> None:
        """Obeys what waits."""
        for _ in range(self._waiting.qsize()):
            self._obey(self._waiting.get_nowait(), now_s)
        for awaited in list(self._awaited):
            verdict = awaited.verdict()
            if verdict is None and now_s > awaited.until_s:
                verdict = CommandResult(awaited.too_late)
            if verdict is not None:
                self._awaited.remove(awaited)
                self._answer(awaited.command, verdict)

    def _obey(self, command: Command, now_s: float) -> None:
        try:
            request = parse(command.name, command.payload)
            if isinstance(request, ReloadCommand):
                self._target.reload(lambda verdict: self._answer(command, verdict))
            elif isinstance(request, SetThresholdCommand):
                self._target.configure(with_thresholds(self._target.config, request))
                self._answer(command, CommandResult())
            elif isinstance(request, PauseCommand | ResumeCommand):
                order = self._target.pause if isinstance(request, PauseCommand) else self._target.resume
                for camera in self._cameras(request.camera):
                    order(camera)
                self._answer(command, CommandResult())
            elif isinstance(request, RecordCommand):
                self._record(command, now_s)
            else:
                self._snapshot(command, request, now_s)
        except EdgeposeError as error:
            self._answer(command, CommandResult("; ".join(str(error).splitlines())))
        except Exception as error:  # nothing that somebody sends may end the daemon
            _log.error("command %.64r: unexpected %s: %s", command.name, type(error).__name__, error, exc_info=_log.isEnabledFor(10))
            self._answer(command, CommandResult(f"unexpected {type(error).__name__}: a fault of edgepose; its log says more"))

    def _snapshot(self, command: Command, request: SnapshotCommand, now_s: float) -> None:
        if not self._target.config.commands.snapshot:
            raise ConfigError("pictures do not leave this device; expected commands.snapshot to be true in its configuration")
        if len(self._awaited) >= WAITING_LIMIT:
            raise ConfigError(f"{WAITING_LIMIT} snapshots wait already; expected fewer at a time")
        (camera,) = self._cameras(request.camera)
        state = next((state for state in self._target.states() if state.camera == camera), None)
        if state is not None and state.state == "paused":
            raise ConfigError(f"{state.detail or f'camera {camera} is paused'}; expected a camera that is streaming")
        frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()

        def picture() -> CommandResult | None:
            if frames.empty():
                return None
            message = snapshot_message(frames.get(), request.width)
            too_large = f"the picture takes more than {LIMIT_BYTES} bytes; expected a smaller `width`"
            return CommandResult(too_large) if message is None else CommandResult(snapshot=message)

        too_late = f"camera {camera} gave no frame within {SNAPSHOT_WITHIN_S:g} s; expected one that is streaming"
        self._awaited.append(_Awaited(command, picture, now_s + SNAPSHOT_WITHIN_S, too_late))
        self._target.tap(camera, frames.put)

    def _record(self, command: Command, now_s: float) -> None:
        recording = self._target.record("command")

        def place() -> CommandResult | None:
            if not recording.done.is_set():
                return None
            nothing = "there is nothing to keep yet, or it cannot be written; the log says which"
            return CommandResult(nothing) if recording.place is None else CommandResult(recording=str(recording.place))

        too_late = f"the recording took more than {RECORDING_WITHIN_S:g} s; the log says what becomes of it"
        self._awaited.append(_Awaited(command, place, now_s + RECORDING_WITHIN_S, too_late))

    def _cameras(self, name: str | UnsetType) -> list[str]:
        there = list(self._target.config.cameras)
        if isinstance(name, UnsetType):
            return there
        if name not in there:
            raise ConfigError(f"there is no camera {name}; expected one of {', '.join(there)}")
        return [name]

    def _answer(self, command: Command, verdict: CommandResult) -> None:
        message = CommandReplyMessage(
            command=command.name[:64],
            status="ok" if verdict.reason is None else "refused",
            reason=UNSET if verdict.reason is None else verdict.reason,
            changes=UNSET if verdict.changes is None else verdict.changes,
            snapshot=UNSET if verdict.snapshot is None else verdict.snapshot,
            recording=UNSET if verdict.recording is None else verdict.recording,
            at=timestamp(time.time_ns()),
        )
        self._audit.note(command, message)
        self._reply(command, message)


def with_thresholds(config: Config, request: SetThresholdCommand) -> Config:
    """A configuration with other thresholds; ConfigError where they do not go together, or none is given."""
    given = {field: value for field in request.__struct_fields__ if not isinstance(value := getattr(request, field), UnsetType)}
    if not given:
        raise ConfigError(f"no threshold is given; expected at least one of {', '.join(request.__struct_fields__)}")
    track = {"low_score_threshold": given.pop("low_score_threshold")} if "low_score_threshold" in given else {}
    changed = replace(config, pose=replace(config.pose, **given), track=replace(config.track, **track))
    check_together(changed)
    return changed
