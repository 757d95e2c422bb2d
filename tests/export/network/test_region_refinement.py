"""Candidate-region refinement: where it looks at features, and what it does before it has learned."""

import torch
from torch import Tensor

from edgepose_export.network.head import KEYPOINTS
from edgepose_export.network.region_refinement import RegionRefinement


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


def test_a_window_lies_around_its_keypoint_and_grows_with_the_box() -> None:
    """The only change of the features that matters is one below the window: gradients say where it lies."""
    torch.manual_seed(0)
    refinement = RegionRefinement(1, 1, 8, 1)
    for name, parameter in refinement.named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 0.1)

    def seen(box: list[float], x: float, y: float) -> Tensor:
        fine = torch.ones(1, 1, 40, 40, requires_grad=True)
        pose = torch.zeros(1, 1, 3 * KEYPOINTS)
        pose[..., :KEYPOINTS], pose[..., KEYPOINTS : 2 * KEYPOINTS] = x, y
        refinement(fine, torch.tensor([[box]]), pose)[-1].sum().backward()
        assert fine.grad is not None
        return fine.grad[0, 0].nonzero()

    small, large = seen([96.0, 96.0, 136.0, 136.0], 0.5, -0.5), seen([16.0, 16.0, 216.0, 216.0], 0.5, -0.5)
    for cells, x, y in ((small, 136, 96), (large, 216, 16)):
        middle = (cells.float().amin(0) + cells.float().amax(0)) / 2 * 8 + 4
        assert (middle - torch.tensor([y, x])).abs().max() <= 4
    assert (large.amax(0) - large.amin(0)).min() > (small.amax(0) - small.amin(0)).max()


def test_each_step_starts_at_the_positions_of_the_one_before() -> None:
    refinement = RegionRefinement(4, 4, 8, 2)
    boxes, pose = candidates()
    with torch.no_grad():
        for step in refinement.steps:
            step.second_bias[:, 0, 0] = 0.25  # type: ignore[operator]
        poses = refinement(torch.randn(1, 4, 8, 8), boxes, pose)
    x = [float(value[0, 0, 0]) for value in poses]
    assert x == [0.0, 0.25, 0.5]
    assert torch.equal(poses[-1][..., KEYPOINTS:], pose[..., KEYPOINTS:])


def test_a_keypoint_outside_of_the_picture_does_no_harm() -> None:
    torch.manual_seed(0)
    refinement = RegionRefinement(4, 4, 8, 1)
    boxes, pose = candidates()
    torch.nn.init.normal_(refinement.steps[0].second)  # type: ignore[arg-type]
    poses = refinement(torch.randn(1, 4, 8, 8), boxes * 100, pose - 3)
    assert torch.isfinite(poses[-1]).all()
