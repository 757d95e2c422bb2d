"""The whole network: shapes, gradients, checkpoints, the teacher as a special case."""

import copy
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from msgspec.structs import replace

from edgepose.errors import ConfigError
from edgepose_export.network.ghostify import ghostify, resize
from edgepose_export.network.head import PoseMaps
from edgepose_export.network.model import DeployedPose, DeployedRefiner, GhostPose, load_network, normalize, save_network
from edgepose_export.network.movenet import load_movenet
from edgepose_export.network.spec import MOVENET_LIGHTNING, MOVENET_MULTIPOSE, MOVENET_THUNDER, BlockSpec, NetworkSpec, RefinementSpec
from edgepose_export.network.streams import align, rotate, streams
from edgepose_export.training.recipe import load_recipe
from testing.export.tiny import TINY, TINY_REFINER, lively
from testing.shared import SHARED

ROOT = Path(__file__).resolve().parents[3]
RECIPES = ROOT / "export" / "edgepose_export" / "recipes"
CLIP = ROOT / "edgepose" / "assets" / "demo.mp4"

PLAIN = NetworkSpec(
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
    x = normalize(torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)))
    maps = network(x)
    _, _, keypoints = network.decode(maps)
    (torch.stack([value.square().mean() for value in maps]).sum() + keypoints.square().mean()).backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert silent == []


def test_a_refiner_has_no_boxes_and_one_person_a_crop() -> None:
    network = GhostPose(TINY_REFINER).eval()
    maps = network(torch.randn(2, 3, 64, 64))
    assert [value.shape[1] for value in maps] == [1, 0, 0, 17, 34, 34]
    assert not any("box" in name for name in network.state_dict())
    keypoints = DeployedRefiner(network)(torch.zeros(3, 64, 64, 3, dtype=torch.uint8))
    assert keypoints.shape == (3, 17, 3)


def test_the_person_of_a_crop_is_the_one_in_its_middle() -> None:
    network = GhostPose(TINY_REFINER).eval()
    center = torch.full((1, 1, 16, 16), -6.0)
    center[..., 1, 2], center[..., 8, 9] = 1.5, 1.0  # a likelier one in the corner
    coarse, offset, none = torch.zeros(1, 34, 16, 16), torch.full((1, 34, 16, 16), 0.5), torch.zeros(1, 0, 16, 16)
    heat = torch.full((1, 17, 16, 16), -6.0)
    heat[:, :, 1, 2], heat[:, :, 8, 9] = 3.0, 3.0
    keypoints = network.decode(PoseMaps(center, none, none, heat, coarse, offset))
    assert torch.allclose(keypoints[0, :, :2], torch.tensor([9.5 * 4, 8.5 * 4]).expand(17, 2), atol=0.3)


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


@pytest.mark.parametrize(("recipe", "most"), [("ghost-n", 3_000_000), ("refine-n", 2_000_000)])
def test_the_small_recipes_are_small(recipe: str, most: int) -> None:
    network = GhostPose(load_recipe(RECIPES / f"{recipe}.yaml").network)
    assert network.parameters_count() <= most


def test_ghostify_keeps_a_network_that_has_nothing_to_lose() -> None:
    """A teacher whose ghosts can be exact: one residual block with a zero projection and as many hidden units as fit."""
    torch.manual_seed(1)
    teacher = GhostPose(PLAIN).eval().requires_grad_(False)
    block: Any = teacher.backbone.blocks[3]
    torch.nn.init.zeros_(block.project.conv.weight)
    blocks = [BlockSpec("ghost" if index == 3 else "plain", b.hidden, b.out, b.stride) for index, b in enumerate(PLAIN.expanded())]
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


def _ghostly(context: int, hidden: int) -> NetworkSpec:
    blocks = [BlockSpec("ghost" if index == 3 else "plain", b.hidden, b.out, b.stride) for index, b in enumerate(PLAIN.expanded())]
    blocks[3] = replace(blocks[3], hidden=hidden)
    return replace(PLAIN, blocks=blocks, context_kind="ghost", context=context, neck_kind="ghost", neck=(32, 8, 8, 8))


def test_a_wider_end_changes_nothing_at_first_and_can_learn() -> None:
    teacher = lively(2, PLAIN).requires_grad_(False)
    images = torch.rand(24, 3, 64, 64) * 2 - 1
    student, rotated = ghostify(teacher, _ghostly(16, 32), images)
    wider = resize(student, rotated, _ghostly(32, 32), images)
    assert wider.backbone.context(torch.zeros(1, 24, 2, 2)).shape[1] == 32
    for mine, theirs in zip(wider(images), student(images), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)
    wider(images).heat.sum().backward()
    lateral: Any = wider.neck.lateral32
    added = lateral.primary.conv.weight.grad
    assert added is not None
    assert added[:, 8:16].abs().sum() > 0


def test_narrower_ghosts_lose_little_where_half_of_what_is_hidden_is_idle() -> None:
    teacher = lively(2, PLAIN).requires_grad_(False)
    images = torch.rand(24, 3, 64, 64) * 2 - 1
    student, rotated = ghostify(teacher, _ghostly(16, 32), images)
    block: Any = student.backbone.blocks[3]
    idle = block.project.primary.conv.weight
    with torch.no_grad():
        for first in (0, 16):  # intrinsic maps and their ghosts
            idle[:, first : first + 16 : 2] = 0
    narrow = resize(student, rotated, _ghostly(16, 16), images)
    assert narrow.parameters_count() < student.parameters_count()
    with torch.no_grad():
        for mine, theirs in zip(narrow(images), student(images), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-2)


@pytest.mark.parametrize("spec", [_ghostly(8, 32), _ghostly(16, 64), replace(_ghostly(16, 32), head=32), PLAIN])
def test_other_changes_of_a_trained_network_are_refused(spec: NetworkSpec) -> None:
    student = lively(1, _ghostly(16, 32))
    with pytest.raises(ValueError, match="expected the network of the checkpoint"):
        resize(student, lively(2, PLAIN), spec, torch.zeros(1, 3, 64, 64))


def test_a_teacher_is_turned_into_the_basis_of_its_student_again() -> None:
    """A student that went on from a rotated teacher: the rotation is found in its features, the teacher's function stays."""
    teacher = lively(2, PLAIN).requires_grad_(False)  # in a network as it is born some channels never move
    images = torch.rand(24, 3, 64, 64) * 2 - 1
    rotated = copy.deepcopy(teacher)
    stream = streams(rotated)[2]
    assert stream.producers == [2, 3]
    rotate(rotated, stream, [3], images)
    found = copy.deepcopy(teacher)
    align(found, rotated, images)  # detects which streams were rotated
    expected, got, before = (_outputs(network, images) for network in (rotated, found, teacher))
    for index in stream.producers:
        assert torch.allclose(got[index], expected[index], atol=1e-3)
        assert not torch.allclose(before[index], expected[index], atol=1e-3)
    assert all(torch.allclose(before[index], got[index], atol=1e-3) for index in range(len(got)) if index not in stream.producers)
    for theirs, ours in zip(teacher(images), found(images), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


def _outputs(network: GhostPose, images: torch.Tensor) -> list[torch.Tensor]:
    """What blocks make of the pictures, without each channel's mean: a channel that never moves lies in any basis."""
    outputs: list[torch.Tensor] = []
    network.backbone.late(*network.backbone.early(images, 0), 0, outputs)
    return [value - value.mean((0, 2, 3), keepdim=True) for value in outputs]


@pytest.mark.skipif(SHARED is None, reason="the teachers' files are not part of the project")
@pytest.mark.parametrize(("name", "spec", "side"), [("lightning", MOVENET_LIGHTNING, 192), ("thunder", MOVENET_THUNDER, 256)])
def test_the_single_person_teachers_are_special_cases(name: str, spec: NetworkSpec, side: int) -> None:
    """On a photograph: the decoders differ (theirs searches the whole map), the places that are certain must not."""
    assert SHARED is not None
    path = SHARED / "models" / f"movenet-{name}.onnx"
    ours = load_movenet(path)
    assert ours.spec == spec
    with av.open(str(CLIP)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    short = min(frame.shape[:2])
    crop = cv2.resize(frame[:short, :short], (side, side), interpolation=cv2.INTER_AREA)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"input:0": crop[None].astype(np.int32)})[0][0, 0]  # y, x, score; sides are 1
    with torch.no_grad():
        found = DeployedRefiner(ours)(torch.from_numpy(crop[None]))[0].numpy()
    certain = theirs[:, 2] > 0.5
    assert certain.sum() >= 5
    assert np.abs(found[certain, :2] - theirs[certain, 1::-1] * side).max() < 2.0
    assert np.median(np.abs(found[certain, 2] - theirs[certain, 2])) < 0.05


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
        maps = ours(normalize(torch.from_numpy(picture)))
    for name, mine, other in zip(maps._fields, maps, theirs, strict=True):
        value = mine.permute(0, 2, 3, 1).numpy()
        if name in ("center", "heat"):
            value = 1 / (1 + np.exp(-value))
        assert np.abs(value - other).max() < 2e-3, name
