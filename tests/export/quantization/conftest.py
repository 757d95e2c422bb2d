"""A tiny float model file and pictures to calibrate it on."""

from pathlib import Path

import pytest

from edgepose_export.network.to_onnx import Card, to_onnx
from edgepose_export.onnx_file import write_model
from edgepose_export.quantization.calibration import CalibrationSet
from testing.export.folders import write_dotted
from testing.export.tiny import lively


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dotted(tmp_path_factory.mktemp("data") / "dotted", sizes=((300, 220), (300, 420), (320, 230), (301, 221)) * 10)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    write_model(to_onnx(lively(), Card("tiny", 128)), path)
    return path


@pytest.fixture(scope="session")
def pictures(data: Path) -> CalibrationSet:
    return CalibrationSet([data], 32)
