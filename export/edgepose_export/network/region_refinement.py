"""Candidate-region refinement of keypoints inside the graph: the paper's "RCNN essence".

Around each coarse keypoint of a candidate lies a small window, whose size follows the person's. The features under the window,
together with the candidate's whole coarse pose, give an offset and a confidence; this repeats, each time with its own weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.head import KEYPOINTS
from edgepose_export.network.layers import ConvNorm

_REACH = 0.06
"""Distance of a window's outer samples from its middle, as a share of the root of the box's area."""


class RegionStep(nn.Module):
    """One iteration: windows of 3 x 3 samples -> offsets and confidences, with weights of its own for each keypoint.

    Args:
        width: features in a sample.
        hidden: width of the layer between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        inputs = 9 * width + 3 * KEYPOINTS
        self.first = nn.Parameter(torch.randn(KEYPOINTS, inputs, hidden) * (2 / inputs) ** 0.5)
        self.first_bias = nn.Parameter(torch.zeros(KEYPOINTS, 1, hidden))
        self.second = nn.Parameter(torch.zeros(KEYPOINTS, hidden, 3))  # the first offsets are 0
        self.second_bias = nn.Parameter(torch.zeros(KEYPOINTS, 1, 3))

    def forward(self, windows: Tensor, pose: Tensor) -> Tensor:
        """Map windows (17, M, 9 width) and coarse poses (M, 51) to changes of x, y and of the confidence's logit (17, M, 3)."""
        inputs = torch.cat([windows, pose[None].expand(KEYPOINTS, -1, -1)], 2)
        return F.relu(inputs @ self.first + self.first_bias) @ self.second + self.second_bias


class RegionRefinement(nn.Module):
    """`iterations` steps of refinement, each around the positions of the previous one.

    Args:
        channels: of the features at stride 8.
        width: features that a window samples.
        hidden: width of each step.
        iterations: 0 leaves the coarse keypoints as they are.
    """

    def __init__(self, channels: int, width: int, hidden: int, iterations: int) -> None:
        super().__init__()
        self.narrow = ConvNorm(channels, width, activation="none") if iterations else None
        self.steps = nn.ModuleList(RegionStep(width, hidden) for _ in range(iterations))
        offsets = torch.tensor([(x, y) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)])
        self.offsets: Tensor
        self.register_buffer("offsets", offsets, persistent=False)  # (9, 2)

    def forward(self, fine: Tensor, boxes: Tensor, pose: Tensor) -> list[Tensor]:
        """Return the pose after each step, the last one being the result; without steps, the coarse pose alone.

        Args:
            fine: (B, C, H/8, W/8) features.
            boxes: (B, K, 4) x1 y1 x2 y2 in input pixels.
            pose: (B, K, 51): 17 x, 17 y from the middle of the box in the box's sides, 17 logits.

        Returns:
            Poses (B, K, 51) in the same units.
        """
        poses = [pose]
        if self.narrow is None:
            return poses
        features = self.narrow(fine)  # (B, width, H/8, W/8)
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2  # (B, K, 2)
        size = (boxes[..., 2:] - boxes[..., :2]).clamp_min(1.0)
        reach = (size[..., 0] * size[..., 1]).sqrt() * _REACH  # (B, K)
        # grid_sample counts from -1 to 1 between the outer edges of the map. Each side has its own tensor: one tensor of both
        # would freeze the picture's size when the graph is traced.
        scale_x, scale_y = 2.0 / (fine.shape[3] * 8), 2.0 / (fine.shape[2] * 8)
        for step in self.steps:
            x = middle[..., :1] + size[..., :1] * pose[..., :KEYPOINTS]  # (B, K, 17)
            y = middle[..., 1:] + size[..., 1:] * pose[..., KEYPOINTS : 2 * KEYPOINTS]
            grid_x = x.detach()[..., None] + reach[..., None, None] * self.offsets[:, 0]  # (B, K, 17, 9)
            grid_y = y.detach()[..., None] + reach[..., None, None] * self.offsets[:, 1]
            grid = torch.stack([grid_x.flatten(1, 2) * scale_x - 1, grid_y.flatten(1, 2) * scale_y - 1], -1)  # (B, K 17, 9, 2)
            sampled = F.grid_sample(features, grid, align_corners=False)  # (B, width, K 17, 9)
            # (B, width, K, 17, 9) -> (17, B, K, width, 9)
            windows = sampled.unflatten(2, (-1, KEYPOINTS)).permute(3, 0, 2, 1, 4).flatten(3).flatten(1, 2)
            change = step(windows, pose.detach().flatten(0, 1)).unflatten(1, pose.shape[:2])  # (17, B, K, 3)
            pose = pose + change.permute(1, 2, 3, 0).flatten(2)
            poses.append(pose)
        return poses
