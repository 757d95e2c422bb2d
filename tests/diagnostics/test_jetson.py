"""What doctor says of a Jetson, on file systems that look like one: no Jetson was at hand."""

from pathlib import Path

import pytest

from edgepose.diagnostics.jetson import jetson_checks
from edgepose.diagnostics.preflight import CheckResult

LINE = "# R{} (release), REVISION: {}, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025"


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Jetson Orin Nano Developer Kit\0")
    return tmp_path


def checks(root: Path, release: str, revision: str) -> dict[str, CheckResult]:
    (root / "etc/nv_tegra_release").write_text(LINE.format(release, revision) + "\n")
    return {result.what: result for result in jetson_checks(root)}


def test_another_machine_is_no_jetson(tmp_path: Path) -> None:
    assert list(jetson_checks(tmp_path)) == []


@pytest.mark.parametrize(
    ("release", "revision", "jetpack", "fault"),
    [
        ("32", "7.6", "4", "its Python or its TensorRT is too old"),
        ("35", "6.1", "5", "its Python or its TensorRT is too old"),
        ("36", "3.0", "6.0", "its TensorRT is older than 10"),
        ("36", "4.3", "6.1 or newer", None),
        ("38", "2.0", "7", None),
    ],
)
def test_the_release_says_which_jetpack_it_is(jetson: Path, release: str, revision: str, jetpack: str, fault: str | None) -> None:
    result = checks(jetson, release, revision)["jetson"]
    assert f"NVIDIA Jetson Orin Nano Developer Kit, Jetson Linux {release}.{revision} (JetPack {jetpack})" in result.detail
    assert (result.good, result.exit_code) == ((True, 0) if fault is None else (False, 69))
    assert fault is None or f": {fault}; expected JetPack 6.1 or newer" in result.detail


def test_a_release_of_another_form_is_shown(jetson: Path) -> None:
    (jetson / "etc/nv_tegra_release").write_text("# unheard of\n")
    (result,) = jetson_checks(jetson)
    assert (result.good, result.note) == (True, True)
    assert "unheard of" in result.detail


def test_a_tensorrt_that_this_environment_does_not_see_is_named(jetson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "sudo apt-get install python3-libnvinfer" in checks(jetson, "36", "4.3")["jetpack tensorrt"].detail
    other = jetson / "usr/lib/python3.1/dist-packages/tensorrt/__init__.py"
    other.parent.mkdir(parents=True)
    other.touch()
    assert "it belongs to Python 3.1, and this is" in checks(jetson, "36", "4.3")["jetpack tensorrt"].detail
    other.parent.rename(jetson / "usr/lib/tensorrt")
    ours = jetson / "usr/lib/python3/dist-packages/tensorrt"
    ours.parent.mkdir(parents=True)
    (jetson / "usr/lib/tensorrt").rename(ours)
    assert (
        "does not see the system's packages; expected deploy/install.sh --system-packages"
        in checks(jetson, "36", "4.3")["jetpack tensorrt"].detail
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert checks(jetson, "36", "4.3")["jetpack tensorrt"].detail == "its Python package is visible here"


def test_power_mode_and_rails_are_shown(jetson: Path) -> None:
    assert checks(jetson, "36", "4.3")["power"].detail == "no power monitor"
    mode, monitor = jetson / "var/lib/nvpmodel/status", jetson / "sys/class/hwmon/hwmon1"
    mode.parent.mkdir(parents=True)
    mode.write_text("pmode:0002\n")
    monitor.mkdir(parents=True)
    for name, text in (("name", "ina3221"), ("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "1500")):
        (monitor / name).write_text(text)
    assert checks(jetson, "36", "4.3")["power"].detail == "mode 2 of nvpmodel; VDD_IN 7.5 W"
