"""One server for the tests of a worker; each test calls it from addresses of its own, since failures are counted by address."""

from collections.abc import Generator
from itertools import count
from pathlib import Path

import pytest

from testing.requirements import missing
from testing.servers.web_page import WebClient, WebPage

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
