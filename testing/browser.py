"""What tests of the web pages share in a real browser: pages that are watched, sessions, and axe-core."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from testing.requirements import find_program
from testing.servers.web_page import WebClient

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = Path(__file__).parents[1] / "build" / "axe-core" / "axe.min.js"

NewPage = Callable[..., "Page"]


@contextmanager
def chromium() -> Generator["Browser", None, None]:
    """Open Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_program("chromium"), args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@contextmanager
def watched_pages(browser: "Browser") -> Generator[NewPage, None, None]:
    """Give a function that opens pages; afterwards, errors in their consoles and requests to other hosts fail the test."""
    problems: list[str] = []
    contexts = []

    def opened(*, width: int = 1280, bypass_csp: bool = False, expected: str = "", **settings: Any) -> "Page":
        context = browser.new_context(viewport={"width": width, "height": 900}, bypass_csp=bypass_csp, **settings)
        context.set_default_timeout(20_000)
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on(
            "console",
            lambda line: problems.append(line.text) if line.type == "error" and not (expected and expected in line.text) else None,
        )
        tab.on("request", lambda asked: problems.append(asked.url) if urlsplit(asked.url).hostname not in ("127.0.0.1", None) else None)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def signed_in(tab: "Page", client: WebClient) -> "Page":
    """Give a tab the session of a client."""
    tab.context.add_cookies([{"name": name, "value": value, "url": client.page.url} for name, value in client.cookies.items()])
    tab.goto(client.page.url)
    tab.get_by_role("button", name="Sign out").wait_for()
    return tab


def serious_faults(tab: "Page", view: str) -> list[str]:
    """Return what axe-core finds serious or worse in a view; skip where it is not installed."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed (make browser)")
    tab.evaluate(AXE.read_text())
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    faults = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    return [f"{view}: {each['id']} {each['nodes'][0]['html'][:200]}" for each in faults]
