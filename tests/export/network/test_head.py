"""The head's cells: shapes, corners and the first keypoints."""

import pytest
import torch

from edgepose.person import FLIP_PAIRS
from edgepose_export.network.head import KEYPOINTS, MEAN_POSE, STRIDES, KeypointTower, PoseHead, corners_of


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32), (96, 64)])
def test_shapes_and_corners_of_all_cells(height: int, width: int) -> None:
    head = PoseHead(16, 8, activation="silu").eval()
    maps = head([torch.randn(2, 16, height // stride, width // stride) for stride in STRIDES])
    cells = sum(height * width // stride**2 for stride in STRIDES)
    assert (maps.score.shape, maps.box.shape, maps.keypoints.shape) == ((2, cells), (2, 4, cells), (2, 51, cells))
    assert maps.fine.shape == (2, 16, height // 8, width // 8)
    expected = [(x, y) for stride in STRIDES for y in range(0, height, stride) for x in range(0, width, stride)]
    assert corners_of(torch.arange(cells), maps.fine).tolist() == [[float(x), float(y)] for x, y in expected]


def test_distances_are_in_pixels_of_the_input() -> None:
    head = PoseHead(16, 8, activation="silu").eval()
    with torch.no_grad():
        for level in head.levels:
            level.box.conv.weight.zero_()  # type: ignore[union-attr, operator]
            level.box.conv.bias.fill_(1.5)  # type: ignore[union-attr, operator]
        maps = head([torch.zeros(1, 16, 32 // stride, 32 // stride) for stride in STRIDES])
    assert maps.box[0, 0].tolist() == pytest.approx([1.5 * 8] * 16 + [1.5 * 16] * 4 + [1.5 * 32])


def test_the_first_keypoints_are_the_mean_pose_with_little_confidence() -> None:
    pose = KeypointTower(16, 8).eval()(torch.zeros(1, 16, 3, 3))[0, :, 1, 1]
    mean = torch.tensor(MEAN_POSE)
    assert torch.allclose(pose[:KEYPOINTS], mean[:, 0], atol=0.1)
    assert torch.allclose(pose[KEYPOINTS : 2 * KEYPOINTS], mean[:, 1], atol=0.1)
    assert torch.sigmoid(pose[2 * KEYPOINTS :]).max() < 0.2


def test_the_mean_pose_is_symmetric_and_upright() -> None:
    for left, right in FLIP_PAIRS:
        assert MEAN_POSE[left] == (-MEAN_POSE[right][0], MEAN_POSE[right][1])
        assert MEAN_POSE[left][0] > 0  # a person who faces the camera has their left on the picture's right
    assert MEAN_POSE[0][1] < MEAN_POSE[5][1] < MEAN_POSE[11][1] < MEAN_POSE[13][1] < MEAN_POSE[15][1]
