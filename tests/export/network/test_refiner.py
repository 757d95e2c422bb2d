"""The refiner network and its graph in ONNX Runtime."""

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgepose_export.network.layers import fuse
from edgepose_export.network.refiner import RefinerGraph, RefinerNetwork, RefinerSpec

TINY_SPEC = RefinerSpec(crop_height=96, crop_width=64, stem=8, widths=(8, 16, 24, 32), modules=(1, 1, 1), units=1, ghost=(3,))


def lively_refiner(spec: RefinerSpec = TINY_SPEC) -> RefinerNetwork:
    """Return a network whose weights keep the signal up, so that its maps have peaks."""
    torch.manual_seed(0)
    network = RefinerNetwork(spec).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
    with torch.no_grad():
        network.heat.conv.weight.mul_(1e-3)
    return network


def test_heat_maps_and_keypoints_have_the_shapes_of_the_crop() -> None:
    network = lively_refiner()
    crops = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8)
    heat = network(network.normalize(crops))
    assert heat.shape == (2, 17, 24, 16)
    keypoints = RefinerGraph(network)(crops)
    assert keypoints.shape == (2, 17, 3)
    assert torch.equal(keypoints, network.decode(heat))


def test_normalized_crops_have_the_mean_and_deviation_of_imagenet() -> None:
    network = lively_refiner()
    crops = torch.tensor([123.675, 116.28, 103.53]).round().to(torch.uint8).expand(1, 96, 64, 3)
    assert network.normalize(crops).abs().max() < 0.01
    assert network.normalize(crops[:, :1, :1] + 58).flatten().tolist() == pytest.approx([58 / 58.395, 58 / 57.12, 58 / 57.375], abs=0.01)


@pytest.fixture(scope="module")
def graph() -> RefinerGraph:
    return RefinerGraph(lively_refiner()).eval()


@pytest.fixture(scope="module")
def exported(graph: RefinerGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("refiner") / "refiner.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as in `edgepose_export.network.to_onnx`
        torch.onnx.export(
            graph,
            (torch.zeros((2, 96, 64, 3), dtype=torch.uint8),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["crops"],
            output_names=["keypoints"],
            dynamic_axes={"crops": {0: "M"}, "keypoints": {0: "M"}},
        )
    return path


@pytest.mark.parametrize("count", [1, 2, 5])
def test_onnx_runtime_finds_the_same_keypoints_for_any_number_of_crops(graph: RefinerGraph, exported: Path, count: int) -> None:
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    crops = np.random.default_rng(count).integers(0, 256, (count, 96, 64, 3), np.uint8)
    (found,) = session.run(None, {"crops": crops})
    with torch.inference_mode():
        expected = graph(torch.from_numpy(crops)).numpy()
    np.testing.assert_allclose(found[..., :2], expected[..., :2], atol=0.1)
    np.testing.assert_allclose(found[..., 2], expected[..., 2], atol=1e-4)


def test_tensorrt_builds_it_for_any_number_of_crops(exported: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="the wheel tensorrt-rtx is not installed")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(exported.read_bytes()), [str(parser.get_error(index)) for index in range(parser.num_errors)]
    profile = builder.create_optimization_profile()
    profile.set_shape("crops", *((count, 96, 64, 3) for count in (1, 2, 8)))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None


def test_fusing_norms_keeps_the_heat_maps() -> None:
    network = lively_refiner()
    x = torch.randn(1, 3, 96, 64)
    unit = network.trunk.stem.conv
    before = network(x)
    with torch.no_grad():
        raw = unit.linear(x)
        unit.add_norm(raw.mean((0, 2, 3)), raw.var((0, 2, 3)))
    network.eval()
    fuse(network)
    assert unit.norm is None
    assert torch.allclose(network(x), before, atol=1e-5)
