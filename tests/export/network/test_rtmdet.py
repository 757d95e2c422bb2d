"""RTMDet-nano's weights in our network: its scores and boxes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from edgepose.errors import ConfigError
from edgepose_export.network.pose_network import RTMDET_NANO
from edgepose_export.network.rtmdet import load_rtmdet
from testing.shared import SHARED

MEAN_BGR, DEVIATION_BGR = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


@pytest.mark.skipif(SHARED is None, reason="the teachers' files are not part of the project")
@pytest.mark.parametrize("name", ["rtmdet-nano-person", "rtmdet-nano-above"])
def test_scores_and_boxes_are_those_of_the_file(name: str) -> None:
    assert SHARED is not None
    path = SHARED / "models" / f"{name}.onnx"
    network = load_rtmdet(path)
    assert network.spec == RTMDET_NANO
    pictures = np.random.default_rng(0).integers(0, 256, (2, 160, 96, 3), np.uint8)
    pictures[1] = np.linspace(0, 255, 160 * 96 * 3).reshape(160, 96, 3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = ((pictures[..., ::-1] - np.array(MEAN_BGR)) / DEVIATION_BGR).transpose(0, 3, 1, 2).astype(np.float32)
    levels = session.run(None, {session.get_inputs()[0].name: x})  # (2, h, w, 5) for each stride
    theirs = np.concatenate([level.reshape(2, -1, 5) for level in levels], 1)
    with torch.inference_mode():
        maps = network(network.normalize(torch.from_numpy(pictures)))
    score, box = maps.score.numpy(), maps.box.numpy().transpose(0, 2, 1)
    assert np.abs(score - theirs[..., 0]).max() < 1e-4 * np.abs(theirs[..., 0]).max()
    assert np.abs(box - theirs[..., 1:]).max() < 1e-4 * 100
    assert theirs[..., 1:].max() > 20


@pytest.mark.skipif(SHARED is None, reason="the teachers' files are not part of the project")
def test_another_network_is_refused() -> None:
    assert SHARED is not None
    for name in ("yolox-nano", "tinypose-128x96"):
        with pytest.raises(ConfigError, match=rf"teacher .*{name}\.onnx has a convolution .*, which RTMDet-nano has not") as failure:
            load_rtmdet(SHARED / "models" / f"{name}.onnx")
        assert "\n" not in str(failure.value)


def _write_other(path: Path, kind: str, inputs: list[str], outputs: list[str]) -> None:
    image, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 64, 64]) for name in ("image", outputs[0]))
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3, 3, 1, 1], [0.0] * 9)
    bias = helper.make_tensor("bias", TensorProto.FLOAT, [3], [0.0] * 3)
    graph = helper.make_graph([helper.make_node(kind, inputs, outputs)], "other", [image], [out], [weight, bias])
    onnx.save(helper.make_model(graph), str(path))


def test_a_file_that_is_no_such_network_is_refused_in_one_sentence(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("missing.onnx", "bytes.onnx", "empty.onnx", "narrow.onnx")]
    paths[1].write_bytes(b"nonsense")
    _write_other(paths[2], "Relu", ["image"], ["out"])
    _write_other(paths[3], "Conv", ["image", "weight", "bias"], ["/model/backbone/stem/stem.0/conv/Conv_output_0"])
    messages = (
        "FileNotFoundError",
        "expected RTMDet-nano as ONNX",
        "lacks .* convolutions of RTMDet-nano",
        r"weights \(3, 3, 1, 1\), expected",
    )
    for path, message in zip(paths, messages, strict=True):
        with pytest.raises(ConfigError, match=message) as failure:
            load_rtmdet(path)
        assert "\n" not in str(failure.value)
        assert path.name in str(failure.value)
