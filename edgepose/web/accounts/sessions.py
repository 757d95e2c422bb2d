"""Sessions of browsers and tickets of WebSockets: random texts that are kept as digests, in memory, on a clock that nobody sets."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgepose.web.accounts.file import Role, digest, now_s

IDLE_S = 30 * 60.0
LONGEST_S = 12 * 3600.0
TICKET_S = 30.0

_SESSIONS_LIMIT, _OF_ACCOUNT, _TICKETS_LIMIT = 1000, 20, 256


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks.

    Attributes:
        account: name.
        role: what they may do.
        epoch: of the account, when the session was opened or the ticket given.
        by: what they showed.
        key: digest of the session, or identifier of the token.
    """

    account: str
    role: Role
    epoch: str
    by: Literal["session", "token"]
    key: str


@dataclass(slots=True)
class _Session:
    account: str
    epoch: str
    opened_s: float
    used_s: float


class Sessions:
    """The open sessions; used by one thread."""

    def __init__(self, clock: Callable[[], float] = now_s) -> None:
        self._clock = clock
        self._open: OrderedDict[str, _Session] = OrderedDict()  # by digest, the oldest first

    def open(self, account: str, epoch: str) -> str:
        """Return the text of a new session, which no one else knows; the oldest of the account ends where it has many."""
        mine = [key for key, session in self._open.items() if session.account == account]
        for key in mine[: max(0, len(mine) - _OF_ACCOUNT + 1)]:
            del self._open[key]
        while len(self._open) >= _SESSIONS_LIMIT:
            self._open.popitem(last=False)
        text = secrets.token_urlsafe(32)
        present_s = self._clock()
        self._open[digest(text)] = _Session(account, epoch, present_s, present_s)
        return text

    def find(self, text: str) -> tuple[str, str, str] | None:
        """Return digest, account and epoch of a session that is used now, None where it is unknown or over."""
        return self.alive(digest(text), use=True)

    def alive(self, key: str, *, use: bool = False) -> tuple[str, str, str] | None:
        """Return digest, account and epoch of a session by its digest, None where it is over.

        Args:
            key: digest of its text.
            use: whether it counts as used now.
        """
        session = self._open.get(key)
        if session is None:
            return None
        present_s = self._clock()
        if present_s - session.used_s > IDLE_S or present_s - session.opened_s > LONGEST_S:
            del self._open[key]
            return None
        if use:
            session.used_s = present_s
        return key, session.account, session.epoch

    def close(self, key: str) -> None:
        """End a session by its digest."""
        self._open.pop(key, None)


class Tickets:
    """Tickets that open one WebSocket each, within half a minute; used by one thread."""

    def __init__(self, clock: Callable[[], float] = now_s) -> None:
        self._clock = clock
        self._given: OrderedDict[str, tuple[float, Identity]] = OrderedDict()

    def give(self, identity: Identity) -> str:
        """Return the text of a new ticket."""
        while len(self._given) >= _TICKETS_LIMIT:
            self._given.popitem(last=False)
        text = secrets.token_urlsafe(24)
        self._given[digest(text)] = (self._clock() + TICKET_S, identity)
        return text

    def take(self, text: str) -> Identity | None:
        """Return who was given a ticket, which is void from now on; None where it is void already, too old or unknown."""
        until_s, identity = self._given.pop(digest(text), (0.0, None))
        return identity if self._clock() < until_s else None
