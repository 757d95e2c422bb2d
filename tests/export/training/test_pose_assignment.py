"""Which cells learn which person, on maps made by hand."""

import pytest
import torch

from edgepose_export.network.head import STRIDES, PoseMaps, corners_of
from edgepose_export.training.pose_assignment import (
    LabeledPeople,
    PoseAssignment,
    assign_cells,
    boxes_at_cells,
    cell_centers,
    cell_sizes,
    generalized_iou,
    iou,
)
from testing.export.people import SIDE_PX, batch_of, cell_at, maps_of

LEFT, RIGHT = [8.0, 16.0, 56.0, 112.0], [64.0, 16.0, 112.0, 112.0]


def people_in(boxes: list[list[float]]) -> LabeledPeople:
    batch = batch_of(boxes)
    return LabeledPeople.of(*(torch.from_numpy(value) for value in (batch.boxes, batch.keypoints, batch.areas, batch.people)))


def pairs(assigned: PoseAssignment) -> dict[int, int]:
    return dict(zip(assigned.cell.tolist(), assigned.person.tolist(), strict=True))


def find(maps: PoseMaps, cell: int, box: list[float], logit: float) -> None:
    """Make a cell find a box."""
    corner, goal = corners_of(torch.tensor(cell), maps.fine), torch.tensor(box)
    maps.score[0, cell] = logit
    maps.box[0, :2, cell], maps.box[0, 2:, cell] = corner - goal[:2], goal[2:] - corner


def test_each_person_gets_the_cell_that_finds_them() -> None:
    cells = [cell_at(32, 64, 2), cell_at(90, 64, 1)]
    assigned = assign_cells(maps_of(batch_of([LEFT, RIGHT]), cells), people_in([LEFT, RIGHT]))
    assert pairs(assigned) == {cells[0]: 0, cells[1]: 1}
    assert assigned.overlap.tolist() == pytest.approx([1.0, 1.0])


def test_as_many_cells_as_the_overlaps_add_up_to() -> None:
    maps = maps_of(batch_of([LEFT]), [])
    good = [cell_at(20 + 8 * number, 64, 0) for number in range(4)]
    for cell in good:
        find(maps, cell, LEFT, 0.0)
    assert set(pairs(assign_cells(maps, people_in([LEFT])))) == set(good)
    for cell in good[2:]:  # these overlap by a fifth, so there are 2.4 good cells
        find(maps, cell, [8.0, 16.0, 56.0, 35.2], 0.0)
    assert set(pairs(assign_cells(maps, people_in([LEFT])))) == set(good[:2])


def test_the_score_decides_among_equal_boxes() -> None:
    maps = maps_of(batch_of([LEFT]), [])
    cells = [cell_at(20, 64, 0), cell_at(36, 64, 0)]
    for cell, logit in zip(cells, (-3.0, 2.0), strict=True):
        find(maps, cell, [8.0, 16.0, 56.0, 76.8], logit)  # an IoU of 0.633: 1.27 cells
    assert set(pairs(assign_cells(maps, people_in([LEFT])))) == {cells[1]}


def test_a_cell_outside_of_the_person_does_not_learn_them() -> None:
    maps = maps_of(batch_of([LEFT]), [])
    inside, outside = cell_at(32, 64, 1), cell_at(90, 64, 1)
    find(maps, outside, LEFT, 5.0)
    find(maps, inside, [8.0, 16.0, 56.0, 100.0], -5.0)
    assert set(pairs(assign_cells(maps, people_in([LEFT])))) == {inside}


def test_where_no_box_overlaps_yet_the_nearest_cell_learns() -> None:
    maps = maps_of(batch_of([LEFT]), [])
    maps.box[:] = -1.0
    assigned = assign_cells(maps, people_in([LEFT]))
    assert len(assigned.cell) == 1
    center = torch.stack(cell_centers(maps))[:, assigned.cell[0]]
    assert (center - torch.tensor([32.0, 64.0])).abs().max() <= 4


def test_a_person_smaller_than_a_cell_has_a_cell() -> None:
    tiny = [33.0, 33.0, 36.0, 37.0]
    assigned = assign_cells(maps_of(batch_of([tiny]), []), people_in([tiny]))
    assert pairs(assigned) == {cell_at(34, 35, 0): 0}


def test_a_cell_that_two_people_want_goes_to_the_one_it_fits_better() -> None:
    other = [8.0, 16.0, 56.0, 80.0]
    cell = cell_at(32, 48, 1)
    maps = maps_of(batch_of([LEFT, other]), [])
    find(maps, cell, other, 3.0)
    assert pairs(assign_cells(maps, people_in([LEFT, other])))[cell] == 1
    assert pairs(assign_cells(maps, people_in([other, LEFT])))[cell] == 0


def test_people_of_several_pictures_keep_to_their_pictures() -> None:
    batch = batch_of([LEFT, RIGHT])
    labels = (torch.from_numpy(value) for value in (batch.boxes, batch.keypoints, batch.areas))
    boxes, keypoints, areas = (torch.cat([value, value]) for value in labels)
    people = LabeledPeople.of(boxes, keypoints, areas, torch.tensor([1, 2]))
    assert people.picture.tolist() == [0, 1, 1]
    maps = maps_of(batch, [cell_at(32, 64, 2), cell_at(90, 64, 1)])
    both = PoseMaps(*(value.repeat(2, *(1,) * (value.ndim - 1)) for value in maps))
    assigned = assign_cells(both, people)
    assert sorted(zip(assigned.person.tolist(), assigned.cell.tolist(), strict=True)) == [
        (0, cell_at(32, 64, 2)),
        (1, cell_at(32, 64, 2)),
        (2, cell_at(90, 64, 1)),
    ]


def test_nobody_is_nobodys() -> None:
    assigned = assign_cells(maps_of(batch_of([]), []), people_in([]))
    assert (len(assigned.person), len(assigned.cell), len(assigned.overlap)) == (0, 0, 0)


def test_sizes_and_boxes_of_cells() -> None:
    maps = maps_of(batch_of([LEFT]), [cell_at(32, 64, 2)])
    sizes = cell_sizes(maps)
    assert [int((sizes == stride).sum()) for stride in STRIDES] == [(SIDE_PX // stride) ** 2 for stride in STRIDES]
    assert boxes_at_cells(maps)[0, cell_at(32, 64, 2)].tolist() == LEFT


def test_overlaps_of_boxes() -> None:
    first = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5]])
    second = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10], [5, 5, 5, 5]])
    assert iou(first, second).tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert generalized_iou(first, second)[:3].tolist() == pytest.approx([1, 1 / 3, -1 / 3])
    assert torch.isfinite(generalized_iou(first, second)).all()
