"""Graphs before and after `simplify`."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose_export.onnx_file import simplify


def padded(mode: str, filling: float | None) -> onnx.ModelProto:
    """Return a model that pads (1, 2, 5, 6) by a row above and two columns on the right, then has a 3x3 convolution."""
    weight = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
    constants = [
        numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64), "amounts"),
        numpy_helper.from_array(weight, "weight"),
    ]
    inputs = ["x", "amounts"]
    if filling is not None:
        constants.append(numpy_helper.from_array(np.array(filling, np.float32), "filling"))
        inputs.append("filling")
    nodes = [
        helper.make_node("Pad", inputs, ["wide"], "pad", mode=mode),
        helper.make_node("Conv", ["wide", "weight"], ["y"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    ends[0] = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 5, 6))
    graph = helper.make_graph(nodes, "padded", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("mode", "filling", "folded"),
    [("constant", None, True), ("constant", 0.0, True), ("constant", 1.0, False), ("reflect", None, False), ("edge", None, False)],
)
def test_padding_is_folded_only_where_it_is_zeros(mode: str, filling: float | None, folded: bool) -> None:
    model = padded(mode, filling)
    simple = simplify(model)
    assert ("Pad" not in [node.op_type for node in simple.graph.node]) is folded
    x = np.random.default_rng(1).normal(size=(1, 2, 5, 6)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for each in (model, simple)
    )
    np.testing.assert_allclose(before, after, atol=1e-5)
