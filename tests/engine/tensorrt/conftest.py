from pathlib import Path

import pytest

from edgepose.config.schema import ModelConfig
from edgepose.engine.tensorrt.networks import TensorRtDevice
from edgepose.model.file import ModelFile, read_model
from testing.onnx_files import write_edgepose
from testing.tensorrt_stand_in import World, install


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    install(world, monkeypatch)
    return world


@pytest.fixture
def settings(tmp_path: Path) -> ModelConfig:
    return ModelConfig(backend="tensorrt", engines=str(tmp_path / "engines"))


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    return read_model(write_edgepose(tmp_path / "tiny.onnx"))


@pytest.fixture
def device(world: World, settings: ModelConfig) -> TensorRtDevice:
    return TensorRtDevice(settings)
