"""Labeled people of one picture, and the maps of a pose network that says exactly what the labels say."""

import numpy as np
import torch

from edgepose_export.data.batches import Batch, Position
from edgepose_export.network.head import KEYPOINTS, STRIDES, PoseMaps

SIDE_PX = 128


def batch_of(boxes: list[list[float]], *, ignored: list[list[float]] | None = None, keypoints: bool = True) -> Batch:
    """Return a batch of one picture of 128 x 128 pixels with people in these boxes, x1 y1 x2 y2, their keypoints along the diagonal."""
    people = np.array(boxes, np.float32).reshape(1, -1, 4)
    spread = np.linspace(0.05, 0.95, KEYPOINTS, dtype=np.float32)[:, None]
    labels = np.zeros((1, people.shape[1], KEYPOINTS, 3), np.float32)
    if keypoints:
        labels[..., :2] = people[:, :, None, :2] + spread * (people[..., 2:] - people[..., :2])[:, :, None]
        labels[..., 2] = 2
    regions = np.array(ignored or [], np.float32).reshape(1, -1, 4)
    return Batch(
        images=np.zeros((1, SIDE_PX, SIDE_PX, 3), np.uint8),
        boxes=people,
        keypoints=labels,
        areas=0.6 * (people[..., 2] - people[..., 0]) * (people[..., 3] - people[..., 1]),
        people=np.array([people.shape[1]]),
        ignored=regions,
        regions=np.array([regions.shape[1]]),
        following=Position(),
        turns_deg=np.zeros(1, np.float32),
    )


def cell_at(x: float, y: float, level: int) -> int:
    """Return the index of the cell of a level (0 for stride 8) that holds a point."""
    before = sum((SIDE_PX // stride) ** 2 for stride in STRIDES[:level])
    stride = STRIDES[level]
    return before + int(y // stride) * (SIDE_PX // stride) + int(x // stride)


def maps_of(batch: Batch, cells: list[int], *, sure: float = 8.0, width: int = 16) -> PoseMaps:
    """Return maps in which each cell of `cells` finds the person of the same place in the batch, and no other cell finds anybody."""
    corners = [[x, y] for stride in STRIDES for y in range(0, SIDE_PX, stride) for x in range(0, SIDE_PX, stride)]
    corner = torch.tensor(corners, dtype=torch.float32)  # (N, 2)
    count = len(corner)
    score, box = torch.full((1, count), -sure), torch.full((1, 4, count), 2.0)
    keypoints = torch.zeros(1, 3 * KEYPOINTS, count)
    keypoints[:, 2 * KEYPOINTS :] = -sure
    for person, cell in enumerate(cells):
        label = torch.from_numpy(batch.boxes[0, person])
        score[0, cell] = sure
        box[0, :2, cell], box[0, 2:, cell] = corner[cell] - label[:2], label[2:] - corner[cell]
        places = (torch.from_numpy(batch.keypoints[0, person, :, :2]) - (label[:2] + label[2:]) / 2) / (label[2:] - label[:2])
        keypoints[0, :, cell] = torch.cat([places[:, 0], places[:, 1], torch.full((KEYPOINTS,), sure)])
    return PoseMaps(score, box, keypoints, torch.zeros(1, width, SIDE_PX // 8, SIDE_PX // 8))
