"""`edgepose build-engine` on the stand-in: what it tells the service manager, people and scripts."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgepose.cli.build_engine import command
from edgepose.engine.golden import GoldenResult
from edgepose.engine.tensorrt.networks import TensorRtDevice
from edgepose.errors import EngineError
from testing.onnx_files import write_edgepose
from testing.tensorrt_stand_in import World, install


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    install(found := World(), monkeypatch)
    monkeypatch.setattr(TensorRtDevice, "_compare", lambda *_: GoldenResult(2, 1.0, 0.0))  # the tiny network finds nobody
    return found


def build(folder: Path, *options: str, backend: str = "tensorrt") -> Result:
    model = folder / "tiny.onnx"
    if not model.exists():
        write_edgepose(model)
    settings = (f"model.path={model}", f"model.engines={folder / 'engines'}", f"model.backend={backend}", "refine.people=0")
    arguments = [part for setting in settings for part in ("--set", setting)]
    return CliRunner().invoke(command, [*arguments, *options], catch_exceptions=False)


def test_the_service_manager_hears_how_far_it_is_and_waits(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        assert build(tmp_path).stdout == "tiny.onnx: built and checked\n"
        told = [manager.recv(1000).decode() for _ in range(3)]
    assert told == ["STATUS=building: 0 %, tiny: Building engine", "EXTEND_TIMEOUT_USEC=120000000", "READY=1"]


def test_scripts_get_one_object(tmp_path: Path, world: World) -> None:
    assert build(tmp_path, "--json").exit_code == 0
    again = json.loads(build(tmp_path, "--json").stdout)
    assert again == {"engines": [{"model": "tiny.onnx", "built": False, "detail": "tiny.onnx: is there, nothing to do"}]}
    forced = json.loads(build(tmp_path, "--json", "--force").stdout)
    assert forced["engines"][0]["built"]
    assert world.builds == 2


def test_where_there_is_no_device_auto_builds_nothing_and_tensorrt_by_name_fails(tmp_path: Path, world: World) -> None:
    world.devices = 0
    assert build(tmp_path, backend="auto").stdout == (
        "nothing to build: tensorrt is not used: CUDA finds no device; expected a GPU and its driver\n"
    )
    with pytest.raises(EngineError, match="CUDA finds no device"):
        build(tmp_path)
