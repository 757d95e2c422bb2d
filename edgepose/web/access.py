"""Who may do what: identities of requests, roles of routes, refusals with their sentence, and the audit of all of them."""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, WebSocket

from edgepose.config.addresses import is_loopback
from edgepose.config.schema import Config
from edgepose.daemon.audit import Audit
from edgepose.errors import ConfigError
from edgepose.printable import printable
from edgepose.telemetry.wall_clock import WallClock
from edgepose.web.accounts.file import ROLES, Account, AccountFile, Role, digest, new_epoch, with_account
from edgepose.web.accounts.passwords import Passwords
from edgepose.web.accounts.sessions import Identity, Sessions, Tickets
from edgepose.web.accounts.throttle import Throttle
from edgepose.web.boundary import Caller

_log = logging.getLogger(__name__)

GUEST = "guest"
"""Name of the account of those who have the link of a page for guests."""

_NO_PASSWORD = "-"  # no hash, so that no password is right
_TEXT_LIMIT = 128
_TOKEN_PREFIX = "edgepose_"  # so that a scanner of secrets recognizes it


class RefusedError(Exception):
    """A request that is not served.

    Args:
        status: of HTTP.
        sentence: what was found and what is expected.
        limit: key of the configuration that names the limit, or another short name of it.
        retry_s: when it may be tried again.
    """

    def __init__(self, status: int, sentence: str, *, limit: str | None = None, retry_s: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.limit = limit
        self.retry_s = retry_s


@dataclass(slots=True)
class Door:
    """What all routes share to let people in; used by the thread of the server.

    Attributes:
        folder: of this page alone: audit log, requests to delete.
        pages: what the page shows: `uploads` or `live`.
        cookie: name of the session's cookie: two pages of one machine share their cookies, whatever the port.
        guest: digest of the link for viewers without an account; None for none.
    """

    config: Config
    accounts: AccountFile
    passwords: Passwords
    sessions: Sessions
    tickets: Tickets
    throttle: Throttle
    audit: Audit
    clock: WallClock
    folder: Path
    pages: tuple[str, ...] = ("uploads",)
    cookie: str = "edgepose"
    guest: str | None = None

    @classmethod
    def of(cls, config: Config, folder: Path, pages: tuple[str, ...], *, own: Path | None = None, guest: str | None = None) -> "Door":
        """Return the door of a page.

        Args:
            config: of the page.
            folder: of the accounts; pages that share it share them.
            pages: what it shows: `uploads` or `live`.
            own: folder of this page alone, with its audit log; None for the same.
            guest: text of a link for viewers without an account; None for none.

        Raises:
            OutputError: the folder cannot be written.
            ConfigError: the file of accounts is damaged, or others could reach a page for guests.
        """
        if guest is not None and not is_loopback(config.web.host):
            raise ConfigError(f"web.host is {config.web.host}, and this page lets guests in; expected 127.0.0.1")
        accounts = AccountFile(folder)
        accounts.read()
        own = folder if own is None else AccountFile(own).folder  # made where it is missing
        audit = own / "audit.jsonl"
        if guest is not None:
            accounts.update(
                lambda data: (with_account(data, GUEST, Account(role="viewer", epoch=new_epoch(), password=_NO_PASSWORD)), None)
            )
        return cls(
            config=config,
            accounts=accounts,
            passwords=Passwords(),
            sessions=Sessions(),
            tickets=Tickets(),
            throttle=Throttle(),
            audit=Audit(audit, "web.folder"),
            folder=own,
            clock=WallClock(None, [audit]),
            pages=pages,
            cookie="edgepose" if "uploads" in pages else f"edgepose-{pages[0]}",
            guest=None if guest is None else digest(guest),
        )

    def note(self, action: str, caller: Caller | None, who: Identity | str | None, reason: str = "", **details: str) -> None:
        """Record what somebody did, or was refused where there is a reason."""
        identity = who if isinstance(who, Identity) else None
        fields = {
            "account": identity.account if identity is not None else printable(str(who), _TEXT_LIMIT) if who is not None else None,
            "role": identity.role if identity is not None else None,
            "by": identity.by if identity is not None else None,
            "address": caller.address if caller is not None else None,
            **{key: printable(value, _TEXT_LIMIT) for key, value in details.items()},
        }
        self.audit.note_line(action, fields, "refused" if reason else "ok", printable(reason, 4 * _TEXT_LIMIT), action)

    def identity_of(self, request: Request) -> Identity | None:
        """Return who makes a request; None where nobody known does.

        Raises:
            RefusedError: a token is shown while the clock is not set.
        """
        authorization = request.headers.get("authorization", "")
        if authorization:
            return self._of_token(authorization)
        text = request.cookies.get(cookie_name(request), "")
        found = self.sessions.find(text) if text else None
        if found is None:
            return None
        key, account, epoch = found
        return self.renewed(Identity(account, "viewer", epoch, "session", key))

    def renewed(self, identity: Identity) -> Identity | None:
        """Return an identity with its present role; None where its session, token or account is over or has changed since."""
        data = self.accounts.read()
        account = data.accounts.get(identity.account)
        if account is None or account.password is None or account.epoch != identity.epoch:
            return None
        role = account.role
        if identity.by == "session":
            if self.sessions.alive(identity.key) is None:
                return None
        else:
            token = data.tokens.get(identity.key)
            if token is None or token.expires_s <= time.time() or self.clock.unset() is not None:
                return None
            role = ROLES[min(ROLES.index(role), ROLES.index(token.role))]
        return Identity(identity.account, role, identity.epoch, identity.by, identity.key)

    def _of_token(self, authorization: str) -> Identity | None:
        scheme, _, text = authorization.strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        why = self.clock.unset()
        if why is not None:
            raise RefusedError(503, f"the clock of this device is not set ({why}), so that no token is accepted; expected a set clock")
        data = self.accounts.read()
        shown = digest(text.strip())
        found = next(((key, token) for key, token in data.tokens.items() if token.digest == shown), None)
        if found is None or found[1].account not in data.accounts:
            return None
        key, token = found
        return self.renewed(Identity(token.account, token.role, data.accounts[token.account].epoch, "token", key))


def caller_of(request: Request | WebSocket) -> Caller:
    """Return where a request comes from."""
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


def door_of(request: Request | WebSocket) -> Door:
    """Return what all routes share."""
    door = request.app.state.door
    assert isinstance(door, Door)
    return door


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie; with the prefix, browsers accept it from this host over an encrypted connection only."""
    name = door_of(request).cookie
    return f"__Host-{name}" if caller_of(request).secure else name


def allows(role: Role, needed: Role) -> bool:
    """Return whether a role may do what another one may."""
    return ROLES.index(role) >= ROLES.index(needed)


def needs(role: Role, *, session: bool = False) -> Callable[[Request], Awaitable[Identity]]:
    """Return a dependency that gives the identity of a request, and refuses one that may not use the route.

    Args:
        role: that may use it, as may those above.
        session: whether a person must have signed in; a token is then refused, whatever its role.
    """

    async def identity(request: Request) -> Identity:
        door, caller = door_of(request), caller_of(request)
        found = door.identity_of(request)
        action = f"{request.method} {request.scope['route'].path}"
        if found is None:
            if request.headers.get("authorization") or request.cookies:
                door.note(action, caller, None, "not signed in")
            raise RefusedError(
                401, "nobody is signed in, or the session is over; expected a session, or a token in the header Authorization"
            )
        if found.by == "session" and request.method not in ("GET", "HEAD") and not caller.same_origin:
            door.note(action, caller, found, "from a page of another origin")
            raise RefusedError(403, "this request does not say that it comes from this page; expected the header Origin")
        if session and found.by != "session":
            door.note(action, caller, found, "a token may not do this")
            raise RefusedError(403, "a token may not do this; expected a person who is signed in")
        if not allows(found.role, role):
            door.note(action, caller, found, f"needs the role {role}")
            raise RefusedError(403, f"the role {found.role} may not do this; expected {role}{'' if role == 'admin' else ' or above'}")
        return found

    identity.needed_role = role  # type: ignore[attr-defined]  # for the test of all routes
    return identity


def new_token_text() -> str:
    """Return the text of a new token, 256 bits."""
    return _TOKEN_PREFIX + secrets.token_urlsafe(32)
