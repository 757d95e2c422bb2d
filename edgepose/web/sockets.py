"""WebSockets: opened with a ticket, few at a time, and closed when the rights of their owner end or change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import WebSocket

from edgepose.web.access import caller_of, door_of
from edgepose.web.accounts.sessions import Identity

CHECK_S = 1.0
"""How often the rights of an owner are looked up again."""

SEND_S = 5.0
"""Longest time that a client may take for one message."""

VOID, TOO_MANY = 4401, 4429
"""Codes of closing: the ticket or its owner's session is void; too many are open."""

_LIMIT, _OF_ACCOUNT = 64, 16


@contextlib.asynccontextmanager
async def admitted(socket: WebSocket, ticket: str) -> AsyncIterator[Identity | None]:
    """Accept a WebSocket for as long as the block takes; None where it was refused and closed."""
    door = door_of(socket)
    given = door.tickets.take(ticket[:100])
    who = None if given is None else door.renewed(given)
    open_sockets: list[str] = socket.app.state.sockets
    if who is None:
        door.note("open WebSocket", caller_of(socket), None, "the ticket is void")
        await socket.close(VOID)
        yield None
        return
    if len(open_sockets) >= _LIMIT or open_sockets.count(who.account) >= _OF_ACCOUNT:
        await socket.close(TOO_MANY)
        yield None
        return
    open_sockets.append(who.account)
    try:
        await socket.accept()
        yield who
    finally:
        open_sockets.remove(who.account)


def still_holds(socket: WebSocket, who: Identity) -> bool:
    """Return whether the owner of a WebSocket has the rights that they had when it was opened."""
    return door_of(socket).renewed(who) == who


async def until_gone(socket: WebSocket) -> None:
    """Read and ignore what a client sends, until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def sent(socket: WebSocket, text: str) -> None:
    """Send a message; asyncio.TimeoutError where the client does not read it in time."""
    await asyncio.wait_for(socket.send_text(text), SEND_S)
