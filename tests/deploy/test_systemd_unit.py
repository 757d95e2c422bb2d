"""The unit, checked by systemd's own tools."""

import re
from pathlib import Path

import pytest

from testing.system.unit_files import complaints, exposure

UNIT = Path(__file__).parents[2] / "systemd" / "edgepose.service"
LOOSEST_EXPOSURE = 2.0


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    assert complaints(UNIT, tmp_path) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_the_service_is_hardly_exposed() -> None:
    assert exposure(UNIT) < LOOSEST_EXPOSURE


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "RestartPreventExitStatus=78",
        "DynamicUser=yes",
        "StateDirectory=edgepose",
        "Environment=ORT_DISABLE_TELEMETRY=1",
        "LimitCORE=0",
        "OOMPolicy=continue",
    ],
)
def test_the_unit_keeps_its_contract(line: str) -> None:
    assert line in UNIT.read_text().splitlines()


def test_the_watchdog_is_on() -> None:
    assert re.search(r"^WatchdogSec=\d+$", UNIT.read_text(), re.MULTILINE)
