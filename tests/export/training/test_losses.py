"""Assignment and losses: what they reward, what they leave alone."""

import numpy as np
import pytest
import torch

from edgepose_export.data.batches import Batch, Position
from edgepose_export.network.head import PoseMaps
from edgepose_export.network.model import GhostPose
from edgepose_export.training.assignment import assign, oks, people_in_cells
from edgepose_export.training.cells import cells_inside, trunk_tilt_deg
from edgepose_export.training.distillation import distill, forward_from
from edgepose_export.training.labels import label_losses
from edgepose_export.training.recipe import DistillationWeights, LabelWeights
from testing.export.tiny import TINY

SIZE = 64
ALL = LabelWeights(1, 1, 1, 1, 1, 1)


def batch_of(people: int = 1, ignored: list[list[float]] | None = None) -> Batch:
    """One picture with people of 32 x 48 px in a row, keypoints spread over the body."""
    boxes = np.array([[4 + 24 * i, 8, 36 + 24 * i, 56] for i in range(people)], np.float32).reshape(1, -1, 4)
    spread = np.stack([np.linspace(4, 28, 17), np.linspace(2, 46, 17)], -1)
    keypoints = np.full((1, people, 17, 3), 2, np.float32)
    keypoints[..., :2] = boxes[:, :, None, :2] + spread
    regions = np.array([ignored or []], np.float32).reshape(1, -1, 4)
    return Batch(
        np.zeros((1, SIZE, SIZE, 3), np.uint8), boxes, keypoints, np.full((1, people), 900, np.float32),
        np.array([people]), regions, np.array([regions.shape[1]]), Position(), np.zeros(1, np.float32),
    )  # fmt: skip


def people_of(batch: Batch):
    return people_in_cells(*(torch.from_numpy(value) for value in (batch.boxes, batch.keypoints, batch.areas, batch.people)))


def perfect(batch: Batch) -> PoseMaps:
    """Maps that say exactly what the labels say."""
    people = people_of(batch)
    side = SIZE // 4
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cells = torch.stack([rows, columns], -1).float()  # (H, W, 2)
    nearest = torch.cdist(cells.reshape(-1, 2) + 0.5, people.center).argmin(1)
    coarse = people.keypoints[nearest] - cells.reshape(-1, 1, 2)
    size, offset = people.size[nearest], people.center[nearest] - cells.reshape(-1, 2)
    center = torch.full((side * side,), -8.0)
    for place in people.center:
        center[int(place[0]) * side + int(place[1])] = 8.0
    heat = torch.full((17, side, side), -8.0)
    point = torch.zeros(17, 2, side, side)
    for keypoint in range(17):
        goals = people.keypoints[:, keypoint]
        for goal in goals:
            heat[keypoint, int(goal[0]), int(goal[1])] = 8.0
        closest = torch.cdist(cells.reshape(-1, 2) + 0.5, goals).argmin(1)
        point[keypoint] = (goals[closest] - cells.reshape(-1, 2)).T.reshape(2, side, side)
    grid = lambda value: value.T.reshape(1, -1, side, side)  # noqa: E731
    return PoseMaps(
        center.reshape(1, 1, side, side), grid(size), grid(offset), heat[None], grid(coarse.flatten(1)), point.reshape(1, 34, side, side)
    )


def test_the_cells_near_the_center_with_the_best_pose_get_the_person() -> None:
    batch = batch_of()
    maps = perfect(batch)
    assigned = assign(maps, people_of(batch))
    cell = 8 * 16 + 5
    assert assigned.best.sum() == 1
    assert assigned.cell[assigned.best].item() == cell
    corrupted = maps._replace(coarse=maps.coarse.clone())
    corrupted.coarse[0, :, 8, 5] += 4.0
    again = assign(corrupted, people_of(batch))
    assert again.cell[again.best].item() != cell


def test_oks_counts_labeled_keypoints_only() -> None:
    batch = batch_of()
    batch.keypoints[0, 0, 5:, 2] = 0
    people = people_of(batch)
    found = people.keypoints.clone()
    found[:, 5:] += 50
    assert oks(found, people, torch.tensor([0])).item() == pytest.approx(1.0)
    found[:, 0] += 50
    assert oks(found, people, torch.tensor([0])).item() == pytest.approx(0.8)


def test_perfect_maps_cost_little_and_corrupted_ones_more() -> None:
    batch = batch_of(2)
    decoder = GhostPose(TINY).decode
    good = label_losses(decoder.refinement, perfect(batch), batch, ALL)
    assert good["coarse"] < 1e-3
    assert good["box"] < 1e-3
    assert good["offset"] < 1e-3
    assert good["refined"] < 0.3
    for field in ("box_size", "coarse", "offset", "heat"):
        maps = perfect(batch)
        value = getattr(maps, field)
        corrupted = maps._replace(**{field: value.roll(4, 3) if field == "heat" else value + 2.0})
        loss = label_losses(decoder.refinement, corrupted, batch, ALL)
        name = {"box_size": "box"}.get(field, field)
        assert loss[name] > good[name] + 0.05, field


def test_what_lies_in_an_ignore_region_is_not_background() -> None:
    maps = perfect(batch_of())
    maps.center[0, 0, 3, 13] = 6.0  # a detection where nobody is labeled
    maps.heat[0, :, 3, 13] = 6.0
    decoder = GhostPose(TINY).decode
    punished = label_losses(decoder.refinement, maps, batch_of(), ALL)
    excused = label_losses(decoder.refinement, maps, batch_of(ignored=[[44.0, 4.0, 63.0, 24.0]]), ALL)
    assert punished["center"] > excused["center"] + 1.0
    assert punished["heat"] > excused["heat"] + 0.1


def test_a_picture_without_people_teaches_only_emptiness() -> None:
    losses = label_losses(GhostPose(TINY).decode.refinement, perfect(batch_of()), batch_of(0), ALL)
    assert set(losses) == {"center"}
    assert losses["center"] > 0


def test_unlabeled_keypoints_of_a_body_are_not_taught_as_absent() -> None:
    maps = perfect(batch_of())
    labeled = batch_of()
    unlabeled = batch_of()
    unlabeled.keypoints[0, 0, 9, 2] = 0  # its heat stands in the map all the same
    decoder = GhostPose(TINY).decode
    with_label = label_losses(decoder.refinement, maps, labeled, ALL)["heat"]
    without = label_losses(decoder.refinement, maps, unlabeled, ALL)["heat"]
    assert without <= with_label * 17 / 16 + 1e-4


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    torch.manual_seed(0)
    network = GhostPose(TINY).eval()
    x = torch.randn(2, 3, 64, 64)
    early, tapped = network.backbone.early(x, 2)
    passed = forward_from(network, early, tapped, 2)
    losses = distill(passed, passed, DistillationWeights(1, 1, 1))
    assert all(abs(value.item()) < 1e-5 for value in losses.values())
    other = forward_from(GhostPose(TINY).eval(), x=early, tapped=tapped, count=2)
    assert all(value.item() > 0.01 for value in distill(passed, other, DistillationWeights(1, 1, 1)).values())


def test_cells_inside_boxes_are_those_whose_middle_is() -> None:
    boxes = torch.tensor([[[8.0, 4.0, 20.0, 12.0], [0.0, 0.0, 64.0, 64.0]]])
    found = cells_inside(boxes, torch.tensor([[True, False]]), torch.zeros(1, 3, 16, 16))
    expected = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    expected[0, 0, 1:3, 2:5] = True
    assert torch.equal(found, expected)


def test_where_the_teacher_is_doubted_it_teaches_nothing() -> None:
    torch.manual_seed(0)
    network, teacher = GhostPose(TINY).eval(), GhostPose(TINY).eval()
    early, tapped = network.backbone.early(torch.randn(1, 3, SIZE, SIZE), 0)
    ours, theirs = forward_from(network, early, tapped, 0), forward_from(teacher, early, tapped, 0)
    weights = DistillationWeights(0, 0, 1)
    assert theirs.maps is not None
    everywhere = torch.ones_like(theirs.maps.center, dtype=torch.bool)
    assert distill(ours, theirs, weights)["distill_maps"] > 1e-3
    # What is left are the offsets of keypoints, which count where the teacher's heat is, and that is doubted as well.
    assert distill(ours, theirs, weights, everywhere)["distill_maps"].abs() < 1e-6
    assert torch.equal(distill(ours, theirs, weights, ~everywhere)["distill_maps"], distill(ours, theirs, weights)["distill_maps"])


def test_the_trunks_tilt_follows_from_shoulders_and_hips() -> None:
    def body(shoulders: tuple[float, float], hips: tuple[float, float]) -> torch.Tensor:
        keypoints = torch.zeros(17, 3)
        for index, (x, y) in ((5, shoulders), (6, shoulders), (11, hips), (12, hips)):
            keypoints[index] = torch.tensor([x, y, 2.0])
        return keypoints

    upright, lying, upside_down, leaning = (
        body((50, 10), (50, 60)), body((10, 50), (60, 50)), body((50, 60), (50, 10)), body((50, 10), (100, 60)),
    )  # fmt: skip
    one_side = upright.clone()
    one_side[[6, 11]] = 0  # a left shoulder and a right hip are enough
    unknown = upright.clone()
    unknown[11:13] = 0
    tilts = trunk_tilt_deg(torch.stack([upright, lying, upside_down, leaning, one_side, unknown])[None])
    assert tilts.shape == (1, 6)
    assert torch.allclose(tilts[0], torch.tensor([0.0, 90, 180, 45, 0, 0]), atol=1e-4)
