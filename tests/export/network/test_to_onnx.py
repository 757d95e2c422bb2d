"""Model files against the network that they were made from."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_refiner_backend
from edgepose.errors import ConfigError, OutputError
from edgepose.model.file import read_model
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import PoseGraph, PoseNetwork
from edgepose_export.network.refiner import RefinerGraph
from edgepose_export.network.to_onnx import Card, to_onnx
from edgepose_export.onnx_file import write_model
from testing.export.tiny import TINY_REFINER, lively


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    made = lively(3)
    unit = made.get_submodule("trunk.stages.3.csp.join.primary")
    assert isinstance(unit, ConvNorm)
    unit.add_norm(torch.randn(16), torch.rand(16) + 0.5)
    return made.eval()


@pytest.fixture(scope="module")
def model(network: PoseNetwork) -> onnx.ModelProto:
    return to_onnx(network, Card("tiny", 128, "nothing", {"AP": 0.0}))


@pytest.mark.parametrize("shape", [(1, 128, 96, 3), (3, 64, 160, 3), (3, 96, 96, 3), (1, 96, 160, 3), (1, 32, 32, 3)])
def test_the_file_equals_the_network_at_sizes_that_were_not_traced(
    network: PoseNetwork, model: onnx.ModelProto, shape: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["boxes", "scores", "keypoints"], {"images": images})
    with torch.no_grad():
        expected = [value.numpy() for value in PoseGraph(network)(torch.from_numpy(images))]
    tolerance_px = 1e-4 * max(shape[1:3])
    np.testing.assert_allclose(found[0], expected[0], atol=tolerance_px, rtol=0)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-4, rtol=0)
    np.testing.assert_allclose(found[2][..., :2], expected[2][..., :2], atol=tolerance_px, rtol=0)
    np.testing.assert_allclose(found[2][..., 2], expected[2][..., 2], atol=1e-4, rtol=0)


def test_the_file_says_what_it_is(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "new" / "tiny.onnx"
    write_model(model, path)
    info = read_model(path).info
    assert (info.name, info.input_size, info.candidates, info.precision) == ("tiny", 128, 12, "float32")
    assert (info.batch, info.input_height, info.input_width) == (None, None, None)
    assert (info.calibration, info.parent, info.trained_on, info.accuracy) == (None, None, "nothing", {"AP": 0.0})
    assert [path.name for path in path.parent.iterdir()] == ["tiny.onnx"]


def test_padding_and_batch_norm_leave_no_node_behind(model: onnx.ModelProto) -> None:
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Pad", "BatchNormalization", "Identity", "Loop", "If"}
    assert {entry.domain for entry in model.opset_import} == {""}
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used


def test_a_fixed_file_takes_one_size(network: PoseNetwork, tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"
    write_model(to_onnx(network, Card("tiny", 96), height=64, width=96), path)
    info = read_model(path).info
    assert (info.batch, info.input_height, info.input_width) == (1, 64, 96)


@pytest.mark.parametrize(
    ("size", "height", "width", "message"), [(100, 0, 0, "multiple of 32"), (96, 64, 0, "both sides"), (96, 60, 96, "60 pixels")]
)
def test_sides_that_cannot_be_are_refused(network: PoseNetwork, size: int, height: int, width: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_onnx(network, Card("tiny", size), height=height, width=width)


def test_a_place_that_cannot_be_written_is_named(model: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"tiny\.onnx cannot be written"):
        write_model(model, tmp_path / "file" / "tiny.onnx")


@pytest.mark.parametrize("crops", [1, 2, 5])
def test_a_refiner_file_equals_its_network_and_says_what_it_is(crops: int, tmp_path: Path) -> None:
    network = lively(5, TINY_REFINER)
    network.score_weights = torch.tensor([-1.0, 0.5, 2.0])
    path = tmp_path / "refine.onnx"
    write_model(to_onnx(network, Card("tiny-refine", 320)), path)
    info = read_model(path).info
    assert (info.task, info.input_size, info.crop_margin, info.score_weights) == ("refine", 64, 1.25, (-1.0, 0.5, 2.0))
    assert (info.batch, info.input_height, info.input_width) == (None, 64, 32)
    images = np.random.default_rng(0).integers(0, 256, (crops, 64, 32, 3), np.uint8)
    refiner = open_refiner_backend(read_model(path), ModelConfig(backend="cpu", threads=1))
    with torch.no_grad():
        expected = RefinerGraph(network)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(refiner.run(images), expected, atol=64e-4, rtol=0)
    refiner.close()


def test_a_refiner_file_of_one_crop_has_the_sides_of_its_network(tmp_path: Path) -> None:
    network = lively(5, TINY_REFINER)
    path = tmp_path / "one.onnx"
    write_model(to_onnx(network, Card("one", 64), height=64, width=32), path)
    info = read_model(path).info
    assert (info.batch, info.input_height, info.input_width) == (1, 64, 32)
    with pytest.raises(ConfigError, match="fixed at 64x64 pixels; expected the refiner's own 32x64"):
        to_onnx(network, Card("one", 64), height=64, width=64)
