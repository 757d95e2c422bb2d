"""The unit, checked by systemd's own tools."""

import re
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "edgepose.service"
LOOSEST_EXPOSURE = 2.0


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    installed = tmp_path / "edgepose.service"  # systemd checks the program, which is not installed here
    installed.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(installed)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout + done.stderr == ""


@pytest.mark.needs("systemd-analyze")
def test_the_service_is_hardly_exposed() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < LOOSEST_EXPOSURE


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
