"""The decoder inside the graph: raw maps -> the K best candidates of a picture (peaks of the center map, boxes, keypoints)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.head import KEYPOINTS, PoseMaps
from edgepose_export.network.refinement import Refinement

STRIDE = 4
_LEAST_CONFIDENCE = 0.127
"""Keypoints below this confidence do not count in a person's score (the teacher's value)."""


class CandidateDecoder(nn.Module):
    """Decoder of a pose network: peaks of the center map -> `candidates` people with refined keypoints, in input pixels."""

    def __init__(self, candidates: int, refinement: Refinement) -> None:
        super().__init__()
        self.candidates = candidates
        self.refinement = refinement
        # The raw score (root of the center score x mean keypoint confidence) ranks well but is no probability; slope and bias map it
        # to one (`edgepose_export.evaluation.score`). Monotonic, so AP does not change; the identity until then.
        self.score_slope: Tensor
        self.score_bias: Tensor
        self.register_buffer("score_slope", torch.tensor(1.0))
        self.register_buffer("score_bias", torch.tensor(0.0))

    def forward(self, maps: PoseMaps) -> tuple[Tensor, Tensor, Tensor]:
        """Map raw maps to boxes (B, K, 4) x1 y1 x2 y2, scores (B, K) and keypoints (B, K, 17, 3) x y confidence, in input pixels."""
        center = torch.sigmoid(maps.center)  # (B, 1, H, W)
        peak = F.max_pool2d(center, 3, 1, 1)
        center = torch.where(peak == center, center, torch.zeros_like(center)).flatten(1)  # (B, H W)
        value, cell = torch.topk(center, self.candidates, dim=1)  # (B, K)
        height, width = maps.heat.shape[2], maps.heat.shape[3]
        row = torch.div(cell, width, rounding_mode="trunc")  # cells are >= 0; "floor" would export five operations
        place = torch.stack([row, cell - row * width], -1).to(value.dtype)  # (B, K, 2) y, x

        size = _at(maps.box_size, cell).clamp_min(0)  # (B, K, 2)
        middle = place + _at(maps.box_offset, cell)  # (B, K, 2) y, x
        coarse = _at(maps.coarse, cell).unflatten(2, (KEYPOINTS, 2)) + place[:, :, None]  # (B, K, 17, 2)
        found, confidence = self.refinement(torch.sigmoid(maps.heat), maps.offset, coarse)  # (B, K, 17, 2), (B, K, 17)

        corners = torch.stack([middle - size / 2, middle + size / 2], 2)  # (B, K, 2, 2) low and high, y and x
        # Each side is clamped separately: a tensor of both limits would freeze the picture's size when the graph is traced.
        clamped = torch.stack([corners[..., 1].clamp(0, width), corners[..., 0].clamp(0, height)], -1)  # x, y
        boxes = (clamped * STRIDE).flatten(2)  # (B, K, 4)
        keypoints = torch.cat([found[..., 1:] * STRIDE, found[..., :1] * STRIDE, confidence[..., None]], -1)
        return boxes, self.score(value, confidence), keypoints

    def score(self, center: Tensor, confidence: Tensor) -> Tensor:
        """Return the scores of people (B, K) from those of their centers (B, K) and of their keypoints (B, K, 17)."""
        counted = (confidence > _LEAST_CONFIDENCE).to(confidence.dtype)
        mean = (confidence * counted).sum(-1) / counted.sum(-1).clamp_min(1)
        # The root of the center score, since keypoints say more about a pose (AP + 0.004 over the plain product, in and out of training).
        raw = (center.sqrt() * mean).clamp(1e-6, 1 - 1e-6)
        return torch.sigmoid(self.score_slope * torch.log(raw / (1 - raw)) + self.score_bias)


class PersonDecoder(nn.Module):
    """Decoder of a refiner: the refined keypoints of the person in the middle of a crop, in crop pixels."""

    _NEARNESS_CELLS = 1.8
    """Distance added in the weight 1 / (distance to the crop's middle + this) of a center (the teacher's value)."""

    def __init__(self, refinement: Refinement) -> None:
        super().__init__()
        self.refinement = refinement
        # The runtime computes a refined person's score from these (`edgepose.pose.regions.refined_score`): the bias, and the weights
        # of the first score's logit, the agreement and the confidence. Until `calibrate-score`, the first score stays as it is.
        self.score_weights: Tensor
        self.register_buffer("score_weights", torch.tensor([0.0, 1.0, 0.0, 0.0]))

    def forward(self, maps: PoseMaps) -> Tensor:
        """Map raw maps to keypoints (B, 17, 3) x y confidence of the person whose center is both likely and near the middle."""
        height, width = maps.heat.shape[2], maps.heat.shape[3]
        y = torch.arange(height, device=maps.heat.device, dtype=torch.float32)[:, None] - height // 2
        x = torch.arange(width, device=maps.heat.device, dtype=torch.float32)[None] - width // 2
        near = 1 / ((y.square() + x.square()).sqrt() + self._NEARNESS_CELLS)  # (H, W)
        _, cell = torch.topk((torch.sigmoid(maps.center) * near).flatten(1), 1, dim=1)  # (B, 1)
        row = torch.div(cell, width, rounding_mode="trunc")
        place = torch.stack([row, cell - row * width], -1).to(maps.coarse.dtype)  # (B, 1, 2) y, x
        coarse = _at(maps.coarse, cell).unflatten(2, (KEYPOINTS, 2)) + place[:, :, None]  # (B, 1, 17, 2)
        found, confidence = self.refinement(torch.sigmoid(maps.heat), maps.offset, coarse)
        return torch.cat([found[..., 1:] * STRIDE, found[..., :1] * STRIDE, confidence[..., None]], -1)[:, 0]


def _at(maps: Tensor, cell: Tensor) -> Tensor:
    """Return the values of (B, C, H, W) at flat cells (B, K): (B, K, C)."""
    flat = maps.flatten(2)
    index = cell[:, None].expand(-1, maps.shape[1], -1)
    return torch.gather(flat, 2, index).transpose(1, 2)
