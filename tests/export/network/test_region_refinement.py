"""Candidate-region refinement: where it looks at features, and what it does before it has learned."""

import torch
from torch import Tensor

from edgepose_export.network.head import KEYPOINTS
from edgepose_export.network.region_refinement import RegionRefinement, RegionStep


def candidates() -> tuple[Tensor, Tensor]:
    """Boxes (1, 2, 4) and poses (1, 2, 51), all keypoints in the middle of the box."""
    boxes = torch.tensor([[[16.0, 8.0, 48.0, 56.0], [40.0, 20.0, 60.0, 60.0]]])
    return boxes, torch.zeros(1, 2, 3 * KEYPOINTS)


def test_before_training_nothing_moves() -> None:
    torch.manual_seed(0)
    refinement = RegionRefinement(16, 4, 8, 2)
    boxes, pose = candidates()
    pose = pose + torch.randn_like(pose)
    poses = refinement(torch.randn(1, 16, 8, 8), boxes, pose)
    assert len(poses) == 3
    assert all(torch.equal(refined, pose) for refined in poses)


def test_without_iterations_the_coarse_pose_is_the_result() -> None:
    refinement = RegionRefinement(16, 4, 8, 0)
    boxes, pose = candidates()
    assert refinement(torch.randn(1, 16, 8, 8), boxes, pose) == [pose]
    assert list(refinement.parameters()) == []


def test_a_region_is_the_enlarged_box() -> None:
    """Gradients of the features say where they are sampled."""
    torch.manual_seed(0)
    refinement = RegionRefinement(1, 1, 8, 1)
    for name, parameter in refinement.named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 0.1)

    def seen(box: list[float]) -> Tensor:
        fine = torch.ones(1, 1, 40, 40, requires_grad=True)
        refinement(fine, torch.tensor([[box]]), torch.zeros(1, 1, 3 * KEYPOINTS))[-1].sum().backward()
        assert fine.grad is not None
        return fine.grad[0, 0].nonzero()

    for left, top, right, bottom in ((96.0, 96.0, 136.0, 136.0), (16.0, 80.0, 216.0, 216.0)):
        cells = seen([left, top, right, bottom]).float() * 8 + 4  # y, x of their middles
        middle = (cells.amin(0) + cells.amax(0)) / 2
        assert (middle - torch.tensor([(top + bottom) / 2, (left + right) / 2])).abs().max() <= 6
        extent = cells.amax(0) - cells.amin(0)
        assert (extent - torch.tensor([bottom - top, right - left])).abs().max() <= 0.2 * (right - left) + 12


def test_each_step_adds_to_the_pose_of_the_one_before() -> None:
    refinement = RegionRefinement(4, 4, 8, 2)
    boxes, pose = candidates()
    with torch.no_grad():
        for step in refinement.steps:
            assert isinstance(step, RegionStep)
            step.second.bias[0] = 0.25
        poses = refinement(torch.randn(1, 4, 8, 8), boxes, pose)
    assert [float(value[0, 0, 0]) for value in poses] == [0.0, 0.25, 0.5]
    assert torch.equal(poses[-1][..., 1:], pose[..., 1:])


def test_a_box_outside_of_the_picture_does_no_harm() -> None:
    torch.manual_seed(0)
    refinement = RegionRefinement(4, 4, 8, 1)
    boxes, pose = candidates()
    for step in refinement.steps:
        assert isinstance(step, RegionStep)
        torch.nn.init.normal_(step.second.weight)
    poses = refinement(torch.randn(1, 4, 8, 8), boxes * 100, pose - 3)
    assert torch.isfinite(poses[-1]).all()
