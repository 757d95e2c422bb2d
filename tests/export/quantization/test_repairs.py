"""Repairs of INT8 weights and codebooks: what they promise for a layer's output, and the files in the runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend
from edgepose.errors import ModelError
from edgepose.model.file import read_model
from edgepose_export.cli.main import run
from edgepose_export.onnx_file import store_half, write_model
from edgepose_export.quantization.calibration import CalibrationSet, open_session
from edgepose_export.quantization.clustering import cluster_model, cluster_weights, compressed_size, tune_codebook
from edgepose_export.quantization.qdq import quantize_weight
from edgepose_export.quantization.quantize import quantize
from edgepose_export.quantization.repairs import PatchMoments, correct_biases, in_steps, patch_moments, round_adaptively
from edgepose_export.quantization.sensitivity import map_error, map_tensors, run_maps

RNG = np.random.default_rng(1)
WEIGHT = (RNG.normal(size=(6, 4, 3, 3)) * np.geomspace(0.01, 10, 6)[:, None, None, None]).astype(np.float32)
# Inputs that go together, as features do, so that one weight can make good for another; and whose mean is not zero.
INPUTS = RNG.normal(size=(4000, 5)) @ RNG.normal(size=(5, 36)) + RNG.normal(size=(4000, 36)) * 0.1 + 1
MOMENTS = PatchMoments(INPUTS.mean(0)[None], INPUTS.T @ INPUTS / len(INPUTS))


def output_error(weight: np.ndarray) -> float:
    """Return the error of the filters' outputs, each relative to its own."""
    right = WEIGHT.reshape(6, -1) @ INPUTS.T
    return float((((weight.reshape(6, -1) @ INPUTS.T - right) ** 2).mean(1) / right.var(1)).mean())


def convolution(groups: int = 1) -> onnx.ModelProto:
    """Return a convolution with a stride, padding and a bias."""
    weight = WEIGHT[:, : 4 // groups]
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(6, np.float32), "b")]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv", strides=[2, 2], pads=[1, 1, 1, 1], group=groups)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph([node], "one", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_inputs_of_a_convolution_are_what_its_filters_see(groups: int) -> None:
    model, images = convolution(groups), [RNG.random((1, 4, 9, 12), np.float32) for _ in range(3)]
    known = patch_moments(model, list(model.graph.node), lambda: iter(images))["conv"]
    outputs = np.concatenate([open_session(model).run(None, {"x": image})[0] for image in images])
    weight = WEIGHT[:, : 4 // groups].reshape(groups, -1, known.mean.shape[1])
    np.testing.assert_allclose(np.einsum("god,gd->go", weight, known.mean).ravel(), outputs.mean((0, 2, 3)), rtol=1e-4)
    if groups == 1:
        assert known.second is not None
        np.testing.assert_allclose(np.einsum("od,de,oe->o", weight[0], known.second, weight[0]), (outputs**2).mean((0, 2, 3)), rtol=1e-4)
    # A bias makes good what other weights change in the mean.
    changed = WEIGHT[:, : 4 // groups] * 1.1
    result = correct_biases(model, {"conv": known}, {"w": changed})
    next(tensor for tensor in result.graph.initializer if tensor.name == "w").CopyFrom(numpy_helper.from_array(changed, "w"))
    repaired = np.concatenate([open_session(result).run(None, {"x": image})[0] for image in images])
    np.testing.assert_allclose(repaired.mean((0, 2, 3)), outputs.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_adaptive_rounding_costs_the_output_less_than_the_nearest() -> None:
    nearest, integers = quantize_weight(WEIGHT)[0], round_adaptively(WEIGHT, MOMENTS)
    assert output_error(in_steps(WEIGHT, integers)) < output_error(in_steps(WEIGHT, nearest)) / 3
    assert np.abs(integers).max() <= 127
    np.testing.assert_array_equal(round_adaptively(WEIGHT, PatchMoments(MOMENTS.mean, None)), nearest)


def test_a_codebook_fits_filters_of_all_sizes_and_its_tuning_the_output() -> None:
    plain = cluster_weights(WEIGHT, 16)
    assert plain.numbers.max() < len(plain.values) <= 16
    for filter_, stored in zip(WEIGHT, plain.weights, strict=True):
        assert ((filter_ - stored) ** 2).mean() < 0.02 * filter_.var()
    assert MOMENTS.second is not None
    tuned = tune_codebook(WEIGHT, plain, MOMENTS.second)
    np.testing.assert_array_equal(tuned.numbers, plain.numbers)
    assert output_error(tuned.weights) < output_error(plain.weights)


def test_all_repairs_together_lose_no_more_than_none(source: Path, pictures: CalibrationSet) -> None:
    model = onnx.load(str(source))
    images = list(pictures.inputs(read_model(source).info))[:4]
    maps = map_tensors(model)
    places = ["head.levels.*.score", "head.levels.*.box", "head.keypoints.out"]
    reference = run_maps(model, maps, lambda: iter(images))
    errors = [
        map_error(reference, run_maps(quantize(source, pictures, float_places=places, repairs=repairs), maps, lambda: iter(images)))
        for repairs in ((), ("equalization", "bias", "rounding"))
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("tuned", [False, True])
def test_a_clustered_file_is_small_expands_itself_and_finds_the_same(
    tuned: bool, source: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clustered.onnx"
    arguments = ["--data", str(data), "--pictures", "32"] if tuned else []
    assert run(["cluster", str(source), "--values", "64", "--output", str(path), *arguments]) == 0
    assert "64 values a layer, " in capsys.readouterr().err
    model = onnx.load(str(path))
    assert {node.domain for node in model.graph.node} == {""}
    codebooks = [tensor for tensor in model.graph.initializer if tensor.name.endswith("_codebook")]
    assert codebooks
    assert all(tensor.dims[0] <= 64 and tensor.data_type == TensorProto.FLOAT16 for tensor in codebooks)
    half = store_half(onnx.load(str(source))).SerializeToString()
    assert compressed_size(path.read_bytes())[0] < compressed_size(half)[0]
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), np.uint8)
    found, expected = (open_backend(read_model(each), ModelConfig(threads=1)).run(image) for each in (path, source))
    assert np.abs(found.scores - expected.scores).max() < 0.1


def test_what_cannot_be_clustered_is_refused(source: Path, pictures: CalibrationSet, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the network has no layer of 512 weights or more in float"):
        cluster_model(convolution(), 16)
    write_model(quantize(source, pictures), tmp_path / "int8.onnx")
    assert run(["cluster", str(tmp_path / "int8.onnx"), "--output", str(tmp_path / "out.onnx")]) == 78
    assert not (tmp_path / "out.onnx").exists()
