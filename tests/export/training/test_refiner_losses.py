"""The losses of a refiner on batches with known labels."""

import numpy as np
import pytest
import torch

from edgepose_export.data.batches import Batch, Position
from edgepose_export.network.heatmap import KEYPOINTS, HeatMapDecoder
from edgepose_export.training.refiner_losses import RefinerWeights, heat_targets, refiner_losses, sigma_for

HEIGHT, WIDTH = 32, 24


def batch_of(keypoints: np.ndarray, turns_deg: tuple[float, ...] | None = None) -> Batch:
    """Return a batch with one person a crop, keypoints (B, 17, 3) in crop pixels."""
    count = len(keypoints)
    return Batch(
        images=np.zeros((count, 4 * HEIGHT, 4 * WIDTH, 3), np.uint8),
        boxes=np.tile(np.array([0, 0, 96, 128], np.float32), (count, 1, 1)),
        keypoints=keypoints[:, None].astype(np.float32),
        areas=np.full((count, 1), 5000, np.float32),
        people=np.ones(count, np.int64),
        ignored=np.zeros((count, 0, 4), np.float32),
        regions=np.zeros(count, np.int64),
        following=Position(),
        turns_deg=np.array(turns_deg or (0,) * count, np.float32),
    )


def people(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    places = 12 + rng.random((count, KEYPOINTS, 2)) * (72, 104)
    return np.concatenate((places, rng.integers(1, 3, (count, KEYPOINTS, 1))), 2)


def test_the_decoder_finds_the_labels_in_their_targets() -> None:
    keypoints = people(3)
    target, labeled = heat_targets(torch.zeros(3, KEYPOINTS, HEIGHT, WIDTH), batch_of(keypoints), 1.25)
    found = HeatMapDecoder(HEIGHT, WIDTH)(target).numpy()
    assert np.abs(found[..., :2] - keypoints[..., :2]).max() < 0.1
    assert labeled.all()  # hidden ones count as much as visible ones


def test_perfect_maps_cost_nothing_and_empty_ones_1() -> None:
    batch, weights = batch_of(people(2)), RefinerWeights(labels=1, teacher=1)
    target, _ = heat_targets(torch.zeros(2, KEYPOINTS, HEIGHT, WIDTH), batch, sigma_for(HEIGHT))
    assert all(loss == 0 for loss in refiner_losses(target, target, batch, weights).values())
    empty = refiner_losses(torch.zeros_like(target), target, batch, weights)
    assert [float(loss) for loss in empty.values()] == pytest.approx([1, 1], abs=0.02)
    assert [float(loss) for loss in refiner_losses(target, None, batch, weights).values()] == [0]
    halved = refiner_losses(torch.zeros_like(target), target, batch, RefinerWeights(labels=0, teacher=0.5))
    assert float(halved["teacher"]) == pytest.approx(0.5, abs=0.01)
    assert list(halved) == ["teacher"]


def test_keypoints_without_label_learn_from_the_teacher_alone() -> None:
    keypoints = people(2)
    keypoints[:, 5] = 0
    heat = torch.rand(2, KEYPOINTS, HEIGHT, WIDTH, requires_grad=True)
    teacher = torch.rand(2, KEYPOINTS, HEIGHT, WIDTH)
    refiner_losses(heat, None, batch_of(keypoints), RefinerWeights())["labels"].backward()
    assert heat.grad is not None
    assert not heat.grad[:, 5].any()
    assert heat.grad[:, 4].all()
    again = heat.detach().requires_grad_()
    refiner_losses(again, teacher, batch_of(keypoints), RefinerWeights(labels=0, teacher=1))["teacher"].backward()
    assert again.grad is not None
    assert again.grad.all()


def test_a_crop_of_nobody_wants_empty_maps_and_no_teacher() -> None:
    keypoints = people(2)
    keypoints[1] = (0, 0, -1)
    batch = batch_of(keypoints)
    target, labeled = heat_targets(torch.zeros(2, KEYPOINTS, HEIGHT, WIDTH), batch, sigma_for(HEIGHT))
    assert not target[1].any()
    assert labeled.all()
    heat = target.clone()
    heat[1] = 0.5
    assert float(refiner_losses(heat, None, batch, RefinerWeights())["labels"]) > 1
    assert float(refiner_losses(heat, target, batch, RefinerWeights(labels=0, teacher=1))["teacher"]) == 0


def test_the_teacher_does_not_count_in_turned_crops() -> None:
    heat = torch.rand(3, KEYPOINTS, HEIGHT, WIDTH, requires_grad=True)
    batch = batch_of(people(3), (0, 90, 29))
    refiner_losses(heat, torch.zeros_like(heat), batch, RefinerWeights(labels=0, teacher=1))["teacher"].backward()
    assert heat.grad is not None
    assert [bool(gradient.any()) for gradient in heat.grad] == [True, False, True]


def test_a_batch_without_anybody_has_finite_losses() -> None:
    batch = batch_of(people(2))
    nobody = Batch(
        images=batch.images,
        boxes=batch.boxes[:, :0],
        keypoints=batch.keypoints[:, :0],
        areas=batch.areas[:, :0],
        people=np.zeros(2, np.int64),
        ignored=batch.ignored,
        regions=batch.regions,
        following=batch.following,
        turns_deg=np.full(2, 90, np.float32),
    )
    losses = refiner_losses(
        torch.rand(2, KEYPOINTS, HEIGHT, WIDTH), torch.rand(2, KEYPOINTS, HEIGHT, WIDTH), nobody, RefinerWeights(teacher=1)
    )
    assert [float(loss) for loss in losses.values()] == [0, 0]


def test_the_gaussians_of_tinypose_are_the_default() -> None:
    assert [sigma_for(rows) for rows in (32, 64)] == pytest.approx([1.25, 2.0])
