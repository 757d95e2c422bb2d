"""One server for the tests of a worker; each test calls it from addresses of its own, since failures are counted by address."""

from collections.abc import Generator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testing.browser import NewPage, chromium, watched_pages
from testing.requirements import missing
from testing.servers.web_page import WebClient, WebPage

if TYPE_CHECKING:
    from playwright.sync_api import Browser

collect_ignore_glob = ["test_*.py"] if missing("web") else []

_addresses = (f"127.0.{number // 200 + 1}.{number % 200 + 1}" for number in count())
_names = (f"account{number}" for number in count())


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Generator[WebPage, None, None]:
    folder = tmp_path_factory.mktemp("web") / "state"
    settings = "web.upload_limit_mb=30", "web.uploads_per_minute=1000", "web.job_timeout_s=120", "privacy.pixels=blurred"
    with WebPage(folder, *settings) as served:
        served.administrator()
        yield served


@pytest.fixture
def address() -> str:
    return next(_addresses)


@pytest.fixture
def name() -> str:
    return next(_names)


@pytest.fixture
def admin(page: WebPage, address: str, name: str) -> WebClient:
    return page.account(name, "admin", address)


@pytest.fixture
def operator(page: WebPage, address: str, name: str) -> WebClient:
    return page.account(f"{name}-operator", "operator", address)


@pytest.fixture
def viewer(page: WebPage, address: str, name: str) -> WebClient:
    return page.account(f"{name}-viewer", "viewer", address)


@pytest.fixture(scope="session")
def picture() -> bytes:
    return (Path(__file__).parents[2] / "edgepose" / "assets" / "golden.jpg").read_bytes()


# Not for the session: Playwright's loop would be found running by asyncio.run in later tests of this process.
@pytest.fixture(scope="module")
def browser() -> Generator["Browser", None, None]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def new_page(browser: "Browser") -> Generator[NewPage, None, None]:
    """Opens pages whose console and requests are watched."""
    with watched_pages(browser) as opened:
        yield opened
