"""Box figures, worked out by hand on a few rectangles."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.boxes import compare_boxes, evaluate_boxes
from edgepose_export.evaluation.report import box_table
from testing.export.annotations import CROWD, person, write
from testing.onnx_files import answers, write_edgepose
from testing.shared import SHARED


def find(x: float, y: float, width: float, height: float, score: float = 0.9) -> Person:
    return Person(np.array((x, y, x + width, y + height), np.float32), score, np.zeros((17, 3), np.float32))


def box(x: float, y: float, width: float, height: float, **fields: object) -> dict[str, object]:
    return {"image_id": 7, "bbox": [x, y, width, height], **fields}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One person of each height, one with keypoints, one found by a detector, and a crowd at the right."""
    annotations = [
        person(bbox=[0, 0, 10, 20], area=200),
        box(50, 0, 20, 40),
        box(100, 0, 30, 60, detector=True),
        box(150, 0, 30, 60, maybe_crowd=True),
        CROWD | {"bbox": [300, 0, 100, 200]},
    ]
    return write(tmp_path / "a", annotations, images=[{"id": 7, "file_name": "a.png", "width": 400, "height": 200}], width=400, height=200)


PERFECT = [find(0, 0, 10, 20), find(50, 0, 20, 40), find(100, 0, 30, 60), find(150, 0, 30, 60)]


def test_every_box_that_is_not_a_crowd_is_a_label(folder: Path) -> None:
    result = compare_boxes([PERFECT], CocoPose([folder]))
    assert result.to_json() == {
        "box_AP": pytest.approx(1), "box_AP50": pytest.approx(1), "recall_lt24": 1, "recall_24_48": 1, "recall_gt48": 1,
        "false_per_image": 0, "images": 1, "boxes": 4, "precision": "",
    }  # fmt: skip
    assert compare_boxes([PERFECT], CocoPose([folder], box_people=True)) == result


def test_average_precision_is_that_of_coco(folder: Path) -> None:
    # Labels 1 and 2 are found at IoU 0.7 (thresholds 0.50 to 0.70: five of ten), the other two are not found.
    # At each of these five, precision is 1 up to recall 0.5: 51 of COCO's 101 points.
    result = compare_boxes([[find(0, 0, 10, 14.01), find(50, 0, 20, 28.01)]], CocoPose([folder]))
    assert result.ap50 == pytest.approx(51 / 101)
    assert result.ap == pytest.approx(51 / 101 / 2)
    assert (result.recall_small, result.recall_medium, result.recall_large) == (1, 1, 0)


@pytest.mark.parametrize(
    ("stray", "false", "small"),
    [
        (find(200, 100, 20, 40), 1, 1),
        (find(200, 100, 20, 40, score=0.29), 0, 1),
        (find(310, 100, 20, 40), 0, 1),  # in the crowd
        (find(291, 100, 12, 40), 1, 1),  # a quarter of it in the crowd
        (find(292, 100, 12, 40), 0, 1),  # a third
        (find(0, 0, 10, 20, score=0.8), 0, 1),  # a double
        (find(0, 0, 10, 7, score=0.95), 0, 1),  # IoU 0.35: neither right nor false
        (find(0, 0, 10, 5.9), 1, 1),  # IoU 0.295
    ],
)
def test_a_find_that_is_on_no_label_and_in_no_crowd_is_false(folder: Path, stray: Person, false: int, small: int) -> None:
    result = compare_boxes([[*PERFECT, stray]], CocoPose([folder]))
    assert (result.false_per_image, result.recall_small) == (false, small)


def test_recall_needs_a_score_and_an_overlap(folder: Path) -> None:
    data = CocoPose([folder])
    assert compare_boxes([[find(0, 0, 10, 8.01)]], data).recall_small == 1  # IoU 0.4
    assert compare_boxes([[find(0, 0, 10, 7.9)]], data).recall_small == 0
    assert compare_boxes([[find(0, 0, 10, 20, score=0.29)]], data).recall_small == 0
    assert compare_boxes([[find(100, 0, 30, 60)]], data).recall_large == 0.5


def test_one_find_is_not_two_people(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}]
    data = CocoPose([write(tmp_path / "a", [box(0, 0, 10, 20), box(2, 0, 10, 20)], images=images)])
    assert compare_boxes([[find(0, 0, 10, 20)]], data).recall_small == 0.5
    # The stronger find takes the label it fits best; the weaker one the other, to which its IoU is 0.5 or more.
    assert compare_boxes([[find(0, 0, 10, 20, 0.5), find(1, 0, 10, 20, 0.8)]], data).recall_small == 1


def test_finds_in_a_picture_with_unlabeled_people_are_not_false(folder: Path) -> None:
    complete = CocoPose([folder])[0]
    strays = [find(200, 100, 20, 40), find(220, 120, 20, 40)]
    assert compare_boxes([strays], [complete]).false_per_image == 2
    result = compare_boxes([[*PERFECT, *strays]], [replace(complete, all_people_labeled=False)])
    assert (result.false_per_image, result.ap) == (0, pytest.approx(1))


def test_the_first_hundred_finds_count(folder: Path) -> None:
    crowd = [find(300 + number % 50, 100, 20, 40, 0.95) for number in range(99)]
    assert compare_boxes([[*crowd, *PERFECT]], CocoPose([folder])).ap50 == pytest.approx(26 / 101)  # one label of four fits in


def test_groups_without_labels_have_no_recall(tmp_path: Path) -> None:
    result = compare_boxes([[]], CocoPose([write(tmp_path / "a", [box(0, 0, 10, 24)])]))
    assert (result.recall_small, result.recall_medium, result.recall_large) == (None, 0, None)
    assert json.loads(json.dumps(result.to_json()))["recall_lt24"] is None
    assert box_table("ghost-n", result).row_count == 8


def test_nothing_to_measure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has the box of a person"):
        compare_boxes([[]], CocoPose([write(tmp_path / "a", [CROWD])]))
    with pytest.raises(ValueError, match="1 predictions for 0 pictures"):
        compare_boxes([[]], [])


def test_a_model_file_is_evaluated_through_the_runtime(tmp_path: Path) -> None:
    boxes, _, _ = answers()
    # The model's input is 256 px for a picture of 512 px: its answers are doubled.
    annotations = [box(2 * x1, 2 * y1, 2 * (x2 - x1), 2 * (y2 - y1)) for x1, y1, x2, y2 in boxes.astype(float).tolist()]
    images = [{"id": 7, "file_name": "a.png", "width": 512, "height": 512, "set": "square"}]
    folder = write(tmp_path / "a", annotations, images=images, width=512, height=512)
    model = write_edgepose(tmp_path / "tiny.onnx", scores=np.full(6, 3, np.float32))  # red is a third as bright as white
    done: list[tuple[int, int]] = []
    result = evaluate_boxes(model, folder, groups=["square"], progress=lambda *now: done.append(now))
    assert (result.ap, result.recall_large, result.boxes, result.precision) == (pytest.approx(1), 1, 6, "int8")
    assert done == [(1, 1)]
    assert evaluate_boxes(model, folder, people=2).recall_large == pytest.approx(2 / 6)
    assert compare_boxes([[]], CocoPose([folder])).ap == 0
    with pytest.raises(ConfigError, match="no picture of the set 'round'; expected square"):
        evaluate_boxes(model, folder, groups=["round"])


@pytest.mark.skipif(SHARED is None, reason="the pictures of ../shared/data are not here")
def test_the_labels_of_pictures_from_above_are_found_by_themselves() -> None:
    """A finder that answers with the labels is right everywhere."""
    assert SHARED is not None
    data = CocoPose([SHARED / "data" / "drone-dev"], groups=("semantic-drone", "uav123"))
    assert {picture.group for picture in data} == {"semantic-drone", "uav123"}
    labels = [np.concatenate((picture.boxes, picture.ignored[~picture.ignored_crowds])) for picture in data]
    result = compare_boxes([[Person(one, 0.9, np.zeros((17, 3), np.float32)) for one in boxes] for boxes in labels], data)
    assert (result.images, result.ap50, result.false_per_image) == (278, pytest.approx(1), 0)
    assert min(result.recall_small or 0, result.recall_medium or 0, result.recall_large or 0) == 1
