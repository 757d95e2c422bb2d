"""Tests inside a real systemd are skipped, with the reason, where there can be none."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from testing.servers import systemd
from testing.servers.mosquitto import Mosquitto
from testing.servers.systemd import Systemd
from testing.system.service import Service
from tests.integration.conftest import pytest_collection_modifyitems as skip_without_servers

reason_against = cache(systemd.why_not)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    skip_without_servers(ours)
    for item in ours:
        if getattr(item, "module", None) and vars(item.module).get("Systemd") is Systemd and (reason := reason_against()):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """A systemd with the shipped unit installed, running the program of this checkout."""
    with Systemd(tmp_path_factory.mktemp("systemd"), Service.shared()) as booted:
        Service.install(booted)
        yield booted


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker that lets in `drone` and `reader` only."""
    with Mosquitto(tmp_path_factory.mktemp("broker"), users={"drone": Service.PASSWORD, "reader": "r"}) as started:
        yield started


@pytest.fixture
def service(machine: Systemd, broker: Mosquitto) -> Iterator[Service]:
    """The service, stopped, with a clip as its camera."""
    prepared = Service(machine, broker.port)
    try:
        yield prepared
    finally:
        print(prepared.journal())  # shown where the test failed
        prepared.close()
