"""The booted systemd itself leaves nothing behind; scripts and drop-ins are sound."""

import shutil
import subprocess
from pathlib import Path

import pytest

from testing.servers import systemd
from testing.servers.systemd import Systemd

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(script for folder in ("deploy", "testing", "tests", "tools") for script in (ROOT / folder).rglob("*.sh"))
PROGRAM = "ExecStart=/opt/edgepose/current/bin/edgepose"


def _groups(process: Path) -> bytes:
    try:
        return (process / "cgroup").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return b""


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    with Systemd(tmp_path / "systemd", {"/mnt/shared": tmp_path}) as machine:
        machine.write("/etc/left-behind-by-a-test", "x")
        machine.write("/mnt/shared/on-purpose", "x")
        name = machine.name
        assert list(systemd.CGROUPS.glob(f"**/{name}"))
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not Path("/etc/left-behind-by-a-test").exists()
    assert (tmp_path / "on-purpose").exists()
    assert not list(systemd.CGROUPS.glob(f"**/{name}"))
    assert not any(name.encode() in _groups(process) for process in Path("/proc").glob("[0-9]*"))


@pytest.mark.needs("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_sound(script: Path) -> None:
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, timeout=120)
    assert done.stdout + done.stderr == ""


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("drop_in", sorted((ROOT / "deploy" / "drop-ins").glob("*.conf")), ids=lambda path: path.stem)
def test_drop_ins_are_sound(drop_in: Path, tmp_path: Path) -> None:
    unit = tmp_path / "edgepose.service"
    unit.write_text(
        (ROOT / "systemd" / unit.name).read_text().replace("ExecStart=/opt/edgepose/current/bin/edgepose", "ExecStart=/bin/true")
    )
    (tmp_path / "edgepose.service.d").mkdir()
    shutil.copy(drop_in, tmp_path / "edgepose.service.d")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
