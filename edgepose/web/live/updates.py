"""The WebSocket of the live page: skeletons, pictures where somebody wants them and may, events, and the state of the daemon.

Each client has a task of its own, which sends the newest frames of all cameras at once, at most `RATE_HZ` times a second, and waits while
the client does not read: what came meanwhile is replaced by what is newer, and counted.
"""

import asyncio
import struct
from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import WebSocket, WebSocketDisconnect

from edgepose.errors import ConfigError
from edgepose.messages.structs import EventMessage
from edgepose.web.accounts.sessions import Identity
from edgepose.web.live.feed import ShownFrame
from edgepose.web.live.view import LiveView
from edgepose.web.sockets import CHECK_S, SEND_S, VOID, admitted, still_holds

RATE_HZ = 15.0
"""Most messages with skeletons in a second: smooth to the eye, and a small part of the work."""

PICTURE_HZ = 5.0
"""Most pictures of a camera in a second."""

_MESSAGE_LIMIT = 512
_PICTURES_LIMIT = 4  # cameras whose pictures a client sees at once
_PART = struct.Struct("<BII")
"""Before each camera of a message: lengths of its name, of the compact poses and of the JPEG, which follow."""


class _Pictures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may say: cameras whose pictures it wants."""

    pictures: list[str]


class LiveClient:
    """One client."""

    def __init__(self, socket: WebSocket, view: LiveView, who: Identity) -> None:
        self._socket = socket
        self._view = view
        self._who = who
        self._seen: dict[str, int] = {}  # number of the last frame, by camera
        self._pictured_s: dict[str, float] = {}  # when the last picture was sent, by camera
        self._wants: frozenset[str] = frozenset()
        self._events = 0
        self._state_s = 0.0
        self._sending_since_s: float | None = None
        self._frames_before = 0  # when the last message was made

    async def run(self) -> None:
        """Serve the client until it leaves, does not read, or may no longer look."""
        tasks = [asyncio.create_task(each) for each in (self._listen(), self._send(), self._watch())]
        self._view.viewers += 1
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._view.viewers -= 1
            self._want(())
            if self._sending_since_s is not None:
                self._view.dropped += self._view.feed.frames - self._frames_before
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | RuntimeError | OSError):
                    raise outcome

    async def _listen(self) -> None:
        """Take what the client says; anything else than a wish for pictures ends the connection."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text") or ""
            try:
                wish = msgspec.json.decode(text[:_MESSAGE_LIMIT], type=_Pictures)
            except (msgspec.MsgspecError, UnicodeEncodeError):
                await self._socket.close(1008)
                return
            self._want(wish.pictures[:_PICTURES_LIMIT])

    async def _watch(self) -> None:
        """Close where the rights of the owner have changed, and end where the client does not read."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(CHECK_S)
            since_s = self._sending_since_s
            if since_s is not None and loop.time() - since_s > SEND_S:
                return
            if not still_holds(self._socket, self._who):
                await self._socket.close(VOID)
                return

    async def _send(self) -> None:
        view, clock = self._view, asyncio.get_running_loop().time
        while True:
            began_s = clock()
            made_s, state = view.state()
            if made_s != self._state_s:
                self._state_s = made_s
                await self._sent(state, began_s)
            events = view.feed.events_after(self._events)
            if events:
                self._events = view.feed.event_count
                await self._sent(_encoded(events), began_s)
            self._frames_before = view.feed.frames
            message = await self._frames(began_s)
            if message:
                await self._sent(message, began_s)
                if clock() - began_s > 1 / RATE_HZ:
                    view.dropped += view.feed.frames - self._frames_before
            await asyncio.sleep(max(0.0, 1 / RATE_HZ - (clock() - began_s)))

    async def _sent(self, message: str | bytes, now_s: float) -> None:
        self._sending_since_s = now_s
        if isinstance(message, bytes):
            await self._socket.send_bytes(message)
        else:
            await self._socket.send_text(message)
        self._sending_since_s = None

    async def _frames(self, now_s: float) -> bytes:
        """Return the frames that the client has not seen as one message, empty where there are none."""
        parts: list[bytes] = []
        for camera, frame in self._view.feed.newest():
            if self._seen.get(camera) == frame.number:
                continue
            jpeg = b""
            if camera in self._wants:  # the skeletons of its pictures come with them, so that both are of one moment
                if frame.result is None or now_s - self._pictured_s.get(camera, 0.0) < 1 / PICTURE_HZ:
                    continue
                jpeg = await self._picture(camera, frame)
                self._pictured_s[camera] = now_s
            self._seen[camera] = frame.number
            name, poses = camera.encode(), self._view.feed.encoded(camera, frame)
            parts += (_PART.pack(len(name), len(poses), len(jpeg)), name, poses, jpeg)
        return b"".join(parts)

    async def _picture(self, camera: str, frame: ShownFrame) -> bytes:
        try:
            return await asyncio.to_thread(self._view.feed.picture, camera, frame, self._view.host.config)
        except ConfigError:  # pixels stay here since a reload
            self._want(())
            return b""

    def _want(self, cameras: Iterable[str]) -> None:
        config = self._view.host.config
        now = frozenset(camera for camera in cameras if camera in config.cameras and config.privacy.pixels != "never")
        for camera in now - self._wants:
            self._view.feed.want_pictures(camera, 1)
        for camera in self._wants - now:
            self._view.feed.want_pictures(camera, -1)
        self._wants = now


async def serve_updates(socket: WebSocket, ticket: str) -> None:
    """Serve one WebSocket of the live page."""
    view: Any = socket.app.state.live
    async with admitted(socket, ticket) as who:
        if who is not None:
            await LiveClient(socket, view, who).run()


def _encoded(events: list[EventMessage]) -> str:
    return msgspec.json.encode({"events": events}).decode()
