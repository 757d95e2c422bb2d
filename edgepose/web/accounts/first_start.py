"""The first start: no account, no default password, but one link that anybody who has the device can open once."""

from contextlib import suppress

from edgepose.encryption.files import state_files, write_whole
from edgepose.errors import UsageError
from edgepose.web.accounts.file import KIND, LINK_S, AccountFile, with_link

_LINK, _ADDRESS = "setup-link", "address"
_LIMIT_BYTES = 1000


def setup_link(accounts: AccountFile, url: str) -> str:
    """Return the address that sets up the first administrator, valid once and for a quarter of an hour; earlier ones are void.

    Args:
        accounts: without an administrator.
        url: scheme, host and port of the page.

    Raises:
        UsageError: there is an administrator already.
    """
    if accounts.read().is_set_up:
        raise UsageError("this page is set up already; expected `edgepose accounts reset NAME` for an account that cannot sign in any more")
    text = accounts.update(lambda data: with_link(data, None, LINK_S))
    return f"{url}/setup#{text}"


def keep_link(accounts: AccountFile, link: str) -> None:
    """Write a link to a file that its owner alone can read, for `edgepose accounts setup`."""
    _write(accounts, _LINK, link)


def kept_link(accounts: AccountFile) -> str | None:
    """Return the link in that file, None where there is none, or where it is void."""
    link = _read(accounts, _LINK)
    return link if link is not None and accounts.read().valid_link(link.rpartition("#")[2]) is not None else None


def forget_used_link(accounts: AccountFile) -> None:
    """Delete that file once the page is set up."""
    if accounts.read().is_set_up:
        with suppress(OSError):
            state_files().place(accounts.folder / _LINK).unlink(missing_ok=True)


def keep_address(accounts: AccountFile, url: str) -> None:
    """Write where the page is, for links that are made on the device."""
    _write(accounts, _ADDRESS, url)


def kept_address(accounts: AccountFile) -> str | None:
    """Return where the page was at its last start, None where it never was."""
    return _read(accounts, _ADDRESS)


def _write(accounts: AccountFile, name: str, text: str) -> None:
    write_whole(accounts.folder / name, f"{text}\n".encode(), KIND, sync=False, owner_of=accounts.folder)


def _read(accounts: AccountFile, name: str) -> str | None:
    try:
        return state_files().load(accounts.folder / name, KIND)[:_LIMIT_BYTES].decode().strip() or None
    except (OSError, UnicodeDecodeError):
        return None
