"""The signal-to-noise ratio of layers: known ratios, and those of a network that is really quantized."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepose_export.network.to_onnx import Card, to_onnx
from edgepose_export.onnx_file import write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.quantize import quantize
from edgepose_export.report.columns import parse_columns
from edgepose_export.report.layers import LARGEST_DB, float_file, layer_ratios, pairs, ratio_db
from testing.export.folders import write_dotted
from testing.export.tiny import lively


def ratio(x: np.ndarray, y: np.ndarray) -> float:
    return ratio_db((x * x).sum(1), (y * y).sum(1), (x * y).sum(1))


def test_known_noise_has_a_known_ratio() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(4, 100_000))
    assert ratio(signal, signal) == LARGEST_DB
    assert ratio(signal, signal + 0.1 * rng.normal(size=signal.shape)) == pytest.approx(20, abs=0.1)
    assert ratio(signal, signal + 0.01 * rng.normal(size=signal.shape)) == pytest.approx(40, abs=0.1)
    assert ratio(signal, rng.normal(size=signal.shape)) == pytest.approx(0, abs=0.1)
    assert ratio(signal, 0 * signal) == 0
    assert ratio(0 * signal, signal) == LARGEST_DB


def test_a_factor_of_a_channel_is_no_noise() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(3, 100_000))
    noisy = signal + 0.1 * rng.normal(size=signal.shape)
    assert ratio(signal, noisy * np.array([[0.2], [1], [7]])) == pytest.approx(ratio(signal, noisy), abs=1e-6)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    write_dotted(folder / "data", sizes=((300, 220), (220, 300)) * 16)
    write_model(to_onnx(lively(), Card("tiny", 96)), folder / "tiny.onnx")
    write_model(quantize(folder / "tiny.onnx", CalibrationSet([folder / "data"], 32)), folder / "tiny-int8.onnx")
    return folder


def test_int8_leaves_noise_in_each_layer_and_float_none(tiny: Path) -> None:
    done: list[int] = []
    found = layer_ratios(tiny / "tiny.onnx", tiny / "tiny-int8.onnx", tiny / "data", lambda now, total: done.append(now))
    convolutions = [node.name for node in onnx.load(str(tiny / "tiny.onnx")).graph.node if node.op_type == "Conv"]
    assert len(found) == len(convolutions)
    assert any(entry["int8"] for entry in found)
    assert all(3 < entry["SQNR_dB"] < 60 for entry in found if entry["int8"])
    assert done[-1] == 16
    same = layer_ratios(tiny / "tiny.onnx", tiny / "tiny.onnx", tiny / "data", lambda now, total: None)
    assert {entry["SQNR_dB"] for entry in same} == {LARGEST_DB}


def test_the_float_file_is_found_among_the_columns_or_beside(tiny: Path, tmp_path: Path) -> None:
    quantized = tiny / "tiny-int8.onnx"
    (alone,) = parse_columns([str(quantized)])
    assert pairs([alone]) == {"tiny-int8": [(tiny / "tiny.onnx", quantized)]}
    moved = tmp_path / "small.onnx"
    moved.write_bytes(quantized.read_bytes())
    both = parse_columns([str(tiny / "tiny.onnx"), str(moved)])
    assert float_file(moved, both) == tiny / "tiny.onnx"
    assert pairs(both[1:]) == {}
