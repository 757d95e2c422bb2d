"""Programs and libraries that a test needs beyond the packages of `make setup`, and what brings each of them.

A test names them, `@needs("promtool")`; a test server requires its own when it starts, `require("mosquitto")`. Where one is missing,
tests/conftest.py skips the test and says what to install. Each probe runs once in a process.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from edgepose.capture.gstreamer.library import load
from edgepose.errors import UnavailableError

SYSTEM_PYTHON = "/usr/bin/python3"
"""The interpreter that Debian's python3-gi belongs to."""

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")

_SYSTEMD = Path("/lib/systemd/systemd")
_BASE, _GOOD, _BAD, _UGLY = (f"gstreamer1.0-plugins-{name}" for name in ("base", "good", "bad", "ugly"))

RTSP_SERVER_ELEMENTS = {
    "videotestsrc": _BASE,
    "audiotestsrc": _BASE,
    "alawenc": _GOOD,
    "capssetter": _GOOD,
    "qtdemux": _GOOD,
    "rtpbin": _GOOD,
    "rtph264pay": _GOOD,
    "rtppcmapay": _GOOD,
    "udpsink": _GOOD,
    "udpsrc": _GOOD,
    "h264parse": _BAD,
    "x264enc": _UGLY,
}
"""Elements of `testing/servers/rtsp_server.py` with their Debian packages."""

CAPTURE_ELEMENTS = {
    "videotestsrc": _BASE,
    "decodebin": _BASE,
    "videoconvert": _BASE,
    "rtspsrc": _GOOD,
    "videoflip": _GOOD,
    "v4l2src": _GOOD,
    "h264parse": _BAD,
}
"""Elements that tests of `edgepose.capture.gstreamer` use, with their Debian packages."""

_PROBE_RTSP_SERVER = """
import sys
try:
    import gi
except ImportError:
    sys.exit("python3-gi")
try:
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import Gst, GstRtspServer
except (ImportError, ValueError):
    sys.exit("gir1.2-gst-rtsp-server-1.0")
Gst.init(None)
print(*(name for name in sys.argv[1:] if Gst.ElementFactory.find(name) is None))
"""


class MissingRequirementError(Exception):
    """Something that a test needs is missing here; the text names it and what to install."""


def find_program(name: str) -> str | None:
    """Return the path of a program; Debian keeps those of servers outside of a user's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def exists(path: Path) -> bool:
    """Return whether a file exists; a function of its own so that a test can take all files away."""
    return path.exists()


def missing(*names: str) -> str | None:
    """Return why a test that needs these requirements cannot run here, or None where it can."""
    return next((reason for name in names if (reason := _probe(name))), None)


def require(*names: str) -> None:
    """Pass where these requirements are installed.

    Raises:
        MissingRequirementError: one is not.
    """
    if (reason := missing(*names)) is not None:
        raise MissingRequirementError(reason)


def packages_named(reasons: Iterable[str]) -> list[str]:
    """Return the Debian packages that sentences of `missing` name."""
    lists = (found[1] for reason in reasons for found in re.finditer(r"\(Debian packages? ([a-z0-9.+, -]+)\)", reason))
    return sorted({package.strip() for packages in lists for package in packages.split(",")})


@cache
def _probe(name: str) -> str | None:
    return REQUIREMENTS[name]()


def _program(name: str, package: str) -> Callable[[], str | None]:
    return lambda: None if find_program(name) else f"{name} is not installed (Debian package {package})"


def _file(name: str, found: Callable[[], bool], package: str) -> Callable[[], str | None]:
    return lambda: None if found() else f"{name} is not installed (Debian package {package})"


def _module(name: str, extra: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(name) else f"{name} is not installed (pip install {extra})"


def _elements(names: Sequence[str], packages: dict[str, str]) -> str | None:
    """Return the sentence about missing GStreamer elements, or None."""
    if not names:
        return None
    wanted = sorted({packages[name] for name in names})
    return f"GStreamer's {', '.join(names)} {'is' if len(names) == 1 else 'are'} not installed ({_debian(wanted)})"


def _debian(packages: Sequence[str]) -> str:
    return f"Debian package{'s' if len(packages) > 1 else ''} {', '.join(packages)}"


def _rtsp_server() -> str | None:
    if not exists(Path(SYSTEM_PYTHON)):
        return f"{SYSTEM_PYTHON} is not installed (Debian package python3)"
    command = [SYSTEM_PYTHON, "-c", _PROBE_RTSP_SERVER, *RTSP_SERVER_ELEMENTS]
    probed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if probed.returncode:
        return f"GStreamer's RTSP server is not installed (Debian package {probed.stderr.strip().splitlines()[-1]})"
    return _elements(probed.stdout.split(), RTSP_SERVER_ELEMENTS)


def _gstreamer() -> str | None:
    try:
        library = load()
    except UnavailableError as error:
        return f"{error} ({_debian(('python3-gi', 'gir1.2-gst-plugins-base-1.0'))})"
    lacking = [name for name in CAPTURE_ELEMENTS if not library.has(name)]
    if not lacking and not (library.has("avdec_h264") or library.has("openh264dec")):
        return f"GStreamer's avdec_h264 or openh264dec is not installed ({_debian(('gstreamer1.0-libav', _BAD))})"
    return _elements(lacking, CAPTURE_ELEMENTS)


def _dynamic_security() -> bool:
    return any(map(exists, Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")))


def _root() -> str | None:
    return None if os.geteuid() == 0 else "this test needs root"


def _synth() -> str | None:
    if lacking := [name for name in ("torch", "anny", "moderngl") if importlib.util.find_spec(name) is None]:
        return f"{lacking[0]} is not installed (pip install 'edgepose-export[synth]')"
    from edgepose_export.synth.bodies import cache_exists
    from edgepose_export.synth.renderer import Renderer

    if not cache_exists():
        return "the body model has no cache yet (`edgepose-export synth --count 1 --seed 0 --output NEW` makes it: 90 s, 0.8 GB)"
    try:
        with Renderer(16):
            return None
    except UnavailableError as error:
        return str(error)


def _python_with(variable: str, module: str) -> Callable[[], str | None]:
    """Return a probe for another Python, named by an environment variable, that has a module."""
    return lambda: (
        None if os.environ.get(variable) else f"{module} is not installed in a Python that {variable} names (pip install {module})"
    )


def _inference_server(name: str) -> Callable[[], str | None]:
    complete = Path(__file__).resolve().parents[1] / "build" / "servers" / name / "complete"
    return lambda: None if exists(complete) else f"the inference server {name} is not installed (make triton)"


REQUIREMENTS: dict[str, Callable[[], str | None]] = {
    "amqtt": _module("amqtt", "'edgepose[demo]'"),
    "chromium": _program("chromium", "chromium"),
    "duckdb": _module("duckdb", "'edgepose-export[store]'"),
    "ejabberd": _program("ejabberdctl", "ejabberd"),
    "encryption": _module("cryptography", "'edgepose[encryption]'"),
    "faketime": _file("libfaketime", lambda: exists(FAKETIME), "faketime"),
    "ffmpeg": _program("ffmpeg", "ffmpeg"),
    "gcc": _program("gcc", "gcc"),
    "gstreamer": _gstreamer,
    "ip": _program("ip", "iproute2"),
    "iptables": _program("iptables", "iptables"),
    "mavsdk": _python_with("MAVSDK_PYTHON", "mavsdk"),
    "mlserver": _inference_server("mlserver"),
    "mkdocs": _module("mkdocs", "'edgepose[dev]'"),
    "mosquitto": _program("mosquitto", "mosquitto"),
    "mosquitto-dynamic-security": _file("mosquitto_dynamic_security.so", _dynamic_security, "mosquitto"),
    "node": _program("node", "nodejs"),
    "openssl": _program("openssl", "openssl"),
    "pymavlink": _module("pymavlink", "'edgepose[mavlink]'"),
    "playwright": _module("playwright", "'edgepose[dev]'"),
    "postgres": _file("postgres", lambda: any(map(exists, Path("/usr/lib/postgresql").glob("*/bin/postgres"))), "postgresql"),
    "prlimit": _program("prlimit", "util-linux"),
    "psycopg": _module("psycopg", "'edgepose-export[postgres]'"),
    "prometheus": _program("prometheus", "prometheus"),
    "promtool": _program("promtool", "prometheus"),
    "ray": _module("ray", "'edgepose-export[archive]'"),
    "root": _root,
    "rtsp-server": _rtsp_server,
    "shellcheck": _program("shellcheck", "shellcheck"),
    "synth": _synth,
    "systemd": _file(str(_SYSTEMD), lambda: exists(_SYSTEMD), "systemd"),
    "systemd-analyze": _program("systemd-analyze", "systemd"),
    "systemd-creds": _program("systemd-creds", "systemd"),
    "tc": _program("tc", "iproute2"),
    "tpm2": lambda: _program("swtpm", "swtpm, tpm2-tools")() or _program("tpm2_flushcontext", "tpm2-tools")(),
    "torch": _module("torch", "'edgepose-export[train]'"),
    "triton": _inference_server("triton"),
    "tritonclient": _module("tritonclient", "'edgepose[triton]'"),
    "unshare": _program("unshare", "util-linux"),
    "web": _module("fastapi", "'edgepose[web]'"),
}
"""Probes by name; each returns None, or a sentence that says what is missing and what brings it."""
