"""The process that builds, real, with the stand-in as its TensorRT: progress, errors, kills, and the golden check."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from edgepose.config.schema import Config, ModelConfig, RefineConfig
from edgepose.diagnostics.engines import build_engines
from edgepose.engine.backend import log_progress, open_backend
from edgepose.engine.selection import select
from edgepose.engine.tensorrt import building
from edgepose.engine.tensorrt.build import BuildProgress
from edgepose.engine.tensorrt.building import BuildEvent, BuildOrder, EngineBuilder, build_all, serve
from edgepose.engine.tensorrt.networks import TensorRtDevice
from edgepose.errors import ConfigError, EngineError, ModelError
from edgepose.model.file import ModelFile
from edgepose.model.shipped import named_model
from testing.tensorrt_stand_in import World, install, write_packages
from testing.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def shipped() -> ModelFile:
    return named_model("default", "pose", backend="cpu")


def use_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), str(ROOT))))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World) -> Path:
    """The stand-in here and in other processes."""
    folder = write_packages(tmp_path / "packages")
    use_packages(folder, monkeypatch)
    return folder


def test_an_engine_is_built_checked_and_found(packages: Path, shipped: ModelFile, settings: ModelConfig) -> None:
    seen: list[BuildProgress] = []
    EngineBuilder([shipped], settings).run(seen.append)
    assert seen[-1].phase.endswith(": comparing")
    assert TensorRtDevice(settings).is_built(shipped)
    again: list[BuildProgress] = []
    EngineBuilder([shipped], settings).run(again.append)
    assert again == []


@pytest.mark.parametrize(
    ("fail", "kind", "message"),
    [("build", EngineError, "memory is short"), ("parse", ModelError, "does not take"), ("deserialize", EngineError, "does not load")],
)
def test_the_errors_of_the_process_are_errors_here(
    tmp_path: Path,
    model: ModelFile,
    settings: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    fail: str,
    kind: type,
    message: str,
) -> None:
    use_packages(write_packages(tmp_path / "packages", fail=fail), monkeypatch)
    with pytest.raises(kind, match=message):
        EngineBuilder([model], settings).run()
    assert not TensorRtDevice(settings).is_built(model)


def test_a_process_that_is_killed_leaves_nothing_and_the_next_one_builds(
    tmp_path: Path, shipped: ModelFile, settings: ModelConfig, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    use_packages(write_packages(tmp_path / "slow", step_s=30), monkeypatch)
    builder = EngineBuilder([shipped], settings)
    failures: list[EngineError] = []

    def run() -> None:
        try:
            builder.run()
        except EngineError as error:
            failures.append(error)

    lock = Path(settings.engines or "") / f"{TensorRtDevice(settings).key(shipped).stem}.lock"

    def building() -> bool:
        return builder._process is not None and lock.exists() and lock.stat().st_size > 0

    for _ in range(3):
        builder = EngineBuilder([shipped], settings)
        failures.clear()
        thread = threading.Thread(target=run)
        thread.start()
        wait_for(building, within_s=30)
        assert builder._process is not None
        builder._process.kill()
        thread.join(60)
        assert "was ended by SIGKILL: mostly because memory is short" in str(failures[0])
        assert not TensorRtDevice(settings).is_built(shipped)
    use_packages(write_packages(tmp_path / "fast"), monkeypatch)
    EngineBuilder([shipped], settings).run()
    assert TensorRtDevice(settings).is_built(shipped)


def test_stopping_ends_the_process(
    tmp_path: Path, model: ModelFile, settings: ModelConfig, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    use_packages(write_packages(tmp_path / "slow", step_s=30), monkeypatch)
    builder = EngineBuilder([model], settings)
    seen: list[BuildProgress] = []
    ended: list[str] = []

    def run() -> None:
        try:
            builder.run(seen.append)
        except EngineError as error:
            ended.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: seen, within_s=30)
    builder.stop()
    thread.join(60)
    assert ended == ["the process that builds engines was stopped"]
    with pytest.raises(EngineError, match="the build was stopped"):
        builder.run()


def test_a_process_whose_parent_is_gone_ends(tmp_path: Path, model: ModelFile, settings: ModelConfig) -> None:
    folder = write_packages(tmp_path / "slow", step_s=60)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    command = [sys.executable, "-m", "edgepose.engine.tensorrt.building"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(BuildOrder([str(model.path)], settings)) + b"\n")
    process.stdin.flush()
    assert b"percent" in process.stdout.readline()
    process.stdin.close()  # what the kernel does with a parent that is killed
    assert process.wait(120) == 1
    process.stdout.close()


def ignore(code: int) -> None:
    pass


def lines(written: list[bytes]) -> list[BuildEvent]:
    return [msgspec.json.decode(line, type=BuildEvent) for line in written]


class _Open(io.BytesIO):
    """A standard input with one line whose writer lives on."""

    def read(self, size: int | None = -1) -> bytes:
        threading.Event().wait(30)
        return b""


def order_of(model: ModelFile, settings: ModelConfig) -> _Open:
    return _Open(msgspec.json.encode(BuildOrder([str(model.path)], settings)) + b"\n")


def test_the_process_says_how_it_ended(shipped: ModelFile, settings: ModelConfig, world: World) -> None:
    written: list[bytes] = []
    assert serve(order_of(shipped, settings), written.append, ignore) == 0
    assert lines(written)[-1] == BuildEvent(100, done=True)
    written.clear()
    world.scale = 0.9  # an engine that was built wrongly
    assert serve(order_of(shipped, settings), written.append, ignore) == 0  # there is a good one already
    assert build_all_again(shipped, settings) == "tensorrt does not find the people that onnxruntime finds with the same file"


def build_all_again(model: ModelFile, settings: ModelConfig) -> str:
    written: list[bytes] = []
    order = _Open(msgspec.json.encode(BuildOrder([str(model.path)], settings, force=True)) + b"\n")
    assert serve(order, written.append, ignore) == 78
    last = lines(written)[-1]
    assert last.error == "ModelError"
    return last.message.partition(" on the shipped")[0]


def test_a_wrong_engine_is_refused_and_the_good_one_stays(shipped: ModelFile, settings: ModelConfig, world: World) -> None:
    order = BuildOrder([str(shipped.path)], settings)
    assert build_all(order, lambda progress: None) == [True]
    world.scale = 1.2
    with pytest.raises(ModelError, match="does not find the people"):
        build_all(msgspec.structs.replace(order, force=True), lambda progress: None)
    assert TensorRtDevice(settings).is_built(shipped)


# --- selection


def config(settings: ModelConfig) -> Config:
    return Config(model=settings, refine=RefineConfig(people=2))


def test_the_choice_before_and_after_the_build(settings: ModelConfig, world: World) -> None:
    for backend in ("auto", "tensorrt"):
        chosen = select(config(msgspec.structs.replace(settings, backend=backend)))
        assert chosen.now.backend == "auto"
        assert chosen.wanted is not None
        assert chosen.wanted.backend == "tensorrt"
        assert chosen.why == "the engine of ghost-n.onnx and refine-n.onnx is not built yet for tensorrt"
        assert chosen.ready.backend == ("tensorrt" if backend == "tensorrt" else "auto")
    reports = build_engines(config(settings), lambda progress: None)
    assert [(report.model, report.built) for report in reports] == [("ghost-n.onnx", True), ("refine-n.onnx", True)]
    for backend in ("auto", "tensorrt"):
        chosen = select(config(msgspec.structs.replace(settings, backend=backend)))
        assert (chosen.now.backend, chosen.wanted, chosen.why) == ("tensorrt", None, "")
    assert build_engines(config(settings), lambda progress: None)[0].words == "ghost-n.onnx: is there, nothing to do"


def test_an_engine_that_does_not_run_is_not_chosen(device: TensorRtDevice, model: ModelFile, settings: ModelConfig, world: World) -> None:
    named, auto = (
        Config(model=msgspec.structs.replace(settings, path=str(model.path), backend=backend), refine=RefineConfig(people=0))
        for backend in ("tensorrt", "auto")
    )
    device.build_into_cache(model, golden=False)
    world.fail["execute"] = -1
    assert re.match("tensorrt is not used: tensorrt 10.3.0 does not run the engine: .*illegal memory access", select(auto).why)
    with pytest.raises(EngineError, match="does not run the engine") as refused:
        select(named)
    assert refused.value.exit_code == 69
    assert (world.allocated, world.streams) == ({}, set())
    world.fail.clear()
    assert select(auto).now.backend == "tensorrt"
    assert world.allocated == {}  # tried, and closed again
    world.fail["deserialize"] = 1  # the library refuses one engine: it is built again
    chosen = select(auto)
    assert (chosen.now.backend, chosen.why) == ("auto", "the engine of tiny.onnx is not built yet for tensorrt")


def test_a_program_that_does_not_wait_builds_nothing(shipped: ModelFile, settings: ModelConfig, world: World) -> None:
    with pytest.raises(EngineError, match=r"there is no engine of ghost-n.onnx in .*; expected edgepose build-engine to have run"):
        open_backend(shipped, settings, build=False)
    assert world.builds == 0


def test_auto_says_why_tensorrt_is_not_used_and_by_name_ends(settings: ModelConfig, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    auto = config(msgspec.structs.replace(settings, backend="auto"))
    world.devices = 0
    assert select(auto).why == "tensorrt is not used: CUDA finds no device; expected a GPU and its driver"
    assert build_engines(auto, lambda progress: None)[0].words.startswith("nothing to build: tensorrt is not used: CUDA finds no device")
    with pytest.raises(EngineError, match="CUDA finds no device") as device:
        select(config(settings))
    assert device.value.exit_code == 69
    install(world, monkeypatch, memory="")
    with pytest.raises(ConfigError, match="pip install cuda-python") as library:
        select(config(settings))
    assert library.value.exit_code == 78
    monkeypatch.setattr("edgepose.engine.device_memory.DRIVER", "libcuda-of-nobody.so")
    assert select(auto).why == "tensorrt is not used: there is no driver of a CUDA device"
    monkeypatch.setattr("edgepose.engine.tensorrt.library.is_installed", lambda: False)
    assert select(auto).why == "tensorrt is not installed"
    cpu = config(msgspec.structs.replace(settings, backend="cpu"))
    assert select(cpu).why == ""
    assert build_engines(cpu, lambda progress: None)[0].fields() == {
        "model": "",
        "built": False,
        "detail": "nothing to build: model.backend is cpu",
    }


def test_each_tenth_of_a_build_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    log = log_progress("a.onnx")
    for percent in range(101):
        log(BuildProgress(percent, "Tactics"))
    assert len([record for record in caplog.records if "building the engine of a.onnx" in record.message]) == 11


def test_a_builder_that_prints_and_crashes_is_told_by_its_exit_code(packages: Path, model: ModelFile, settings: ModelConfig) -> None:
    (packages / "tensorrt" / "__init__.py").write_text("import os\nos.write(1, b'no JSON\\n')\nos._exit(3)\n")
    with pytest.raises(EngineError, match="the process that builds engines ended with exit code 3"):
        EngineBuilder([model], settings).run()


def test_a_builder_that_chatters_and_does_not_end_is_ended(
    tmp_path: Path, model: ModelFile, settings: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stubborn_builder.py").write_text(
        "import json, os, time\nprint('no JSON')\nprint(json.dumps({'percent': 50.0, 'phase': 'Tactics'}))\n"
        "print(json.dumps({'error': 'ConfigError', 'message': 'no DLA core'}), flush=True)\n"
        "os.close(1)\ntime.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(building, "_MODULE", "stubborn_builder")
    monkeypatch.setattr(building, "_ENDING_S", 0.1)
    builder = EngineBuilder([model], settings)
    seen: list[BuildProgress] = []
    with pytest.raises(ConfigError, match="no DLA core"):
        builder.run(seen.append)
    assert seen == [BuildProgress(50, "Tactics")]
    assert builder._process is not None
    assert builder._process.returncode == -signal.SIGKILL
