"""Our own networks in Ultralytics' layout: (N, 56, anchors), or end to end (N, detections, 57), with metadata as their exporter writes it.

Nothing of Ultralytics is in here: the layout is documented (`edgepose.engine.ultralytics`), the networks and weights are ours.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from edgepose_export.network.pose_network import DEVIATION, PoseNetwork
from edgepose_export.training.pose_assignment import boxes_at_cells
from testing.onnx_files import ULTRALYTICS_METADATA

_KEYPOINTS = 17


class Rows(nn.Module):
    """A network of (B, 3, H, W) RGB 0 to 1 whose rows of (B, 56, anchors) are boxes (center, sides), score and keypoints; see `rows`."""

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        self.detector = network  # of another name than in our own files, whose nodes are known by it

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) RGB 0 to 1 to (B, 56, anchors) in input pixels."""
        maps = self.detector((images * 255 - self.detector.mean) / DEVIATION)
        first, second = boxes_at_cells(maps).transpose(1, 2).split(2, 1)  # (B, 2, N) each
        score = torch.sigmoid(self.detector.score_slope * maps.score + self.detector.score_bias)
        x, y, seen = maps.keypoints.split(_KEYPOINTS, 1)
        return rows(first, second, score[:, None], x, y, torch.sigmoid(seen))


def rows(first: Tensor, second: Tensor, score: Tensor, x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
    """Return (B, 56, A) from corners (B, 2, A), a score (B, 1, A) and keypoints (B, 17, A) in the box's sides from its middle."""
    middle, size = (first + second) / 2, second - first
    keypoints = torch.stack([middle[:, :1] + size[:, :1] * x, middle[:, 1:] + size[:, 1:] * y, seen], 2)  # (B, 17, 3, A)
    return torch.cat([middle, size, score, keypoints.flatten(1, 2)], 1)


class EndToEnd(nn.Module):
    """The best anchors as detections (B, count, 57), as a network without suppression gives them."""

    def __init__(self, dense: nn.Module, count: int) -> None:
        super().__init__()
        self.dense, self.count = dense, count

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, count, 57): corners, score, class, keypoints."""
        found = self.dense(images)
        score, index = found[:, 4].topk(self.count, dim=1)
        best = found.gather(2, index[:, None].expand(-1, found.shape[1], -1)).transpose(1, 2)
        middle, half = best[..., :2], best[..., 2:4] / 2
        return torch.cat([middle - half, middle + half, score[..., None], torch.zeros_like(score)[..., None], best[..., 5:]], 2)


def write_layout(network: nn.Module, path: Path, side: int, *, dynamic: bool = False, metadata: Mapping[str, str | None] = {}) -> Path:
    """Trace a network of (B, 3, H, W) into a file with Ultralytics' metadata; None removes a key."""
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, side, side),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["images"],
            output_names=["output0"],
            dynamic_axes=axes,
        )
    model = onnx.load(str(path))
    known = {**ULTRALYTICS_METADATA, "description": "", "license": "Apache-2.0", "imgsz": f"[{side}, {side}]", **metadata}
    helper.set_model_props(model, {key: value for key, value in known.items() if value is not None})
    onnx.save(model, str(path))
    return path
