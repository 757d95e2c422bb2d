"""Signing in: password and second factor, fresh codes before what changes who may do what, and links that set both up."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from msgspec.structs import replace

from edgepose.config.load import device_name
from edgepose.errors import UsageError
from edgepose.web.access import Door, RefusedError
from edgepose.web.accounts import file as accounts
from edgepose.web.accounts.file import Account, AccountData, OneTimeLink, Role, digest
from edgepose.web.accounts.one_time_codes import matching_step, new_recovery_codes, new_secret, plain_recovery_code, provisioning_uri
from edgepose.web.accounts.passwords import TooManyLoginsError, password_fault
from edgepose.web.accounts.sessions import Identity
from edgepose.web.boundary import Caller

SIGN_IN = "/api/v1/login"

_WRONG = "name, password or code is wrong"
_PENDING_LIMIT = 64


async def sign_in(door: Door, caller: Caller, name: str, password: str, code: str) -> tuple[str, str]:
    """Return name and text of a new session.

    Raises:
        RefusedError: 401 where anything is wrong, 429 where it is too early to try again, 503 where others wait already.
    """
    account = door.accounts.read().accounts.get(name)
    _refuse_early(door, caller, name, account, "sign-in")
    right = await _checked(door, caller, account, password)
    if right and account is not None and account.second_factor is None and account.role != "viewer":
        right = False  # cannot happen: a link sets both
    if not right or (account is not None and account.second_factor is not None and not _use_code(door, name, code)):
        door.throttle.failed(caller.address, name)
        why = _clock_reason(door, code) if right else None
        door.note("sign-in", caller, name, why or _WRONG)
        raise RefusedError(401, why or _WRONG)
    door.throttle.succeeded(caller.address)
    door.accounts.update_account(name, lambda found: accounts.used_from(found, caller.address))
    account = door.accounts.read().accounts.get(name)
    if account is None:
        raise RefusedError(401, _WRONG)
    door.note("sign-in", caller, name)
    return name, door.sessions.open(name, account.epoch)


def early_sign_in(door: Door, address: str, path: str) -> float:
    """Return how long an address has to wait that signs in again before its time, seconds; 0 where the request is to be looked at.

    It is asked before anything of a request is read, so that a flood of wrong passwords costs little.
    """
    if path != SIGN_IN:
        return 0.0
    wait_s = door.throttle.wait_s(address, "", known=True)
    if wait_s > 0:
        door.audit.note_line("sign-in", {"address": address}, "refused", "too many failed attempts", "sign-in")
    return wait_s


async def confirm(door: Door, caller: Caller, who: Identity, code: str) -> None:
    """Pass where a signed-in person shows a fresh code.

    Raises:
        RefusedError: 403 where it is wrong, or was used already; 429 where it is too early to try again.
    """
    account = door.accounts.read().accounts.get(who.account)
    _refuse_early(door, caller, who.account, account, "fresh code")
    if _use_code(door, who.account, code):
        return
    door.throttle.failed(caller.address, who.account)
    why = _clock_reason(door, code) or "the code is wrong, or was used already; expected a fresh one of your authenticator"
    door.note("fresh code", caller, who, why)
    raise RefusedError(403, why)


async def change_password(door: Door, caller: Caller, who: Identity, password: str, new: str) -> str:
    """Give a signed-in person a new password, end all their sessions, and return the text of a new one."""
    account = door.accounts.read().accounts.get(who.account)
    _refuse_early(door, caller, who.account, account, "change password")
    fault = password_fault(new, who.account)
    if fault is not None:
        raise RefusedError(422, fault)
    if not await _checked(door, caller, account, password):
        door.throttle.failed(caller.address, who.account)
        door.note("change password", caller, who, "the present password is wrong")
        raise RefusedError(403, "the present password is wrong")
    hashed = await _hashed(door, new)
    epoch = accounts.new_epoch()
    door.accounts.update_account(who.account, lambda found: replace(found, password=hashed, epoch=epoch))
    door.note("change password", caller, who)
    return door.sessions.open(who.account, epoch)


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What a person needs who has opened a link.

    Attributes:
        account: name; None where they choose it.
        role: of the account.
        secret: of the second factor, base32.
        uri: that an authenticator app reads.
        may_skip: whether the second factor is optional.
    """

    account: str | None
    role: Role
    secret: str
    uri: str
    may_skip: bool


class Enrollments:
    """Links that were opened, with the second factors that they offer; used by one thread."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._secrets: OrderedDict[str, str] = OrderedDict()  # by digest of the link

    def begin(self, caller: Caller, text: str) -> Enrollment:
        """Return what a link offers; the same again until it is used.

        Raises:
            RefusedError: 404 where the link is void.
        """
        key, link = self._link(caller, text)
        if key not in self._secrets:
            while len(self._secrets) >= _PENDING_LIMIT:
                self._secrets.popitem(last=False)
            self._secrets[key] = new_secret()
        role: Role = "admin" if link.account is None else self._door.accounts.read().accounts[link.account].role
        secret = self._secrets[key]
        uri = provisioning_uri(secret, link.account or "admin", device_name(self._door.config))
        return Enrollment(link.account, role, secret, uri, role == "viewer")

    async def finish(self, caller: Caller, text: str, name: str, password: str, code: str) -> tuple[str, str, list[str]]:
        """Set password and second factor, which voids the link; return the name, the text of a session, and recovery codes.

        Raises:
            RefusedError: 404 where the link is void, 422 where something that was typed is not accepted, 503 while the clock is not set.
        """
        key, link = self._link(caller, text)
        name = link.account or name.strip()
        secret = self._secrets.get(key)
        role: Role = "admin" if link.account is None else self._door.accounts.read().accounts[link.account].role
        try:
            accounts.check_name(name)
        except UsageError as error:
            raise RefusedError(422, str(error)) from error
        fault = password_fault(password, name)
        if fault is not None:
            raise RefusedError(422, fault)
        step = 0
        if role == "viewer" and not code.strip():
            secret = None
        else:
            why = self._door.clock.unset()
            if why is not None:
                raise RefusedError(
                    503, f"the clock of this device is not set ({why}), so that no code can be checked; expected a set clock"
                )
            found = None if secret is None else matching_step(secret, code, time.time(), 0)
            if found is None:
                raise RefusedError(422, "the code is wrong; expected the six digits that your authenticator shows now")
            step = found
        hashed = await _hashed(self._door, password)
        codes = new_recovery_codes() if secret is not None else []
        account = Account(
            role=role,
            epoch=accounts.new_epoch(),
            password=hashed,
            second_factor=secret,
            last_step=step,
            recovery=tuple(digest(each) for each in codes),
            addresses=(caller.address,),
        )

        def change(data: AccountData) -> tuple[AccountData, bool]:
            if data.valid_link(text) is None or (link.account is None and (data.is_set_up or name in data.accounts)):
                return data, False
            links = {each: kept for each, kept in data.links.items() if each != key}
            return replace(accounts.with_account(replace(data, links=links), name, account)), True

        if not self._door.accounts.update(change):
            raise RefusedError(404, "this link was used meanwhile; expected a new one")
        self._secrets.pop(key, None)
        self._door.note("set up account", caller, name, target_role=role)
        return name, self._door.sessions.open(name, account.epoch), codes

    def _link(self, caller: Caller, text: str) -> tuple[str, OneTimeLink]:
        wait_s = self._door.throttle.wait_s(caller.address, "", known=True)
        if wait_s > 0:
            raise RefusedError(429, "too many attempts; expected a pause", limit="attempts", retry_s=wait_s)
        found = self._door.accounts.read().valid_link(text)
        if found is None or (found[1].account is not None and found[1].account not in self._door.accounts.read().accounts):
            self._door.throttle.failed(caller.address, "(link)")
            self._door.note("open link", caller, None, "the link is void")
            raise RefusedError(404, "this link is void: it was used already, is too old, or is none; expected a new one")
        return found


def _refuse_early(door: Door, caller: Caller, name: str, account: Account | None, action: str) -> None:
    wait_s = door.throttle.wait_s(caller.address, name, known=_is_known(caller, account))
    if wait_s > 0:
        door.throttle.too_early(caller.address)
        door.note(action, caller, name, "too many failed attempts")
        raise RefusedError(
            429, f"too many failed attempts; expected the next one in {wait_s:.0f} s or later", limit="attempts", retry_s=wait_s
        )


def _is_known(caller: Caller, account: Account | None) -> bool:
    """Return whether an account was used from an address before."""
    return account is not None and caller.address in account.addresses


async def _checked(door: Door, caller: Caller, account: Account | None, password: str) -> bool:
    hashed = account.password if account is not None else None
    try:
        return await door.passwords.is_right(hashed, password, known=_is_known(caller, account))
    except TooManyLoginsError as error:
        await asyncio.sleep(0.2)
        raise RefusedError(
            503, "too many people sign in at this moment; expected another attempt soon", limit="logins", retry_s=1
        ) from error


async def _hashed(door: Door, password: str) -> str:
    try:
        return await door.passwords.hashed(password)
    except TooManyLoginsError as error:
        raise RefusedError(
            503, "too many people sign in at this moment; expected another attempt soon", limit="logins", retry_s=1
        ) from error


def _use_code(door: Door, name: str, code: str) -> bool:
    """Return whether a code of an account's second factor, or a recovery code, is right; from then on it is used."""
    code = code[:64]
    is_set = door.clock.unset() is None
    recovery = digest(plain_recovery_code(code))

    def change(data: AccountData) -> tuple[AccountData, bool]:
        account = data.accounts.get(name)
        if account is None or account.second_factor is None:
            return data, False
        step = matching_step(account.second_factor, code, time.time(), account.last_step) if is_set else None
        if step is not None:
            used = replace(account, last_step=step)
        elif recovery in account.recovery:
            used = replace(account, recovery=tuple(each for each in account.recovery if each != recovery))
        else:
            return data, False
        return replace(data, accounts=data.accounts | {name: used}), True

    return door.accounts.update(change)


def _clock_reason(door: Door, code: str) -> str | None:
    """Return why no time-based code is accepted now, None where codes are."""
    why = door.clock.unset() if code.strip() else None
    if why is None:
        return None
    return f"the clock of this device is not set ({why}), so that no time-based code is accepted; expected a recovery code"
