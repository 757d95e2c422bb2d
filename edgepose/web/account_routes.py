"""Routes of accounts: signing in and out, links of first use, accounts, tokens and tickets."""

import time
from typing import Annotated, Any, TypeVar

import segno
from fastapi import APIRouter, Depends, Request, Response
from msgspec.structs import replace
from pydantic import BaseModel, Field

from edgepose.errors import UsageError
from edgepose.web.access import Door, RefusedError, allows, caller_of, cookie_name, door_of, needs, new_token_text
from edgepose.web.accounts import file as accounts
from edgepose.web.accounts.file import Account, AccountData, Role, Token, digest
from edgepose.web.accounts.logins import Enrollments, change_password, confirm, sign_in
from edgepose.web.accounts.sessions import Identity

T = TypeVar("T")

Viewer = Annotated[Identity, Depends(needs("viewer"))]
Person = Annotated[Identity, Depends(needs("viewer", session=True))]
Admin = Annotated[Identity, Depends(needs("admin"))]
AdminPerson = Annotated[Identity, Depends(needs("admin", session=True))]

_Text = Annotated[str, Field(max_length=300)]
_Code = Annotated[str, Field(max_length=64)]

accounts_router = APIRouter(prefix="/api/v1", tags=["accounts"])


class SignIn(BaseModel):
    """Name, password, and a code of the second factor or a recovery code."""

    name: _Text
    password: _Text
    code: _Code = ""


class OpenLink(BaseModel):
    """A one-time link's text."""

    link: _Text


class UseLink(OpenLink):
    """What a person chooses who uses a link; `name` at the first start only."""

    name: _Text = ""
    password: _Text
    code: _Code = ""


class NewPassword(BaseModel):
    """The present password and the new one."""

    password: _Text
    new_password: _Text


class FreshCode(BaseModel):
    """A fresh code of the second factor."""

    code: _Code


class NewAccount(FreshCode):
    """An account."""

    name: _Text
    role: Role


class NewRole(FreshCode):
    """Another role for an account."""

    role: Role


class NewToken(FreshCode):
    """A token for a program."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: Role
    days: Annotated[int, Field(ge=1, le=accounts.TOKEN_DAYS)] = 30


@accounts_router.post("/login")
async def login(order: SignIn, request: Request, response: Response) -> dict[str, Any]:
    """Sign in; the answer sets the cookie of a new session."""
    door = door_of(request)
    name, text = await sign_in(door, caller_of(request), order.name, order.password, order.code)
    _end_session(request)  # the one that the browser had before
    _set_cookie(request, response, text)
    return _me(door, name)


@accounts_router.post("/logout", status_code=204)
async def logout(request: Request, response: Response, who: Person) -> None:
    """End the session."""
    _end_session(request)
    door_of(request).note("sign-out", caller_of(request), who)
    response.delete_cookie(cookie_name(request), path="/", secure=caller_of(request).secure, httponly=True, samesite="strict")


@accounts_router.get("/me")
async def me(request: Request, who: Viewer) -> dict[str, Any]:
    """Return who is signed in."""
    return _me(door_of(request), who.account) | {"role": who.role, "by": who.by}


@accounts_router.post("/me/password")
async def new_password(order: NewPassword, request: Request, response: Response, who: Person) -> dict[str, Any]:
    """Change the own password; all sessions of the account end, and this browser gets a new one."""
    door = door_of(request)
    _set_cookie(request, response, await change_password(door, caller_of(request), who, order.password, order.new_password))
    return _me(door, who.account)


@accounts_router.post("/setup/begin")
async def begin_setup(order: OpenLink, request: Request) -> dict[str, Any]:
    """Open a one-time link: whose account it sets up, and the second factor that it offers."""
    found = _enrollments(request).begin(caller_of(request), order.link)
    rows = ["".join("1" if dark else "0" for dark in row) for row in segno.make(found.uri, error="m").matrix]
    return {"account": found.account, "role": found.role, "secret": found.secret, "qr": rows, "may_skip_code": found.may_skip}


@accounts_router.post("/setup/finish")
async def finish_setup(order: UseLink, request: Request, response: Response) -> dict[str, Any]:
    """Use a one-time link: set password and second factor, and sign in. Recovery codes are shown this once."""
    name, text, codes = await _enrollments(request).finish(caller_of(request), order.link, order.name, order.password, order.code)
    _set_cookie(request, response, text)
    return _me(door_of(request), name) | {"recovery_codes": codes}


@accounts_router.get("/accounts")
async def list_accounts(request: Request, who: Admin) -> list[dict[str, Any]]:
    """Return all accounts."""
    data = door_of(request).accounts.read()
    return [
        {
            "name": name,
            "role": account.role,
            "ready": account.password is not None,
            "second_factor": account.second_factor is not None,
            "recovery_codes_left": len(account.recovery),
        }
        for name, account in sorted(data.accounts.items())
    ]


@accounts_router.post("/accounts", status_code=201)
async def add_account(order: NewAccount, request: Request, who: AdminPerson) -> dict[str, str]:
    """Add an account; the answer holds the one-time link by which its owner sets password and second factor."""
    door = door_of(request)
    await confirm(door, caller_of(request), who, order.code)

    def change(data: AccountData) -> tuple[AccountData, str]:
        accounts.check_name(order.name)
        if order.name in data.accounts:
            raise UsageError(f"there is an account {order.name} already; expected another name")
        added = accounts.with_account(data, order.name, Account(role=order.role, epoch=accounts.new_epoch()))
        return accounts.with_link(added, order.name, accounts.INVITATION_S)

    link = _changed(door, request, who, "add account", order.name, change, target_role=order.role)
    return {"name": order.name, "link": _link_url(request, link)}


@accounts_router.patch("/accounts/{name}")
async def change_role(name: str, order: NewRole, request: Request, who: AdminPerson) -> dict[str, str | None]:
    """Give an account another role; its sessions end and its tokens are void. One without a second factor gets a link to set it up."""
    door = door_of(request)
    await confirm(door, caller_of(request), who, order.code)

    def change(data: AccountData) -> tuple[AccountData, str | None]:
        account = _existing(data, name)
        if order.role != "viewer" and account.second_factor is None:
            return accounts.with_link(accounts.without_access(data, name, order.role), name, accounts.INVITATION_S)
        changed = accounts.with_account(data, name, replace(account, role=order.role, epoch=accounts.new_epoch()))
        return replace(changed, tokens={key: token for key, token in data.tokens.items() if token.account != name}), None

    link = _changed(door, request, who, "change role", name, change, target_role=order.role)
    return {"name": name, "link": None if link is None else _link_url(request, link)}


@accounts_router.post("/accounts/{name}/reset")
async def reset_account(name: str, order: FreshCode, request: Request, who: AdminPerson) -> dict[str, str]:
    """Take an account its password, second factor, sessions and tokens; the answer holds the link to set it up again."""
    door = door_of(request)
    await confirm(door, caller_of(request), who, order.code)

    def change(data: AccountData) -> tuple[AccountData, str]:
        role = _existing(data, name).role
        if name == who.account:
            raise UsageError("this is your own account; expected another administrator, or `edgepose accounts reset` on the device")
        return accounts.with_link(accounts.without_access(data, name, role), name, accounts.INVITATION_S)

    return {"name": name, "link": _link_url(request, _changed(door, request, who, "reset account", name, change))}


@accounts_router.post("/accounts/{name}/remove", status_code=204)
async def remove_account(name: str, order: FreshCode, request: Request, who: AdminPerson) -> None:
    """Remove an account, its sessions and its tokens."""
    door = door_of(request)
    await confirm(door, caller_of(request), who, order.code)
    _changed(door, request, who, "remove account", name, lambda data: (accounts.without_account(data, name), None))


@accounts_router.get("/tokens")
async def list_tokens(request: Request, who: Person) -> list[dict[str, Any]]:
    """Return the own tokens; an administrator sees all."""
    data = door_of(request).accounts.read()
    return [
        {"id": key, "name": token.name, "account": token.account, "role": token.role, "expires_at": _day(token.expires_s)}
        for key, token in data.tokens.items()
        if who.role == "admin" or token.account == who.account
    ]


@accounts_router.post("/tokens", status_code=201)
async def make_token(order: NewToken, request: Request, who: Person) -> dict[str, Any]:
    """Make a token, which is shown this once."""
    door = door_of(request)
    if not allows(who.role, order.role):
        door.note("make token", caller_of(request), who, f"the role {order.role} is above their own")
        raise RefusedError(403, f"the role {who.role} may not make a token of the role {order.role}; expected {who.role} or below")
    why = door.clock.unset()
    if why is not None:
        raise RefusedError(503, f"the clock of this device is not set ({why}), so that no token can be made; expected a set clock")
    await confirm(door, caller_of(request), who, order.code)
    text = new_token_text()
    now_s = int(time.time())
    token = Token(
        account=who.account,
        name=order.name,
        role=order.role,
        digest=digest(text),
        created_s=now_s,
        expires_s=now_s + order.days * 86_400,
    )
    identifier = _changed(
        door, request, who, "make token", order.name, lambda data: accounts.with_token(data, token), target_role=order.role
    )
    return {"id": identifier, "token": text, "role": order.role, "expires_at": _day(token.expires_s)}


@accounts_router.delete("/tokens/{identifier}", status_code=204)
async def revoke_token(identifier: str, request: Request, who: Person) -> None:
    """Revoke a token: an own one, or for an administrator any."""

    def change(data: AccountData) -> tuple[AccountData, None]:
        token = data.tokens.get(identifier)
        if token is None or (who.role != "admin" and token.account != who.account):
            raise UsageError("there is no such token; expected one of your own")
        return replace(data, tokens={key: kept for key, kept in data.tokens.items() if key != identifier}), None

    _changed(door_of(request), request, who, "revoke token", identifier, change)


@accounts_router.post("/tickets", status_code=201)
async def give_ticket(request: Request, who: Viewer) -> dict[str, str]:
    """Return a ticket, which opens one WebSocket within half a minute."""
    return {"ticket": door_of(request).tickets.give(who)}


def open_session(request: Request, response: Response, name: str) -> dict[str, Any]:
    """Set the cookie of a new session of an account, in place of the one that the browser had; return who is signed in."""
    door = door_of(request)
    _end_session(request)
    _set_cookie(request, response, door.sessions.open(name, door.accounts.read().accounts[name].epoch))
    return _me(door, name)


def _changed(door: Door, request: Request, who: Identity, action: str, target: str, change: Any, **details: str) -> Any:
    """Return what a change of the accounts returns; both outcomes are in the audit log."""
    try:
        result = door.accounts.update(change)
    except UsageError as error:
        door.note(action, caller_of(request), who, str(error), target=target)
        raise RefusedError(422, str(error)) from error
    door.note(action, caller_of(request), who, target=target, **details)
    return result


def _existing(data: AccountData, name: str) -> Account:
    if name not in data.accounts:
        raise UsageError("there is no such account; expected one of the list")
    return data.accounts[name]


def _me(door: Door, name: str) -> dict[str, Any]:
    account = door.accounts.read().accounts[name]
    return {
        "name": name,
        "role": account.role,
        "second_factor": account.second_factor is not None,
        "recovery_codes_left": len(account.recovery),
        "clock_unset": door.clock.unset(),
        "pages": door.pages,
    }


def _enrollments(request: Request) -> Enrollments:
    found = request.app.state.enrollments
    assert isinstance(found, Enrollments)
    return found


def _set_cookie(request: Request, response: Response, text: str) -> None:
    caller = caller_of(request)
    response.set_cookie(cookie_name(request), text, path="/", secure=caller.secure, httponly=True, samesite="strict")


def _end_session(request: Request) -> None:
    text = request.cookies.get(cookie_name(request))
    if text:
        door_of(request).sessions.close(digest(text))


def _link_url(request: Request, link: str) -> str:
    """Return the address of a link; its text comes after '#', which no browser sends to a server or names to another page."""
    return f"{caller_of(request).origin}/setup#{link}"


def _day(time_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))
