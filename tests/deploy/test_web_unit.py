"""The unit of the web page, checked by systemd's own tools."""

import re
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "edgepose-web.service"
LOOSEST_EXPOSURE = 2.2


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    installed = tmp_path / UNIT.name
    installed.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(installed)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_the_service_is_hardly_exposed() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < LOOSEST_EXPOSURE


@pytest.mark.parametrize("line", ["MemoryMax=2G", "CPUWeight=25", "OOMPolicy=continue", "StateDirectory=edgepose", "DynamicUser=yes"])
def test_uploads_have_bounds_of_their_own(line: str) -> None:
    assert line in UNIT.read_text().splitlines()
