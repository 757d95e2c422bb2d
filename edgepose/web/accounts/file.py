"""Accounts, tokens and one-time links in one file that its owner alone can read; the commands on the device change it beside the server."""

import fcntl
import hashlib
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from edgepose.encryption.files import give, state_files, write_whole
from edgepose.errors import ConfigError, OutputError, UsageError

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""From least to most; each may do what the ones before it may."""

LINK_S = 900.0
"""Longest validity of the link of the first start."""

INVITATION_S = 86_400.0
"""Longest validity of a link that makes an account, or gives one a new password and second factor."""

TOKEN_DAYS = 90
"""Longest validity of a token."""

KIND = "accounts"
"""What `edgepose.encryption` calls the files of accounts."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_ACCOUNTS_LIMIT, _TOKENS_LIMIT, _LINKS_LIMIT = 200, 200, 50
_ADDRESSES = 8  # that an account was used from, the newest last
_BOOT = Path("/proc/sys/kernel/random/boot_id")

T = TypeVar("T")


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account.

    Attributes:
        epoch: changes with everything that ends the account's sessions.
        password: Argon2id hash; None until a link was used.
        second_factor: secret of the time-based codes, base32; None without a second factor.
        last_step: time step of the last code that was accepted; no earlier code is accepted again.
        recovery: hashes of the recovery codes that are left.
        addresses: that it was used from.
    """

    role: Role
    epoch: str
    password: str | None = None
    second_factor: str | None = None
    last_step: int = 0
    recovery: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token of a program; `digest` is that of its text, which is nowhere kept. Times are seconds since the Unix epoch."""

    account: str
    name: str
    role: Role
    digest: str
    created_s: int
    expires_s: int


class OneTimeLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A one-time link.

    Attributes:
        account: that it gives a password; None for the first start, where the person chooses the name of an administrator.
        boot, expires_s: until when it is valid, on the clock of one run of the machine, which nobody sets.
    """

    account: str | None
    boot: str
    expires_s: float


class AccountData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the file: accounts by name, tokens by identifier, links by the digest of their text."""

    version: Literal[1] = 1
    accounts: dict[str, Account] = {}
    tokens: dict[str, Token] = {}
    links: dict[str, OneTimeLink] = {}

    @property
    def is_set_up(self) -> bool:
        """Whether there is an administrator who can sign in."""
        return any(account.role == "admin" and account.password is not None for account in self.accounts.values())

    def valid_link(self, text: str) -> tuple[str, OneTimeLink] | None:
        """Return digest and content of a link, None where there is no such link or it is too old."""
        found = self.links.get(digest(text))
        return None if found is None or not _is_valid(found) else (digest(text), found)


class AccountFile:
    """The file of accounts; every process that uses it sees each change within its next reading."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: created with mode 0700 where it is missing.

        Raises:
            OutputError: it cannot be created.
        """
        self.folder = folder
        self._path = folder / "accounts.json"
        self._read: tuple[tuple[int, int, int], AccountData] | None = None
        self._written: tuple[int, int, int] | None = None
        self.changed_elsewhere = False
        """Whether another process has changed it since this was last set to False."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"{folder} cannot be created: {error.strerror}; expected a folder in web.folder") from error

    def read(self) -> AccountData:
        """Return the content.

        Raises:
            ConfigError: it is damaged.
            OutputError: it cannot be read.
        """
        try:
            known = _known(self._path)
            while self._read is None or self._read[0] != known:
                content = state_files().load(self._path, KIND)
                if known != _known(self._path):  # it was replaced meanwhile
                    known = _known(self._path)
                    continue
                self.changed_elsewhere |= (self._read or self._written) is not None and self._written != known
                self._read = (known, msgspec.json.decode(content, type=AccountData))
        except FileNotFoundError:
            return AccountData()
        except OSError as error:
            raise OutputError(f"{self._path} cannot be read: {error.strerror}; expected the accounts of the web page") from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{self._path} is damaged ({error}); expected the accounts of the web page, or no file") from error
        return self._read[1]

    def update(self, change: Callable[[AccountData], tuple[AccountData, T]]) -> T:
        """Replace the content by what `change` makes of it, alone among all processes, and return its second result.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with state_files().place(self.folder / "accounts.lock").open("a") as lock:
                give(lock.fileno(), self.folder)
                fcntl.flock(lock, fcntl.LOCK_EX)
                before = self.read()
                content, result = change(before)
                if content is not before:
                    self._write(content)
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror}; expected room on the disk") from error
        return result

    def update_account(self, name: str, change: Callable[[Account], Account]) -> None:
        """Replace one account; nothing happens where it does not exist any more."""

        def changed(data: AccountData) -> tuple[AccountData, None]:
            if name not in data.accounts:
                return data, None
            return replace(data, accounts=data.accounts | {name: change(data.accounts[name])}), None

        self.update(changed)

    def _write(self, content: AccountData) -> None:
        write_whole(self._path, msgspec.json.format(msgspec.json.encode(content)), KIND, owner_of=self.folder)
        self._written = _known(self._path)


def _known(path: Path) -> tuple[int, int, int]:
    """Return what tells one content of a file from the next."""
    status = state_files().place(path).stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def digest(text: str) -> str:
    """Return the digest by which a random text of 80 bits or more is kept: nobody can guess what it was made of."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def check_name(name: str) -> None:
    """Raise UsageError where a text cannot name an account."""
    if not _NAME.fullmatch(name):
        raise UsageError("this is no name of an account; expected up to 64 letters, digits, '_', '.', '-' and '@'")


def new_epoch() -> str:
    """Return an epoch that no account had before."""
    return secrets.token_hex(8)


def with_account(data: AccountData, name: str, account: Account) -> AccountData:
    """Return the content with an account added or replaced.

    Raises:
        UsageError: there are too many, or no administrator would be left.
    """
    if name not in data.accounts and len(data.accounts) >= _ACCOUNTS_LIMIT:
        raise UsageError(f"there are {_ACCOUNTS_LIMIT} accounts; expected one to be removed first")
    changed = replace(data, accounts=data.accounts | {name: account})
    _keep_an_administrator(data, changed)
    return changed


def without_account(data: AccountData, name: str) -> AccountData:
    """Return the content without an account, its tokens and its links.

    Raises:
        UsageError: it does not exist, or no administrator would be left.
    """
    if name not in data.accounts:
        raise UsageError(f"there is no account {name}; expected one of {', '.join(sorted(data.accounts)) or 'none'}")
    changed = replace(
        data,
        accounts={other: account for other, account in data.accounts.items() if other != name},
        tokens={key: token for key, token in data.tokens.items() if token.account != name},
        links={key: link for key, link in data.links.items() if link.account != name},
    )
    _keep_an_administrator(data, changed)
    return changed


def without_access(data: AccountData, name: str, role: Role) -> AccountData:
    """Return the content with an account that has a role, and no password, second factor, session or token until it uses a link."""
    return replace(
        data,
        accounts=data.accounts | {name: Account(role=role, epoch=new_epoch())},
        tokens={key: token for key, token in data.tokens.items() if token.account != name},
        links={key: link for key, link in data.links.items() if link.account != name},
    )


def with_link(data: AccountData, account: str | None, lasts_s: float) -> tuple[AccountData, str]:
    """Return the content with a link for an account, in the place of its earlier ones, and the link's text (128 bits)."""
    text = secrets.token_urlsafe(16)
    links = {key: link for key, link in data.links.items() if _is_valid(link) and link.account != account}
    if len(links) >= _LINKS_LIMIT:
        raise UsageError(f"there are {_LINKS_LIMIT} open links; expected one to be used first")
    links[digest(text)] = OneTimeLink(account=account, boot=_boot(), expires_s=now_s() + lasts_s)
    return replace(data, links=links), text


def with_token(data: AccountData, token: Token) -> tuple[AccountData, str]:
    """Return the content with a token, without those that have expired, and the identifier of the token."""
    now_wall_s = time.time()
    tokens = {key: one for key, one in data.tokens.items() if one.expires_s > now_wall_s}
    if len(tokens) >= _TOKENS_LIMIT:
        raise UsageError(f"there are {_TOKENS_LIMIT} tokens; expected one to be revoked first")
    identifier = secrets.token_hex(8)
    return replace(data, tokens=tokens | {identifier: token}), identifier


def used_from(account: Account, address: str) -> Account:
    """Return an account that was used from an address."""
    known = tuple(each for each in account.addresses if each != address)
    return replace(account, addresses=(*known, address)[-_ADDRESSES:])


def now_s() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the machine sleeps; the same in all processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return "unknown"


def _is_valid(link: OneTimeLink) -> bool:
    return link.boot == _boot() and now_s() < link.expires_s


def _keep_an_administrator(before: AccountData, after: AccountData) -> None:
    if before.is_set_up and not after.is_set_up:
        raise UsageError("no administrator would be left; expected another one to exist first")
