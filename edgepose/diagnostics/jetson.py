"""What `edgepose doctor` says of a Jetson: its release of Jetson Linux (L4T), its TensorRT, and what of them does not fit."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from edgepose.diagnostics.preflight import CheckResult
from edgepose.errors import UnavailableError
from edgepose.telemetry.sensors import power_w, read_text

_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: (\d+)(?:\.(\d+))?")
_JETPACKS = ((38, 0, "7"), (36, 4, "6.1 or newer"), (36, 0, "6.0"), (35, 0, "5"), (32, 0, "4"))
"""JetPack by the first release of Jetson Linux that belongs to it (https://developer.nvidia.com/embedded/jetpack-archive)."""

_FIRST_GOOD = (36, 4)  # JetPack 6.1 is the first with TensorRT 10
_SYSTEM_PACKAGES = Path("usr/lib")


def jetson_checks(root: Path = Path("/")) -> Iterator[CheckResult]:
    """Check the release, TensorRT and power mode of a Jetson; yields nothing on another machine.

    Args:
        root: of the file system.
    """
    text = read_text(root / "etc/nv_tegra_release")
    if text is None:
        return
    board = (read_text(root / "proc/device-tree/model") or "an unknown board").rstrip("\0")
    found = _RELEASE.match(text)
    if found is None:
        yield CheckResult("jetson", True, f"{board}, with a release of Jetson Linux that is not known here: {text[:60]}", note=True)
        return
    major, minor = int(found[1]), int(found[2])
    jetpack = next((name for first, second, name in _JETPACKS if (major, minor) >= (first, second)), "older than 4")
    release = f"{board}, Jetson Linux {'.'.join(part for part in found.groups() if part)} (JetPack {jetpack})"
    if (major, minor) < _FIRST_GOOD:
        lacking = "its TensorRT is older than 10" if major == _FIRST_GOOD[0] else "its Python or its TensorRT is too old"
        yield CheckResult("jetson", False, f"{release}: {lacking}; expected JetPack 6.1 or newer", UnavailableError.exit_code)
    else:
        yield CheckResult("jetson", True, release)
    yield _tensorrt(root)
    mode, watts = read_text(root / "var/lib/nvpmodel/status"), power_w(root / "sys")
    shown = ", ".join(f"{rail} {value:.1f} W" for rail, value in watts.items()) or "no power monitor"
    yield CheckResult("power", True, f"mode {mode.partition(':')[2].lstrip('0') or '0'} of nvpmodel; {shown}" if mode else shown)


def _tensorrt(root: Path) -> CheckResult:
    """Return whether JetPack's TensorRT is there, and whether this environment sees it."""
    if importlib.util.find_spec("tensorrt") is not None:
        return CheckResult("jetpack tensorrt", True, "its Python package is visible here")
    places = sorted((root / _SYSTEM_PACKAGES).glob("python3*/dist-packages/tensorrt/__init__.py"))
    if not places:
        text = "its Python package is not installed: sudo apt-get install python3-libnvinfer"
        return CheckResult("jetpack tensorrt", True, text, note=True)
    version = places[0].parts[-4].removeprefix("python")
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in ("3", ours):
        text = f"it belongs to Python {version}, and this is {ours}; expected an environment of /usr/bin/python{version}"
    else:
        text = "it is installed, but this environment does not see the system's packages; expected deploy/install.sh --system-packages"
    return CheckResult("jetpack tensorrt", True, text, note=True)
