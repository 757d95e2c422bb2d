"""The losses of a pose network: what they reward, and what they leave alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from edgepose_export.data.batches import Batch
from edgepose_export.network.head import PoseMaps
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.training.pose_assignment import cell_centers
from edgepose_export.training.pose_losses import cells_in, pose_losses, unexplained
from edgepose_export.training.recipe import PoseWeights
from testing.export.people import SIDE_PX, batch_of, cell_at, maps_of
from testing.export.tiny import TINY, lively

PERSON = [8.0, 16.0, 56.0, 112.0]
CELL = cell_at(32, 64, 2)
ALL = PoseWeights()
LABELS = PoseWeights(hold_score=0, hold_box=0)
TEACHER = PoseWeights(score=0, box=0, keypoints=0, refined=0, hold_score=1, hold_box=1)


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(TINY).eval().requires_grad_(False)


def trained(maps: PoseMaps) -> PoseMaps:
    return PoseMaps(*(value.clone().requires_grad_() for value in maps))


def gradients(network: PoseNetwork, maps: PoseMaps, theirs: PoseMaps | None, batch: Batch, weights: PoseWeights) -> dict[str, Tensor]:
    maps = trained(maps)
    losses = pose_losses(network, maps, theirs, batch, weights)
    torch.stack(list(losses.values())).sum().backward()
    return {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in maps._asdict().items()}


def test_perfect_maps_cost_nearly_nothing(network: PoseNetwork) -> None:
    batch = batch_of([PERSON])
    maps = maps_of(batch, [CELL])
    losses = pose_losses(network, maps, maps, batch, ALL)
    assert set(losses) == {"score", "box", "keypoints", "refined", "hold_score", "hold_box"}
    assert all(0 <= loss < 0.01 for loss in losses.values()), losses


@pytest.mark.parametrize("part", ["score", "box", "keypoints"])
def test_each_loss_rises_with_its_own_error(network: PoseNetwork, part: str) -> None:
    batch = batch_of([PERSON])
    good = pose_losses(network, maps_of(batch, [CELL]), None, batch, LABELS)
    maps = maps_of(batch, [CELL])
    if part == "score":
        maps.score[0, cell_at(100, 100, 0)] = 6.0  # somebody where nobody is
    elif part == "box":
        maps.box[0, :2, CELL] -= 12
    else:
        maps.keypoints[0, :34, CELL] += 0.15
    bad = pose_losses(network, maps, None, batch, LABELS)
    assert bad[part] > good[part] + 0.1
    others = {"score", "box", "keypoints"} - {part} - ({"score", "keypoints"} if part == "box" else set())
    assert all(bad[name] == pytest.approx(float(good[name]), abs=1e-3) for name in others)


def test_weights_scale_losses_and_0_leaves_them_out(network: PoseNetwork) -> None:
    batch, maps = batch_of([PERSON]), maps_of(batch_of([PERSON]), [CELL], sure=1.0)
    once = pose_losses(network, maps, None, batch, LABELS)
    twice = pose_losses(network, maps, None, batch, PoseWeights(score=2, box=4, keypoints=2, refined=2, hold_score=0, hold_box=0))
    assert all(float(twice[name]) == pytest.approx(2 * float(once[name])) for name in once)
    assert set(pose_losses(network, maps, maps, batch, TEACHER)) == {"hold_score", "hold_box"}


def test_what_lies_in_an_ignored_region_teaches_nothing(network: PoseNetwork) -> None:
    maps = maps_of(batch_of([PERSON]), [CELL])
    wrong = cell_at(100, 40, 0)
    maps.score[0, wrong] = 6.0
    punished = gradients(network, maps, None, batch_of([PERSON]), LABELS)["score"]
    excused = gradients(network, maps, None, batch_of([PERSON], ignored=[[80, 20, 120, 60]]), LABELS)["score"]
    assert punished[0, wrong] > 0
    assert excused[0, wrong] == 0
    outside = cell_at(100, 100, 0)
    assert excused[0, outside] != 0


def test_a_person_inside_of_an_ignored_region_still_learns(network: PoseNetwork) -> None:
    maps = maps_of(batch_of([PERSON]), [CELL], sure=1.0)
    found = gradients(network, maps, None, batch_of([PERSON], ignored=[[0, 0, SIDE_PX, SIDE_PX]]), LABELS)
    assert found["score"][0, CELL] < 0
    assert found["score"].count_nonzero() == 1


def test_a_person_with_a_box_alone_teaches_score_and_box(network: PoseNetwork) -> None:
    batch = batch_of([PERSON], keypoints=False)
    maps = maps_of(batch_of([PERSON]), [CELL], sure=1.0)
    maps.box[0, 0, CELL] -= 6
    losses = pose_losses(network, maps, None, batch, LABELS)
    assert (float(losses["keypoints"]), float(losses["refined"])) == (0, 0)
    found = gradients(network, maps, None, batch, LABELS)
    assert found["score"][0, CELL] != 0
    assert found["box"][0, :, CELL].any()
    assert not found["keypoints"].any()
    assert not found["fine"].any()


def test_unlabeled_keypoints_have_no_place_and_little_confidence(network: PoseNetwork) -> None:
    batch = batch_of([PERSON])
    batch.keypoints[0, 0, 5:] = 0
    maps = maps_of(batch_of([PERSON]), [CELL], sure=1.0)
    maps.keypoints[0, :34, CELL] += 0.05
    found = gradients(network, maps, None, batch, PoseWeights(refined=0, hold_score=0, hold_box=0))["keypoints"][0, :, CELL]
    assert found[:5].all()
    assert not found[5:17].any()
    assert not found[22:34].any()
    assert (found[34 + 5 :] > 0).all()


def test_the_teacher_holds_scores_and_boxes(network: PoseNetwork) -> None:
    batch = batch_of([PERSON])
    theirs = maps_of(batch, [CELL])
    same = pose_losses(network, theirs, theirs, batch, TEACHER)
    assert [float(loss) for loss in same.values()] == pytest.approx([0, 0], abs=1e-5)
    ours = maps_of(batch, [CELL])
    ours.score[0, CELL] = -2.0
    ours.box[0, :, CELL] += 10
    other = pose_losses(network, ours, theirs, batch, TEACHER)
    assert other["hold_score"] > 0.5
    assert other["hold_box"] > 0.1


def test_a_teacher_who_misses_a_labeled_person_does_not_count_in_their_box(network: PoseNetwork) -> None:
    other, other_cell = [64.0, 16.0, 112.0, 112.0], cell_at(90, 64, 1)
    batch = batch_of([PERSON, other])
    ours = maps_of(batch, [CELL, other_cell])
    half_blind = maps_of(batch_of([other]), [other_cell], sure=3.0)
    half_blind.score[0, cell_at(4, 4, 0)] = -1.0
    found = gradients(network, ours, half_blind, batch, TEACHER)["score"]
    x, y = cell_centers(ours)
    inside = (x >= 8) & (x <= 56) & (y >= 16) & (y <= 112)
    assert inside[CELL]
    assert not found[0, inside].any()
    assert found[0, cell_at(4, 4, 0)] != 0
    assert found[0, other_cell] != 0
    # A teacher who sees both counts everywhere.
    seeing = maps_of(batch, [CELL, other_cell], sure=3.0)
    assert gradients(network, ours, seeing, batch, TEACHER)["score"][0, inside].any()


def test_a_teacher_who_misses_most_people_of_a_picture_does_not_count_in_it(network: PoseNetwork) -> None:
    batch = batch_of([PERSON])
    blind = maps_of(batch, [])
    blind.score[0, cell_at(100, 100, 0)] = -1.0
    assert not gradients(network, maps_of(batch, [CELL]), blind, batch, TEACHER)["score"].any()


def test_a_picture_without_people_teaches_emptiness(network: PoseNetwork) -> None:
    maps = maps_of(batch_of([PERSON]), [CELL])
    losses = pose_losses(network, maps, maps_of(batch_of([PERSON]), [CELL]), batch_of([]), ALL)
    assert set(losses) == {"score", "hold_score", "hold_box"}
    assert losses["score"] > 1
    found = gradients(network, maps, None, batch_of([]), LABELS)
    assert found["score"][0, CELL] > 0
    assert not found["box"].any()


def test_a_batch_with_and_without_people_is_the_sum_of_its_pictures(network: PoseNetwork) -> None:
    one = batch_of([PERSON], ignored=[[80, 20, 120, 60]])
    images, boxes, keypoints, areas, ignored = (
        np.concatenate([np.zeros_like(value), value])
        for value in (np.asarray(one.images), one.boxes, one.keypoints, one.areas, one.ignored)
    )
    counts = np.array([0, 1])
    batch = Batch(images, boxes, keypoints, areas, counts, ignored, counts, one.following, np.zeros(2, np.float32))
    single = maps_of(one, [CELL], sure=2.0)
    maps = PoseMaps(*(value.repeat(2, *(1,) * (value.ndim - 1)) for value in single))
    both = pose_losses(network, maps, maps, batch, ALL)
    alone, empty = pose_losses(network, single, single, one, ALL), pose_losses(network, single, single, batch_of([]), ALL)
    assert float(both["box"]) == pytest.approx(float(alone["box"]), abs=1e-6)
    assert float(both["refined"]) == pytest.approx(float(alone["refined"]), rel=1e-5)
    assert float(both["score"]) == pytest.approx(float(alone["score"] + empty["score"]), rel=1e-5)


def test_gradients_reach_every_parameter_that_learns() -> None:
    network, teacher = lively(0), lively(1)
    for name, parameter in (*network.named_parameters(), *teacher.named_parameters()):
        if name.endswith(".box.conv.bias"):
            torch.nn.init.constant_(parameter, 6.0)  # an inverted box has no gradient
        if name.startswith("refinement.") and name.endswith(".second.weight"):
            torch.nn.init.normal_(parameter, std=0.1)  # it begins at 0, and then the layer before has no gradient
    batch = batch_of([PERSON, [64.0, 16.0, 112.0, 112.0], [10.0, 10.0, 24.0, 30.0]])
    x = torch.randn((1, 3, SIDE_PX, SIDE_PX), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = teacher(x)
        theirs = theirs._replace(score=theirs.score.clamp(-1, 1))  # it finds somebody on all levels
    for labels in (batch, batch_of([])):  # without people, the teacher holds the boxes of all levels
        torch.stack(list(pose_losses(network, network(x), theirs, labels, ALL).values())).sum().backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    assert without == set()


def test_cells_in_boxes_are_those_whose_middle_is() -> None:
    maps = maps_of(batch_of([]), [])
    boxes = torch.tensor([[[9.0, 17.0, 25.0, 31.0], [0.0, 0.0, 128.0, 128.0]]])
    inside = cells_in(maps, boxes, torch.tensor([[True, False]]))
    expected = {cell_at(x, y, 0) for x in (8, 16) for y in (16, 24)} | {cell_at(16, 16, 1)}
    assert set(inside[0].nonzero().flatten().tolist()) == expected


def test_unexplained_is_0_for_the_same_and_1_for_the_means() -> None:
    theirs = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0)) * 3 + 5
    means = theirs.mean((0, 2, 3), keepdim=True).expand_as(theirs)
    assert float(unexplained([theirs], [theirs])) == 0
    assert float(unexplained([means, theirs], [theirs, theirs])) == pytest.approx(0.5, abs=1e-4)
