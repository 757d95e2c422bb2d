"""A booted systemd with the shipped unit, and a broker outside of it."""

from collections.abc import Iterator

import pytest

from testing.servers.mosquitto import Mosquitto
from testing.servers.systemd import Systemd
from testing.system.service import Service


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
