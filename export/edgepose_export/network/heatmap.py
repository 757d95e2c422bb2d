"""The decoder inside a refiner's graph: heat maps -> keypoints to a fraction of a cell.

Source: F. Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation" (DARK), CVPR 2020: a heat map is a
Gaussian around the keypoint, so the logarithm of the smoothed map is a parabola, whose top a Newton step from the largest cell finds.

Cell i stands for the position 4 i of the crop, (0, 0) being the corner of its first pixel. That is the teacher's convention, measured on
labeled boxes: its keypoints lie within 0.1 pixels of the labels so, and 0.5 pixels off where cell i stands for the middle of pixel 4 i.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose.person import KEYPOINT_NAMES
from edgepose_export.network.lite_hrnet import STRIDE

KEYPOINTS = len(KEYPOINT_NAMES)

_SMALLEST = 1e-10  # of a heat, so that its logarithm exists
_FLATTEST = 1e-9  # determinant of the second derivatives below which there is no top
_LOGIT_LIMIT = 1e-6


class HeatMapDecoder(nn.Module):
    """Decoder of a refiner: the place and the height of the peak of each heat map.

    Only operators that TensorRT builds occur, and only the number of crops is open.

    Args:
        height, width: of a heat map in cells.

    Attributes:
        confidence_slope, confidence_bias: (17,), map the log odds of a peak's height to those of the keypoint being right; the
            identity until `calibrate-score`.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.confidence_slope: Tensor
        self.confidence_bias: Tensor
        self.register_buffer("confidence_slope", torch.ones(KEYPOINTS))
        self.register_buffer("confidence_bias", torch.zeros(KEYPOINTS))
        steps = torch.tensor([-1, 0, 1])
        self.around: Tensor
        self.register_buffer("around", (steps[:, None] * width + steps).flatten(), persistent=False)  # (9,) of flat cells
        self.derivatives: Tensor
        self.register_buffer("derivatives", _derivatives(), persistent=False)

    def forward(self, heat: Tensor) -> Tensor:
        """Map heat maps (B, 17, h, w) to keypoints (B, 17, 3): x y in crop pixels and confidence."""
        cells = self.height * self.width
        peak, cell = heat.reshape(-1, KEYPOINTS, cells).max(2)  # (B, 17)
        row = torch.div(cell, self.width, rounding_mode="trunc")
        column = cell - row * self.width
        # A peak on the border has no neighbors on one side; the nearest inner cell stands for it, and its step does not count.
        inner = row.clamp(1, self.height - 2) * self.width + column.clamp(1, self.width - 2)
        smooth = F.avg_pool2d(heat, 3, 1, 1, count_include_pad=False).reshape(-1, KEYPOINTS, cells)  # (B, 17, h w)
        window = torch.gather(smooth, 2, inner[..., None] + self.around)  # (B, 17, 9)
        x, y, xx, yy, xy = (torch.log(window.clamp_min(_SMALLEST)) @ self.derivatives).unbind(2)
        determinant = xx * yy - xy * xy
        top = determinant > _FLATTEST
        divisor = torch.where(top, determinant, 1.0)
        step_x, step_y = (xy * y - yy * x) / divisor, (xy * x - xx * y) / divisor
        counts = (top & (inner == cell) & (step_x.abs() <= 1) & (step_y.abs() <= 1)).to(heat.dtype)
        place_x = column.to(heat.dtype) + step_x * counts
        place_y = row.to(heat.dtype) + step_y * counts
        return torch.stack([STRIDE * place_x, STRIDE * place_y, self.confidence(peak)], 2)

    def confidence(self, peak: Tensor) -> Tensor:
        """Map heights of peaks (B, 17) to confidences 0 to 1."""
        odds = torch.logit(peak.clamp(_LOGIT_LIMIT, 1 - _LOGIT_LIMIT))
        return torch.sigmoid(self.confidence_slope * odds + self.confidence_bias)


def _derivatives() -> Tensor:
    """Return the weights of 3x3 values, row by row, in the derivatives x, y, xx, yy and xy at the middle: (9, 5)."""
    zero, first, second = torch.tensor([0.0, 1, 0]), torch.tensor([-0.5, 0, 0.5]), torch.tensor([1.0, -2, 1])
    pairs = [(zero, first), (first, zero), (zero, second), (second, zero), (first, first)]
    return torch.stack([(rows[:, None] * columns).flatten() for rows, columns in pairs], 1)
