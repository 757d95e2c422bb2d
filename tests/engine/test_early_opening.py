"""A network that is opened while the program is still imported is the one that the configuration asks for, or is not used."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import Backend, open_backend, pose_model
from edgepose.engine.early_opening import EarlyOpening
from edgepose.errors import EdgeposeError
from edgepose.model.file import ModelFile
from testing.onnx_files import write_edgepose

SETTINGS = ModelConfig(backend="cpu")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Backend]:
    """All networks that were opened, in order."""
    networks: list[Backend] = []

    def listed(model: ModelFile, settings: ModelConfig, *, build: bool = True) -> Backend:
        networks.append(open_backend(model, settings, build=build))
        return networks[-1]

    monkeypatch.setattr("edgepose.engine.early_opening.open_backend", listed)
    return networks


def test_it_is_opened_once(tmp_path: Path, opened: list[Backend]) -> None:
    settings = replace(SETTINGS, path=str(write_edgepose(tmp_path / "a.onnx")))
    early = EarlyOpening(settings)
    network = early.open(pose_model(settings), settings)
    assert opened == [network]
    assert network.run(np.zeros((1, 64, 64, 3), np.uint8)).scores.shape[0] == 1
    assert early.open(pose_model(settings), settings) is not network  # each can be had once
    assert len(opened) == 2


def test_a_file_that_changed_meanwhile_is_opened_again(tmp_path: Path, opened: list[Backend]) -> None:
    settings = replace(SETTINGS, path=str(write_edgepose(tmp_path / "a.onnx")))
    early = EarlyOpening(settings)
    early._thread.join(60)
    write_edgepose(tmp_path / "a.onnx", metadata={"edgepose.trained_on": "other pictures"})
    network = early.open(pose_model(settings), settings)
    assert opened[-1] is network
    assert len(opened) == 2


def test_what_cannot_be_opened_is_reported_where_it_is_needed(tmp_path: Path) -> None:
    settings = replace(SETTINGS, path=str(write_edgepose(tmp_path / "a.onnx")))
    model = pose_model(settings)
    (tmp_path / "a.onnx").write_bytes(b"no model")
    early = EarlyOpening(settings)
    early._thread.join(60)
    with pytest.raises(EdgeposeError):
        early.open(ModelFile(model.path, "0", model.info, b"no model"), settings)


def test_a_device_or_a_server_is_not_asked_early(opened: list[Backend], monkeypatch: pytest.MonkeyPatch) -> None:
    EarlyOpening(replace(SETTINGS, path="grpc://127.0.0.1:1/ghost-n"))
    EarlyOpening(replace(SETTINGS, backend="tensorrt"))
    monkeypatch.setattr("edgepose.engine.device_memory.DRIVER", "libc.so.6")
    EarlyOpening(replace(SETTINGS, backend="auto"))._thread.join(60)
    assert opened == []
