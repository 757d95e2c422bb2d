"""A test whose programs and libraries are missing is skipped, and says what to install."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from testing import requirements
from testing.requirements import REQUIREMENTS, MissingRequirementError, missing, require

pytestmark = pytest.mark.xdist_group("requirements")  # one run without anything installed

ROOT = Path(__file__).parents[1]

STREAMS = "tests/integration/test_streams.py::test_a_stream_is_read_live_and_fresh_and_its_end_is_an_error"
DASHBOARD = "tests/integration/test_monitoring.py::test_prometheus_scrapes_it_and_answers_every_query_of_the_dashboard"

# Tests of each requirement, and what their reason for skipping says.
WITHOUT = {
    "amqtt": ("tests/integration/test_mqtt.py::test_falls_back_to_3_1_1", r"amqtt .*pip install 'edgepose\[demo\]'"),
    "faults": ("tests/faults/test_rows.py::test_what_must_hold_holds", "Debian package mosquitto"),
    "ffmpeg": (f"{STREAMS}[rtmp-flv-{{address}}/live/cam-{{address}}/live/cam]", "Debian package ffmpeg"),
    "fuzz": ("tests/fuzz/test_fuzz.py::test_nothing_ends_hangs_or_speaks_in_tracebacks[messages]", "Debian package ffmpeg"),
    "gstreamer": ("tests/capture/gstreamer/test_source.py", "packages gstreamer1.0-plugins-bad, .*-base, .*-good"),
    "mosquitto": ("tests/integration/test_mqtt.py::test_msgpack", "mosquitto .*Debian package mosquitto"),
    "mosquitto with users": ("tests/integration/test_mqtt.py::test_right_password_gets_in", "Debian package mosquitto"),
    "openssl": ("tests/integration/test_mqtt.py::test_tls", "Debian package openssl"),
    "prometheus": (DASHBOARD, "prometheus .*Debian package prometheus"),
    "promtool": ("tests/deploy/test_prometheus.py::test_every_alert_fires_when_it_shall_and_only_then", "promtool .*package prometheus"),
    "rtsp-server": (
        "tests/integration/test_rtsp.py::test_the_right_password_opens",
        "x264enc .*packages .*gstreamer1.0-plugins-ugly",
    ),
    "shellcheck": ("tests/system/test_fixture.py::test_scripts_are_sound", "Debian package shellcheck"),
    "systemd": ("tests/system/test_service.py", "Debian package systemd|needs root"),
    "systemd-analyze": ("tests/deploy/test_systemd_unit.py::test_systemd_finds_nothing_to_complain_of", "Debian package systemd"),
    "torch": ("tests/export/network/test_ghost.py", r"torch .*pip install 'edgepose-export\[train\]'"),
}


@pytest.fixture(scope="module")
def skipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Reasons by test, of a run where nothing is installed."""
    folder = tmp_path_factory.mktemp("nothing")
    (folder / "empty").mkdir()
    empty = {"PATH": str(folder / "empty"), "GST_PLUGIN_SYSTEM_PATH_1_0": str(folder / "empty"), "GST_REGISTRY": str(folder / "registry")}
    nodes = sorted({test for test, _ in WITHOUT.values()})
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "testing.nothing_installed", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [f"--junitxml={report}", f"--basetemp={folder / 'temporary'}"]
    done = subprocess.run([*command, *nodes], capture_output=True, text=True, timeout=500, cwd=ROOT, env=dict(os.environ) | empty)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        assert not {"failure", "error"} & {child.tag for child in case}
        reason = case.find("skipped")
        if reason is not None:
            found[f"{case.get('classname')}.{case.get('name')}".lstrip(".")] = f"{reason.get('message')} {reason.text}"
    return found


@pytest.mark.parametrize(("test", "reason"), WITHOUT.values(), ids=list(WITHOUT))
def test_what_is_missing_skips_its_tests_and_is_named(skipped: dict[str, str], test: str, reason: str) -> None:
    module, _, function = test.partition(".py")
    name = module.replace("/", ".") + function.replace("::", ".", 1)
    said = [words for key, words in skipped.items() if key.startswith(name)]
    assert said, f"{test} was not skipped; skipped were {sorted(skipped)}"
    assert all(re.search(reason, words) for words in said), said


@pytest.mark.parametrize("name", sorted(set(REQUIREMENTS) - {"root"}))
def test_every_reason_names_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "exists", lambda _: False)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    if name == "gstreamer":  # itself stays: loaded without its own modules it would be broken for all tests after this one
        monkeypatch.setattr(requirements, "CAPTURE_ELEMENTS", {"no-such-element": "gstreamer1.0-plugins-ugly"})
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert re.search(
        r"(is|are) not (installed|available here).*\((Debian packages? [a-z0-9., -]+|pip install \S+|make [a-z-]+)\)$",
        REQUIREMENTS[name]() or "",
    )


def test_a_missing_element_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    if (reason := missing("rtsp-server")) is not None:
        pytest.skip(reason)
    monkeypatch.setattr(
        requirements, "RTSP_SERVER_ELEMENTS", {"udpsrc": "gstreamer1.0-plugins-good", "x999enc": "gstreamer1.0-plugins-ugly"}
    )
    assert REQUIREMENTS["rtsp-server"]() == "GStreamer's x999enc is not installed (Debian package gstreamer1.0-plugins-ugly)"


def test_a_requirement_is_probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    probes = []

    def probe() -> str:
        probes.append(1)
        return "a is not installed (Debian package a)"

    monkeypatch.setitem(REQUIREMENTS, "a", probe)
    for _ in range(3):
        with pytest.raises(MissingRequirementError, match="Debian package a"):
            require("a")
    assert len(probes) == 1


def test_the_end_of_a_run_names_all_packages_in_one_line(tmp_path: Path) -> None:
    empty = {"PATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "testing.nothing_installed", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, WITHOUT["promtool"][0]], capture_output=True, text=True, timeout=500, cwd=ROOT, env=dict(os.environ) | empty
    )
    assert "For the skipped tests: sudo apt-get install --no-install-recommends prometheus\n" in done.stdout, done.stdout


def test_the_readme_names_every_package_that_a_reason_names() -> None:
    named = set(re.findall(r"[a-z0-9.+-]+", (ROOT / "README.md").read_text()))
    source = Path(requirements.__file__).read_text()
    packages = {*requirements.RTSP_SERVER_ELEMENTS.values(), *requirements.CAPTURE_ELEMENTS.values()}
    packages |= set(re.findall(r'_(?:program|file)\(.*, "([a-z0-9.-]+)"\)', source))
    assert packages - named - {"util-linux"} == set()  # which no Debian system lacks
