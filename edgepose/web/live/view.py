"""What the live page may ask of the daemon, and what it knows of it: state, commands, areas that were drawn."""

import asyncio
import secrets
import time
from typing import Any

import msgspec
from msgspec import UNSET

from edgepose.config.areas import CameraAreas, DrawnAreas, with_areas, with_camera
from edgepose.config.load import device_name
from edgepose.config.schema import CameraConfig, Config
from edgepose.daemon.commands import CommandHandler, ServiceHost
from edgepose.daemon.health import DaemonSnapshot, health_message
from edgepose.daemon.info import camera_message
from edgepose.errors import EdgeposeError
from edgepose.messages.structs import CommandReplyMessage
from edgepose.mqtt.command_inbox import Command
from edgepose.person import KEYPOINT_NAMES, SKELETON
from edgepose.storage.areas_file import FILE, read_areas, write_areas
from edgepose.storage.span import Span
from edgepose.web.access import Door, RefusedError
from edgepose.web.accounts.sessions import Identity
from edgepose.web.boundary import Caller
from edgepose.web.live.feed import LiveFeed

STATE_S = 2.0
"""Interval of the messages about the state."""

STILLS_AT_ONCE = 4

_COMMAND_S = 60.0  # a reload opens networks
_STALE_S = 5.0  # a snapshot that is older tells no rates


class LiveView:
    """The view of a daemon; belongs to the server's thread, except `turn`."""

    def __init__(self, host: ServiceHost, door: Door) -> None:
        """
        Args:
            host: the daemon.
            door: of the page.
        """
        self.host = host
        self.feed = LiveFeed()
        self.viewers = 0
        """WebSockets that are open."""
        self.dropped = 0
        """Frames that clients did not get because they were slow."""
        self._door = door
        self._areas = door.folder / FILE
        self.stills = asyncio.Semaphore(STILLS_AT_ONCE)
        """Bounds the stills that are made at the same time."""
        self._applying = asyncio.Lock()
        self._commands = CommandHandler(host, self._answered, _PageAudit(door))
        self._answers: dict[bytes, tuple[asyncio.AbstractEventLoop, asyncio.Future[CommandReplyMessage]]] = {}
        self._before: DaemonSnapshot | None = None
        self._config: Config | None = None  # in use at the last state
        self._configuration = 0  # changes with it, by which clients see that they must ask again
        self._state: tuple[float, str] = (0.0, "")

    def turn(self, now_s: float) -> None:
        """Execute the commands that wait; called in the daemon's main thread."""
        self._commands.turn(now_s)

    def described(self) -> dict[str, Any]:
        """Return what does not change from frame to frame."""
        config = self.host.config
        drawn = read_areas(self._areas)
        return {
            "device": device_name(config),
            "cameras": {name: _described(camera, drawn.cameras.get(name)) for name, camera in config.cameras.items()},
            "thresholds": {
                "score_threshold": config.pose.score_threshold,
                "keypoint_threshold": config.pose.keypoint_threshold,
                "low_score_threshold": config.track.low_score_threshold,
            },
            "privacy": msgspec.to_builtins(config.privacy),
            "can_record": config.black_box.path is not None,
            "skeleton": SKELETON,
            "keypoint_names": KEYPOINT_NAMES,
        }

    def state(self) -> tuple[float, str]:
        """Return the state of the daemon as a message for clients, and its time; made anew every other second."""
        now_s = time.monotonic()
        if now_s - self._state[0] >= STATE_S:
            snapshot, before = self.host.snapshot(), self._before
            self._before = snapshot
            recent = before if before is not None and snapshot.now_s - before.now_s < _STALE_S else None
            health, last = health_message(snapshot, recent), snapshot.health
            if recent is None and last is not None:  # rates since the start would mislead
                health = last
            self.feed.keep_cameras(snapshot.pipeline.cameras)
            if self.host.config is not self._config:
                self._config = self.host.config
                self._configuration += 1
            state = {
                "health": health,
                "age_ms": {name: camera.age_ms for name, camera in last.cameras.items() if camera.age_ms is not UNSET} if last else {},
                "cameras": {name: camera_message(camera.state, snapshot.time_ns) for name, camera in snapshot.pipeline.cameras.items()},
                "broker": {"enabled": snapshot.publisher.enabled, "state": snapshot.publisher.state},
                "configuration": self._configuration,
                "viewers": self.viewers,
                "dropped": self.dropped,
            }
            self._state = (now_s, msgspec.json.encode({"state": state}).decode())
        return self._state

    async def command(self, name: str, payload: bytes, who: Identity, caller: Caller) -> CommandReplyMessage:
        """Execute a command as one over MQTT, with the account in the audit log, and return the reply.

        Raises:
            RefusedError: it was refused, or took too long.
        """
        key = secrets.token_bytes(8)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[CommandReplyMessage] = loop.create_future()
        self._answers[key] = (loop, answer)
        properties = (("account", who.account), ("role", who.role), ("by", who.by), ("address", caller.address))
        try:
            self._commands.take(Command(name, payload, None, key, properties))
            reply = await asyncio.wait_for(answer, _COMMAND_S)
        except asyncio.TimeoutError as error:
            raise RefusedError(504, f"{name} takes more than {_COMMAND_S:g} s; the log of the device has its outcome") from error
        finally:
            self._answers.pop(key, None)
        if reply.status != "ok":
            raise RefusedError(422, reply.reason or "refused")
        return reply

    async def apply(self, camera: str, areas: CameraAreas | None, who: Identity, caller: Caller, may_change_masks: bool) -> None:
        """Write other areas of a camera, None for the configured ones, and reload; where that is refused, the former ones stay.

        Raises:
            RefusedError: they are wrong, or need another role.
            EdgeposeError: the file cannot be read or written.
        """
        async with self._applying:
            before = read_areas(self._areas)
            known = before.cameras.get(camera, CameraAreas())
            if not may_change_masks and (areas or CameraAreas()).masks != known.masks:
                raise RefusedError(403, "a mask decides what anybody may see, so that an administrator draws it; expected the role admin")
            kept = {name: each for name, each in before.cameras.items() if name != camera}
            after = DrawnAreas(cameras=kept) if areas is None else with_camera(before, camera, areas)
            try:
                with_areas(self.host.config, after)
            except EdgeposeError as error:
                raise RefusedError(422, "; ".join(str(error).splitlines())) from error
            await asyncio.to_thread(write_areas, self._areas, after)
            try:
                await self.command("reload", b"{}", who, caller)
            except RefusedError:
                await asyncio.to_thread(write_areas, self._areas, before)
                raise

    def _answered(self, command: Command, reply: CommandReplyMessage) -> None:
        """Pass a reply to the request that waits for it; called in the daemon's main thread."""
        found = self._answers.get(command.correlation or b"")
        if found is None:
            return
        loop, answer = found

        def give() -> None:
            if not answer.done():
                answer.set_result(reply)

        loop.call_soon_threadsafe(give)


class _PageAudit:
    """The page's audit log, for commands."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def note(self, command: Command, reply: CommandReplyMessage) -> None:
        """Record a command with the account that gave it."""
        fields = {**dict(command.user_properties), "payload": command.payload[:512].decode("utf-8", "replace")}
        reason = "" if reply.reason is UNSET else str(reply.reason)
        self._door.audit.note_line(command.name, fields, reply.status, reason, command.name)

    def note_line(self, name: str, fields: dict[str, Any], status: str, reason: str, kind: str) -> None:
        """Record what is no message."""
        self._door.audit.note_line(name, fields, status, reason, kind)

    def forget(self, span: Span) -> int:
        """Delete the lines of a span, and return how many."""
        return self._door.audit.forget(span)

    def turn(self, now_s: float) -> None:
        """Do nothing: the application's own turns write what is due."""

    def close(self) -> None:
        """Do nothing, as above."""


def _described(camera: CameraConfig, drawn: CameraAreas | None) -> dict[str, Any]:
    masks = {} if drawn is None else drawn.masks
    return {
        "zones": camera.zones,
        "lines": camera.lines,
        "masks": camera.masks,
        "configured_masks": [name for name, corners in camera.masks.items() if masks.get(name) != corners],
        "drawn": drawn is not None,
    }
