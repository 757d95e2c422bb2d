"""The best candidates of a picture against sequential non-maximum suppression."""

import numpy as np
import pytest
import torch
from torch import Tensor

from edgepose_export.network.candidates import best_candidates, boxes_of, take
from edgepose_export.network.head import PoseMaps, corners_of

IOU = 0.6


def maps_of(scores: Tensor, boxes: Tensor) -> PoseMaps:
    """Return maps of logits (B, N) and boxes (B, N, 4) x1 y1 x2 y2."""
    count = scores.shape[1]
    fine = torch.zeros(len(scores), 4, 4, count)  # has more cells than are looked at
    at = corners_of(torch.arange(count), fine)
    distance = torch.cat([at - boxes[..., :2], boxes[..., 2:] - at], -1).transpose(1, 2)
    return PoseMaps(scores, distance, torch.zeros(len(scores), 51, count), fine)


def iou(first: Tensor, second: Tensor) -> float:
    low, high = torch.maximum(first[:2], second[:2]), torch.minimum(first[2:], second[2:])
    common = float((high - low).clamp_min(0).prod())
    return common / (float((first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod()) - common)


def sequential(scores: Tensor, boxes: Tensor, considered: int) -> list[int]:
    """Return the cells that plain suppression keeps, the best first."""
    kept: list[int] = []
    for cell in scores.argsort(descending=True)[:considered].tolist():
        if all(iou(boxes[cell], boxes[other]) <= IOU for other in kept):
            kept.append(cell)
    return kept


def found(maps: PoseMaps, considered: int = 60, kept: int = 60) -> list[list[int]]:
    logits, cells, _ = best_candidates(maps, considered, kept, IOU)
    return [[cell for logit, cell in zip(*pair, strict=True) if logit > -50] for pair in zip(logits.tolist(), cells.tolist(), strict=True)]


def test_people_found_by_many_cells_are_found_once_in_nearly_all_cases() -> None:
    """Each person is found by cells whose boxes differ by a tenth of their sides, as a network's do."""
    generator = torch.Generator().manual_seed(0)
    pictures, people, finds = 60, 8, 10
    middle = torch.rand((pictures, people, 1, 2), generator=generator) * 300
    size = torch.rand((pictures, people, 1, 2), generator=generator) * 80 + 20
    low, high = middle - size / 2, middle + size / 2
    boxes = torch.cat([low, high], -1).expand(-1, -1, finds, -1)
    boxes = boxes + torch.randn((pictures, people, finds, 4), generator=generator) * size.repeat(1, 1, 1, 2) * 0.06
    boxes = boxes.flatten(1, 2)
    scores = torch.randn((pictures, people * finds), generator=generator)
    got = found(maps_of(scores, boxes), 80, 80)
    right = [set(cells) == set(sequential(scores[number], boxes[number], 80)) for number, cells in enumerate(got)]
    assert np.mean(right) > 0.9
    # Where a long chain of overlaps makes a difference, it is one candidate.
    different = [len(set(cells) ^ set(sequential(scores[number], boxes[number], 80))) for number, cells in enumerate(got)]
    assert max(different) <= 2


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_chains_of_up_to_three_suppressions_are_exact(length: int) -> None:
    """Each box overlaps only its neighbors, so every second one stays."""
    x = torch.arange(length) * 20.0
    boxes = torch.stack([x, torch.zeros(length), x + 100, torch.full((length,), 100.0)], 1)
    scores = -torch.arange(length, dtype=torch.float32)
    assert iou(boxes[0], boxes[min(1, length - 1)]) > IOU
    assert found(maps_of(scores[None], boxes[None])) == [sequential(scores, boxes, 60)] == [list(range(0, length, 2))]


def test_scores_fall_and_boxes_belong_to_their_cells() -> None:
    torch.manual_seed(1)
    low = torch.rand(2, 30, 2) * 200
    boxes = torch.cat([low, low + 1 + torch.rand(2, 30, 2) * 50], -1)
    scores = torch.randn(2, 30)
    logits, cells, chosen = best_candidates(maps_of(scores, boxes), 20, 5, IOU)
    assert (logits.shape, cells.shape, chosen.shape) == ((2, 5), (2, 5), (2, 5, 4))
    assert (logits.diff(dim=1) <= 0).all()
    for picture in range(2):
        assert torch.allclose(chosen[picture], boxes[picture, cells[picture]], atol=1e-4)
        assert torch.equal(logits[picture], scores[picture, cells[picture]])


def test_a_picture_with_fewer_cells_than_considered_still_gives_all_candidates() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 0, 30, 10], [1, 0, 11, 10]]])
    logits, cells, chosen = best_candidates(maps_of(torch.tensor([[1.0, 3.0, 2.0]]), boxes), 200, 6, IOU)
    assert logits[0, :2].tolist() == [3.0, 2.0]
    assert cells[0, :2].tolist() == [1, 2]
    assert torch.allclose(chosen[0, :2], boxes[0, [1, 2]])
    assert logits.shape == (1, 6)
    assert (logits[0, 2:] < -90).all()
    assert torch.isfinite(chosen).all()


def test_take_and_boxes_read_the_cells() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 0, 30, 10]]])
    maps = maps_of(torch.zeros(1, 2), boxes)
    cells = torch.tensor([[1, 0, 1]])
    assert torch.equal(boxes_of(maps, cells), boxes[:, [1, 0, 1]])
    assert torch.equal(take(maps.box, cells)[0, 1], maps.box[0, :, 0])
