"""The whole network: shapes, gradients, checkpoints, the teacher as a special case."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgepose.errors import ConfigError
from export.network.ghostify import ghostify
from export.network.model import DeployedPose, GhostPose, load_network, normalise, save_network
from export.network.movenet import load_movenet
from export.network.spec import MOVENET_MULTIPOSE, BlockSpec, NetworkSpec, RefinementSpec
from export.training.recipe import load_recipe
from tests.export.tiny import TINY
from tests.shared import SHARED

RECIPES = Path(__file__).resolve().parents[3] / "export" / "recipes"


def test_maps_and_candidates_have_their_shapes() -> None:
    network = GhostPose(TINY).eval()
    maps = network(torch.randn(2, 3, 64, 96))
    assert [tuple(value.shape) for value in maps] == [(2, channels, 16, 24) for channels in (1, 2, 2, 17, 34, 34)]
    boxes, scores, keypoints = DeployedPose(network)(torch.zeros(2, 64, 96, 3, dtype=torch.uint8))
    assert (boxes.shape, scores.shape, keypoints.shape) == ((2, 12, 4), (2, 12), (2, 12, 17, 3))
    assert boxes.min() >= 0
    assert boxes[..., 2].max() <= 96
    assert boxes[..., 3].max() <= 64
    assert (scores >= 0).all()
    assert (scores <= 1).all()


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    network = GhostPose(TINY)
    x = normalise(torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)))
    maps = network(x)
    _, _, keypoints = network.decode(maps)
    (torch.stack([value.square().mean() for value in maps]).sum() + keypoints.square().mean()).backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert silent == []


def test_refinement_moves_a_coarse_keypoint_onto_its_peak() -> None:
    network = GhostPose(TINY).eval()
    heat = torch.full((1, 17, 20, 20), 0.01)
    heat[:, :, 9, 11] = 0.9
    offset = torch.full((1, 34, 20, 20), 0.5)
    coarse = torch.tensor([10.2, 9.6]).expand(1, 1, 17, 2)
    place, confidence = network.decode.refinement(heat, offset, coarse)
    assert torch.allclose(place, torch.tensor([9.5, 11.5]).expand_as(place), atol=0.05)
    assert torch.allclose(confidence, torch.full_like(confidence, 0.9), atol=0.02)


def test_nothing_is_found_outside_of_the_map() -> None:
    network = GhostPose(TINY).eval()
    heat = torch.full((1, 17, 12, 12), 0.9)
    beyond = torch.tensor([[-9.0, 20.0]]).expand(1, 1, 17, 2)
    _, confidence = network.decode.refinement(heat, torch.zeros(1, 34, 12, 12), beyond)
    assert confidence.max() < 1e-6
    edge = torch.tensor([[-1.0, 12.0]]).expand(1, 1, 17, 2)
    place, confidence = network.decode.refinement(heat, torch.zeros(1, 34, 12, 12), edge)
    assert place[..., 0].min() >= 0
    assert place[..., 1].max() <= 12
    assert confidence.min() > 0.8


@pytest.mark.parametrize("half", [False, True])
def test_a_checkpoint_comes_back(tmp_path: Path, half: bool) -> None:
    network = GhostPose(TINY).eval()
    save_network(tmp_path / "a.pt", network, half=half)
    again = load_network(tmp_path / "a.pt").eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.allclose(network(x).heat, again(x).heat, atol=0.02 if half else 0)


def test_what_is_no_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"nonsense")
    for path in (tmp_path / "a.pt", tmp_path / "missing.pt"):
        with pytest.raises(ConfigError, match=path.name) as failure:
            load_network(path)
        assert "\n" not in str(failure.value)


def test_the_default_recipe_is_small_enough() -> None:
    network = GhostPose(load_recipe(RECIPES / "ghost-n.yaml").network)
    assert network.parameters_count() <= 3_000_000


def test_ghostify_keeps_a_network_that_has_nothing_to_lose() -> None:
    """A teacher whose ghosts can be exact: one residual block with a zero projection and as many hidden units as fit."""
    plain = NetworkSpec(
        stem=8,
        blocks=[
            BlockSpec("plain", 16, 8, 2),
            BlockSpec("plain", 16, 12, 2),
            BlockSpec("plain", 32, 16, 2),
            BlockSpec("plain", 32, 16),
            BlockSpec("plain", 48, 24, 2),
        ],
        taps=(0, 1, 3),
        context_kind="plain",
        context=32,
        neck_kind="plain",
        neck=(16, 8, 8, 8),
        head=16,
        candidates=12,
        refinement=RefinementSpec(1, 2),
    )
    torch.manual_seed(1)
    teacher = GhostPose(plain).eval().requires_grad_(False)
    torch.nn.init.zeros_(teacher.backbone.blocks[3].project.conv.weight)
    blocks = [BlockSpec("ghost" if index == 3 else "plain", b.hidden, b.out, b.stride) for index, b in enumerate(plain.expanded())]
    spec = NetworkSpec(
        blocks=blocks, stem=8, taps=(0, 1, 3), context_kind="plain", context=32, neck_kind="ghost", neck=(32, 8, 8, 8), head=16,
        candidates=12, refinement=RefinementSpec(1, 2),
    )  # fmt: skip
    images = torch.rand(24, 3, 64, 64) * 2 - 1
    student, rotated = ghostify(teacher, spec, images)
    with torch.no_grad():
        for mine, theirs, turned in zip(student(images), teacher(images), rotated(images), strict=True):
            assert torch.allclose(turned, theirs, atol=1e-3)
            assert torch.allclose(mine, theirs, atol=1e-3)


@pytest.mark.skipif(SHARED is None, reason="the teacher's file is not part of the project")
def test_the_teacher_is_a_special_case() -> None:
    assert SHARED is not None
    path = SHARED / "models" / "movenet-multipose-heads.onnx"
    ours = load_movenet(path)
    assert ours.spec == MOVENET_MULTIPOSE
    picture = np.random.default_rng(0).integers(0, 255, (1, 128, 96, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"input:0": picture.astype(np.int32)})
    with torch.no_grad():
        maps = ours(normalise(torch.from_numpy(picture)))
    for name, mine, other in zip(maps._fields, maps, theirs, strict=True):
        value = mine.permute(0, 2, 3, 1).numpy()
        if name in ("centre", "heat"):
            value = 1 / (1 + np.exp(-value))
        assert np.abs(value - other).max() < 2e-3, name
