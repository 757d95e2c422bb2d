"""TinyPose's weights in our network: its heat maps, and its accuracy on labeled boxes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from edgepose.errors import ConfigError
from edgepose_export.network.tinypose import load_tinypose
from testing.shared import SHARED


@pytest.mark.skipif(SHARED is None, reason="the teachers' files are not part of the project")
@pytest.mark.parametrize("name", ["tinypose-128x96", "tinypose-256x192", "tinypose-128x96-above"])
def test_heat_maps_are_those_of_the_file(name: str) -> None:
    assert SHARED is not None
    path = SHARED / "models" / f"{name}.onnx"
    network = load_tinypose(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1, 3, network.spec.crop_height, network.spec.crop_width)).astype(np.float32)
    smooth = np.cumsum(noise, 3).astype(np.float32) / 4
    for x in (noise, smooth):
        (expected,) = session.run(None, {session.get_inputs()[0].name: x})
        with torch.inference_mode():
            found = network(torch.from_numpy(x)).numpy()
        assert np.abs(found - expected).max() < 1e-4
        assert np.abs(expected).max() > 0.05


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher .*none\.onnx does not exist"):
        load_tinypose(tmp_path / "none.onnx")
    for shape, message in (([1, 3, 64, 64], "64x64 pixels; expected TinyPose"), ([1, 3, 128, 96], "0 convolutions; expected the 269")):
        image, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "out"))
        graph = helper.make_graph([helper.make_node("Relu", ["image"], ["out"])], "other", [image], [out])
        onnx.save(helper.make_model(graph), str(tmp_path / "other.onnx"))
        with pytest.raises(ConfigError, match=message):
            load_tinypose(tmp_path / "other.onnx")
