"""The whole pose network: shapes, keypoints in their boxes, gradients, and special cases."""

import pytest
import torch
from msgspec.structs import replace

from edgepose_export.network.checkpoint import parameters_count
from edgepose_export.network.head import KEYPOINTS, MEAN_POSE
from edgepose_export.network.pose_network import PoseGraph, PoseNetwork, PoseSpec, keypoints_of
from edgepose_export.network.region_refinement import RegionStep
from edgepose_export.shipped import find_recipe
from edgepose_export.training.recipe import load_recipe
from testing.export.tiny import TINY, lively


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32), (160, 64)])
def test_candidates_have_their_shapes_at_all_sizes(height: int, width: int) -> None:
    pictures = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
    with torch.inference_mode():
        boxes, scores, keypoints = PoseGraph(lively())(pictures)
    assert (boxes.shape, scores.shape, keypoints.shape) == ((2, 12, 4), (2, 12), (2, 12, 17, 3))
    assert (scores.diff(dim=1) <= 0).all()
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert keypoints[..., 2].min() >= 0
    assert keypoints[..., 2].max() <= 1


def test_levels_have_the_strides_and_the_width_of_the_neck() -> None:
    network = lively()
    early = network.trunk.early(torch.randn(1, 3, 64, 96))
    assert early.shape == (1, 8, 16, 24)
    assert [tuple(level.shape) for level in network.levels(early)] == [(1, 16, 8, 12), (1, 16, 4, 6), (1, 16, 2, 3)]
    features = network.trunk(torch.randn(1, 3, 64, 96))
    assert [tuple(feature.shape) for feature in features] == [(1, 16, 8, 12), (1, 16, 4, 6), (1, 32, 2, 3)]


def test_keypoints_follow_the_box() -> None:
    pose = torch.zeros(1, 2, 3 * KEYPOINTS)
    pose[..., :KEYPOINTS], pose[..., KEYPOINTS : 2 * KEYPOINTS] = 0.5, -0.25
    boxes = torch.tensor([[[10.0, 20.0, 30.0, 60.0], [110.0, 20.0, 150.0, 100.0]]])
    keypoints = keypoints_of(boxes, pose)
    assert keypoints[0, 0, 0].tolist() == [30.0, 30.0, 0.5]
    assert keypoints[0, 1, 0].tolist() == [150.0, 40.0, 0.5]
    assert keypoints.shape == (1, 2, 17, 3)


def test_without_training_everybody_has_the_mean_pose() -> None:
    torch.manual_seed(0)
    network = PoseNetwork(TINY).eval()
    pictures = torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        boxes, _, keypoints = PoseGraph(network)(pictures)
    middle, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    expected = middle[:, :, None] + size[:, :, None] * torch.tensor(MEAN_POSE)
    assert ((keypoints[..., :2] - expected).abs() / size[:, :, None].abs().clamp_min(1)).max() < 0.2


def test_a_normalized_picture_has_mean_0_and_red_comes_first() -> None:
    network = PoseNetwork(TINY)
    picture = torch.tensor([124, 116, 104], dtype=torch.uint8).expand(1, 32, 64, 3)
    x = network.normalize(picture)
    assert x.shape == (1, 3, 32, 64)
    assert x.abs().max() < 0.01
    red = network.normalize(torch.tensor([255, 116, 104], dtype=torch.uint8).expand(1, 32, 32, 3))
    assert red[0, 0].min() > 2
    assert red[0, 1:].abs().max() < 0.01


def test_the_score_is_mapped_by_slope_and_bias() -> None:
    network = lively()
    maps = network(torch.randn(1, 3, 64, 64))
    maps = maps._replace(score=maps.score.clamp(-3, 3))
    before = network.decode(maps)[1]
    network.score_slope, network.score_bias = torch.tensor(2.0), torch.tensor(-1.0)
    after = network.decode(maps)[1]
    assert torch.allclose(torch.logit(after), 2 * torch.logit(before) - 1, atol=1e-3)


def test_gradients_reach_every_parameter() -> None:
    network = lively()
    for step in network.refinement.steps:
        assert isinstance(step, RegionStep)
        torch.nn.init.normal_(step.second.weight)  # it begins at 0, and then the layer before has no gradient
    maps = network(torch.randn(2, 3, 64, 64))
    boxes, scores, keypoints = network.decode(maps)
    (sum(value.square().mean() for value in (*maps[:3], boxes, scores, keypoints))).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert without == []


def test_more_candidates_than_cells_that_compete_are_possible() -> None:
    network = lively(0, replace(TINY, candidates=300))
    with torch.inference_mode():
        boxes, scores, _ = PoseGraph(network)(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))
    assert (boxes.shape, scores.shape) == ((1, 300, 4), (1, 300))


def test_the_shipped_network_is_small() -> None:
    spec = load_recipe(find_recipe("ghost-n")).network
    assert isinstance(spec, PoseSpec)
    assert parameters_count(PoseNetwork(spec)) < 1_200_000
