"""The unit of the web page, checked by systemd's own tools."""

from pathlib import Path

import pytest

from testing.system.unit_files import complaints, exposure

UNIT = Path(__file__).parents[2] / "systemd" / "edgepose-web.service"
LOOSEST_EXPOSURE = 2.2


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_nothing_to_complain_of(tmp_path: Path) -> None:
    assert complaints(UNIT, tmp_path) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_the_service_is_hardly_exposed() -> None:
    assert exposure(UNIT) < LOOSEST_EXPOSURE


@pytest.mark.parametrize("line", ["MemoryMax=2G", "CPUWeight=25", "OOMPolicy=continue", "StateDirectory=edgepose", "DynamicUser=yes"])
def test_uploads_have_bounds_of_their_own(line: str) -> None:
    assert line in UNIT.read_text().splitlines()
