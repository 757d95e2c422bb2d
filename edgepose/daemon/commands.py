"""Commands over MQTT: parsed strictly, executed on the main thread one after the other, answered, and recorded in the audit."""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from edgepose.config.cross_checks import check_together
from edgepose.config.schema import Config
from edgepose.daemon.health import DaemonSnapshot, ServiceStats
from edgepose.errors import ConfigError, EdgeposeError
from edgepose.frame import Frame
from edgepose.messages.command_requests import (
    PauseCommand,
    RecordCommand,
    ReloadCommand,
    ResumeCommand,
    SetThresholdCommand,
    SnapshotCommand,
    parse_request,
)
from edgepose.messages.structs import CommandReplyMessage, SnapshotMessage, timestamp
from edgepose.mqtt.command_inbox import Command
from edgepose.output.overlay import draw
from edgepose.person import Person
from edgepose.pipeline.delivery import Onlooker
from edgepose.pipeline.postprocess_thread import TakePeople
from edgepose.pixels import PixelGate, ReleasedImage, encode_picture
from edgepose.printable import printable
from edgepose.storage.span import Span

if TYPE_CHECKING:
    from edgepose.recorder.folder import Recording

_log = logging.getLogger(__name__)

WAITING_LIMIT = 32
"""Maximum number of commands that wait to be executed."""

SNAPSHOT_WITHIN_S = 5.0
"""Longest wait of a snapshot for the next frame."""

RECORDING_WITHIN_S = 30.0
"""Longest time to make a recording: it is synced to the disk, and cards are slow."""

JPEG_LIMIT_BYTES = 256 * 1024
"""Largest JPEG of a snapshot: brokers and radio links have limits of their own."""

_JPEG_QUALITIES = (85, 60, 35)
_SMALLEST_SNAPSHOT_PX = 64
_REPLY_BYTES = 1024  # of a reply without its image: topic, properties and the other fields


class CommandResult(msgspec.Struct, frozen=True):
    """The outcome of a command; `reason` is set where it is refused."""

    reason: str | None = None
    changes: list[str] | None = None
    snapshot: SnapshotMessage | None = None
    recording: str | None = None


Done = Callable[[CommandResult], None]


class CommandAudit(Protocol):
    """The part of `edgepose.daemon.audit.Audit` that commands need."""

    def note(self, command: Command, reply: CommandReplyMessage) -> None:
        """Record a command and its outcome."""
        ...

    def note_line(self, name: str, fields: dict[str, Any], status: str, reason: str, kind: str) -> None:
        """Record what is no message."""
        ...

    def forget(self, span: Span) -> int:
        """Delete the lines of a span, and return how many."""
        ...

    def turn(self, now_s: float) -> None:
        """Write what is due; called regularly."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class CommandTarget(Protocol):
    """The object that commands act on: `edgepose.daemon.daemon.Daemon`."""

    @property
    def config(self) -> Config:
        """The configuration in use."""
        ...

    def reload(self, done: Done) -> None:
        """Start a reload of the configuration; `done` receives the outcome."""
        ...

    def configure(self, config: Config) -> None:
        """Apply other thresholds."""
        ...

    def pause(self, camera: str) -> None:
        """Close a camera's source."""
        ...

    def resume(self, camera: str) -> None:
        """Open it again."""
        ...

    def record(self, reason: str) -> "Recording":
        """Start a recording of the black box; EdgeposeError where none can be made now."""
        ...

    def snapshot(self) -> DaemonSnapshot:
        """Return the status of all parts."""
        ...

    def tap(self, camera: str, take: Callable[[Frame], None]) -> None:
        """Call `take` with the next frame of a camera, from another thread."""
        ...

    def tap_people(self, camera: str, take: TakePeople) -> None:
        """Call `take` with the next frame of a camera and the people in it, from another thread."""
        ...


class _Awaited(msgspec.Struct, frozen=True, eq=False):
    """A command that is answered when a frame or a recording is available.

    Attributes:
        result: returns None while it is not available.
        too_late: why the command is refused after `until_s`.
    """

    command: Command
    result: Callable[[], CommandResult | None]
    until_s: float
    too_late: str


class CommandHandler:
    """The queue of commands from the publisher's thread, which the main thread executes in `turn`."""

    def __init__(self, target: CommandTarget, reply: Callable[[Command, CommandReplyMessage], None], audit: CommandAudit) -> None:
        """
        Args:
            target: what the commands act on.
            reply: sends an answer; from any thread.
            audit: records each command and its outcome.
        """
        self._target = target
        self._reply = reply
        self._audit = audit
        self._waiting: queue.Queue[Command] = queue.Queue(maxsize=WAITING_LIMIT)
        self._awaited: list[_Awaited] = []

    def take(self, command: Command) -> None:
        """Queue a command, or refuse it where too many wait; returns immediately, from any thread."""
        try:
            self._waiting.put_nowait(command)
        except queue.Full:
            self._answer(command, CommandResult(f"{WAITING_LIMIT} commands wait already; expected fewer at a time"))

    def turn(self, now_s: float) -> None:
        """Execute the commands that wait."""
        self._audit.turn(now_s)
        for _ in range(self._waiting.qsize()):
            self._execute(self._waiting.get_nowait(), now_s)
        for awaited in list(self._awaited):
            result = awaited.result()
            if result is None and now_s > awaited.until_s:
                result = CommandResult(awaited.too_late)
            if result is not None:
                self._awaited.remove(awaited)
                self._answer(awaited.command, result)

    def close(self) -> None:
        """Complete the audit."""
        self._audit.close()

    def _execute(self, command: Command, now_s: float) -> None:
        try:
            request = parse_request(command.name, command.payload)
            if isinstance(request, ReloadCommand):
                self._target.reload(lambda result: self._answer(command, result))
            elif isinstance(request, SetThresholdCommand):
                self._target.configure(with_thresholds(self._target.config, request))
                self._answer(command, CommandResult())
            elif isinstance(request, PauseCommand | ResumeCommand):
                action = self._target.pause if isinstance(request, PauseCommand) else self._target.resume
                for camera in self._cameras(request.camera):
                    action(camera)
                self._answer(command, CommandResult())
            elif isinstance(request, RecordCommand):
                self._record(command, now_s)
            else:
                self._snapshot(command, request, now_s)
        except EdgeposeError as error:
            self._answer(command, CommandResult("; ".join(str(error).splitlines())))
        except Exception as error:  # no message may end the daemon
            _log.error(
                "command %s: unexpected %s: %s", printable(command.name, 64), type(error).__name__, error, exc_info=_log.isEnabledFor(10)
            )
            self._answer(command, CommandResult(f"unexpected {type(error).__name__}: an internal fault; the log has the details"))

    def _snapshot(self, command: Command, request: SnapshotCommand, now_s: float) -> None:
        if not self._target.config.commands.snapshot:
            raise ConfigError("snapshots are off on this device; expected commands.snapshot to be true in its configuration")
        if len(self._awaited) >= WAITING_LIMIT:
            raise ConfigError(f"{WAITING_LIMIT} snapshots wait already; expected fewer at a time")
        (camera,) = self._cameras(request.camera)
        known = self._target.snapshot().pipeline.cameras.get(camera)
        if known is not None and known.state.state == "paused":
            raise ConfigError(f"{known.state.detail or f'camera {camera} is paused'}; expected a camera that is streaming")
        config = self._target.config
        if request.overlay and (profile := config.privacy.profile) != "full":
            raise ConfigError(f"an overlay would show the keypoints that privacy.profile {profile} leaves out; expected full")
        gate = PixelGate(config.privacy.pixels, config.pose.keypoint_threshold)
        frames: queue.SimpleQueue[tuple[Frame, ReleasedImage]] = queue.SimpleQueue()

        def jpeg() -> CommandResult | None:
            if frames.empty():
                return None
            limit_bytes = self._jpeg_limit_bytes()
            message = snapshot_message(*frames.get(), request.width, limit_bytes)
            too_large = f"no image of this frame fits {limit_bytes} bytes; expected a broker that accepts longer messages"
            return CommandResult(too_large) if message is None else CommandResult(snapshot=message)

        too_late = f"camera {camera} delivered no frame within {SNAPSHOT_WITHIN_S:g} s; expected one that is streaming"
        self._awaited.append(_Awaited(command, jpeg, now_s + SNAPSHOT_WITHIN_S, too_late))
        # Heads can be hidden, and people drawn, where people are known: after the network, which a camera without one never reaches.
        if gate.pixels == "blurred" or request.overlay:

            def take(frame: Frame, people: Sequence[Person]) -> None:
                released = gate.release(frame.image, people)
                if request.overlay:
                    released = released.derived(draw(released.image, people, keypoint_threshold=config.pose.keypoint_threshold))
                frames.put((frame, released))

            self._target.tap_people(camera, take)
        else:
            self._target.tap(camera, lambda frame: frames.put((frame, gate.release(frame.image, []))))

    def _jpeg_limit_bytes(self) -> int:
        """Return the longest JPEG whose reply the broker accepts: in JSON it takes four thirds of its bytes."""
        packet_bytes = self._target.snapshot().publisher.packet_bytes
        return JPEG_LIMIT_BYTES if packet_bytes is None else max(0, min(JPEG_LIMIT_BYTES, (packet_bytes - _REPLY_BYTES) * 3 // 4))

    def forget(self, span: Span) -> int:
        """Delete the records of commands of a span, and return how many; OSError where the disk fails."""
        return self._audit.forget(span)

    def note_forgotten(self) -> None:
        """Record that a span was deleted on the device, and not which: its times are part of it."""
        self._audit.note_line("forget", {}, "ok", "", "forget")

    def _record(self, command: Command, now_s: float) -> None:
        recording = self._target.record("command")

        def place() -> CommandResult | None:
            if not recording.done.is_set():
                return None
            nothing = "nothing is recorded yet, or the recording cannot be written; the log has the reason"
            return CommandResult(nothing) if recording.place is None else CommandResult(recording=str(recording.place))

        too_late = f"the recording took more than {RECORDING_WITHIN_S:g} s; the log reports whether it succeeds"
        self._awaited.append(_Awaited(command, place, now_s + RECORDING_WITHIN_S, too_late))

    def _cameras(self, name: str | UnsetType) -> list[str]:
        cameras = list(self._target.config.cameras)
        if isinstance(name, UnsetType):
            return cameras
        if name not in cameras:
            raise ConfigError(f"there is no camera {name}; expected one of {', '.join(cameras)}")
        return [name]

    def _answer(self, command: Command, result: CommandResult) -> None:
        message = CommandReplyMessage(
            command=printable(command.name, 64),
            status="ok" if result.reason is None else "refused",
            reason=UNSET if result.reason is None else result.reason,
            changes=UNSET if result.changes is None else result.changes,
            snapshot=UNSET if result.snapshot is None else result.snapshot,
            recording=UNSET if result.recording is None else result.recording,
            at=timestamp(time.time_ns()),
        )
        self._audit.note(command, message)
        self._reply(command, message)


def with_thresholds(config: Config, request: SetThresholdCommand) -> Config:
    """Return a configuration with other thresholds; ConfigError where they contradict one another, or none is given."""
    given = {field: value for field in request.__struct_fields__ if not isinstance(value := getattr(request, field), UnsetType)}
    if not given:
        raise ConfigError(f"no threshold is given; expected at least one of {', '.join(request.__struct_fields__)}")
    track = {"low_score_threshold": given.pop("low_score_threshold")} if "low_score_threshold" in given else {}
    changed = replace(config, pose=replace(config.pose, **given), track=replace(config.track, **track))
    check_together(changed)
    return changed


def snapshot_message(frame: Frame, released: ReleasedImage, width: int, limit_bytes: int = JPEG_LIMIT_BYTES) -> SnapshotMessage | None:
    """Return a frame as a JPEG: at most `width` pixels wide, compressed harder and then made smaller until it fits.

    Args:
        frame: to show.
        released: what the pixel gate has released of it.
        width: widest image, pixels.
        limit_bytes: longest JPEG.

    Returns:
        None where not even a small image fits.
    """
    width = min(width, frame.width)
    while True:
        image = released
        if frame.width > width:
            size = width, max(1, round(frame.height * width / frame.width))
            image = released.derived(np.asarray(cv2.resize(released.image, size, interpolation=cv2.INTER_AREA), np.uint8))
        for quality in _JPEG_QUALITIES:
            jpeg = encode_picture(image, ".jpg", quality=quality)
            if len(jpeg) <= limit_bytes:
                at = timestamp(frame.captured_at_ns)
                return SnapshotMessage(camera=frame.camera, captured_at=at, width=image.width, height=image.height, jpeg=jpeg)
        if width <= _SMALLEST_SNAPSHOT_PX:
            return None
        width = max(_SMALLEST_SNAPSHOT_PX, width * 2 // 3)


class ServiceHost(CommandTarget, Protocol):
    """All that a service may ask of the daemon: what commands may, and to look on; `edgepose.daemon.daemon.Daemon`."""

    def watch(self, onlooker: Onlooker) -> None:
        """Pass the result of each frame to `onlooker` too, from the postprocess thread."""
        ...


class Service(Protocol):
    """A part beside the daemon's work, whose faults do not reach the work."""

    def start(self, host: ServiceHost) -> None:
        """Begin, once the daemon has started; EdgeposeError where that is not possible."""
        ...

    def turn(self, now_s: float) -> None:
        """Do what belongs to the main thread; called several times a second, and returns at once."""
        ...

    def stop(self, timeout_s: float) -> None:
        """End within a time."""
        ...

    def stats(self) -> ServiceStats:
        """Return its state; from any thread."""
        ...
