"""What a page says at its start: where it is, by which certificate browsers know it, and how its first administrator gets in."""

from pathlib import Path

from edgepose.config.schema import WebConfig
from edgepose.web.accounts.file import AccountFile
from edgepose.web.accounts.first_start import forget_used_link, keep_address, keep_link, setup_link
from edgepose.web.certificate import fingerprint


def greet(url: str, web: WebConfig, folder: Path, *, terminal: bool) -> list[str]:
    """Return the lines, and keep address and first link where `edgepose accounts` finds them.

    Args:
        url: of the page.
        web: its settings.
        folder: of the accounts.
        terminal: whether a person reads the lines: what else reads them may keep them, as the journal does, and gets no link.
    """
    accounts = AccountFile(folder)
    keep_address(accounts, url)
    forget_used_link(accounts)
    lines = [f"serving {url}"]
    if url.startswith("https:") and web.certificate_file is None:
        lines.append(f"certificate of its own, SHA-256 {fingerprint(folder / 'certificate.pem')}")
    if accounts.read().is_set_up:
        return lines
    link = setup_link(accounts, url)
    if terminal:
        return [*lines, f"open this link once, within 15 minutes, to make the first administrator:\n{link}"]
    keep_link(accounts, link)
    return [*lines, "not set up yet: run `edgepose accounts setup` as root, or as the user of this program, for the first link"]
