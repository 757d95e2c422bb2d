"""What systemd says of a unit file, without running it."""

import re
import subprocess
from pathlib import Path


def complaints(unit: Path, folder: Path) -> tuple[int, str]:
    """Return exit status and output of a verification; its program, which is not installed here, is replaced by another one."""
    installed = folder / unit.name
    installed.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(installed)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def exposure(unit: Path) -> float:
    """Return how exposed a service is, 0 (not at all) to 10."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])
