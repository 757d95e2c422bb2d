"""Quantization-aware training: it rounds as the quantized file does, and brings the network nearer to its float self."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from edgepose.errors import ConfigError
from edgepose_export.data.mix import MixedFolder
from edgepose_export.network.checkpoint import Network, load_network, save_network
from edgepose_export.quantization.islands import name_lies_in
from edgepose_export.quantization.qdq import quantize_weight
from edgepose_export.quantization.ranges import scale_and_zero
from edgepose_export.training.callbacks import TrainingCallbacks, TrainingProgress
from edgepose_export.training.fake_quantization import FakeQuantizedConv, quantize_in_training
from edgepose_export.training.recipe import Phase, PoseWeights, Recipe
from edgepose_export.training.trainer import Trainer
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, lively


def test_weights_and_input_are_rounded_as_in_the_quantized_file() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 5, 3, padding=1, groups=1)
    x = torch.randn(2, 3, 8, 8)
    x[0, 0, 0, 0] = 3.0
    rounding = FakeQuantizedConv(plain)
    y = rounding(x)
    weights, scales = quantize_weight(plain.weight.detach().numpy())
    assert rounding.low is not None
    assert rounding.high is not None
    scale, zero = scale_and_zero(rounding.low, rounding.high, symmetric=False)
    pixels = (np.clip(np.round(x.numpy() / scale) + zero, 0, 255) - zero) * scale
    expected = nn.functional.conv2d(
        torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(weights * scales[:, None, None, None]), plain.bias, padding=1
    )
    torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(y, plain(x), atol=1e-4)
    y.sum().backward()
    assert plain.weight.grad is not None
    assert plain.weight.grad.abs().min() > 0


def test_names_and_values_stay_and_floats_stay_float() -> None:
    network = lively(0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = quantize_in_training(network, lambda name: not name_lies_in(name, ["trunk.stem", "head", "refinement", "**.depthwise"]))
    assert "neck.reduce32" in made
    assert not any(name.startswith(("trunk.stem", "head")) or name.endswith("depthwise") for name in made)
    assert {type(network.get_submodule(f"{name}.conv")) for name in made} == {FakeQuantizedConv}
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_network_without_layers_in_int8_is_refused() -> None:
    with pytest.raises(ConfigError, match="no convolution that computes in INT8; expected at least one"):
        quantize_in_training(lively(0), lambda name: False)


def test_training_brings_int8_nearer_to_the_float_start(tmp_path: Path) -> None:
    start = tmp_path / "start.pt"
    save_network(start, lively(0))
    losses: list[float] = []

    class Recorder(TrainingCallbacks):
        def on_step(self, progress: TrainingProgress) -> None:
            losses.append(progress.losses["hold_features"])

    hold = replace(PoseWeights(score=0, box=0, keypoints=0, refined=0, hold_score=0, hold_box=0), hold_features=1.0)
    phase = Phase("qat", 640, 3e-4, ["trunk", "neck"], losses=hold, augmentation="none", sizes=(64,), batch=8)
    recipe = Recipe("tiny", TINY, [phase])
    trainer = Trainer(
        recipe,
        [MixedFolder(write_dotted(tmp_path / "data"))],
        start,
        tmp_path / "run",
        resume=False,
        integer=lambda name: not name_lies_in(name, ["head", "refinement"]),
        callbacks=[Recorder()],
    )
    assert trainer.run()
    assert losses[-1] < 0.7 * losses[0]
    saved: Network = load_network(tmp_path / "run" / "last.pt")  # a plain float network
    assert not any(isinstance(module, FakeQuantizedConv) for module in saved.modules())
