"""Labels that a network adds: to whom, how sure, and how training takes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose_export.data.coco import CocoPose, sample_labels
from edgepose_export.data.pseudo_labels import write_pseudo_labels
from testing.export.annotations import CROWD, person, write
from testing.export.yolo_folders import write_coco, write_yolo, yolo_line

SIZE = {"width": 640, "height": 480}


def pose(left: float, top: float, height: float) -> np.ndarray:
    """17 keypoints of a person in a box of height / 2 by height."""
    x = left + height / 2 * np.linspace(0.1, 0.9, 17)
    y = top + height * np.linspace(0.05, 0.95, 17)
    return np.stack((x, y, np.full(17, 0.9)), 1).astype(np.float32)


def detection(left: float, top: float, height: float, score: float = 0.8) -> Person:
    box = np.array([left, top, left + height / 2, top + height], np.float32)
    return Person(box, score, pose(left, top, height))


def labeled(left: float, top: float, height: float, keypoints: int) -> dict[str, Any]:
    points = pose(left, top, height)
    points[:, 2] = 2
    points[keypoints:] = 0
    return person(bbox=[left, top, height / 2, height], area=height**2 / 4, keypoints=points.reshape(-1).tolist(), num_keypoints=keypoints)


def boxed(left: float, top: float, height: float) -> dict[str, Any]:
    return person(bbox=[left, top, height / 2, height], area=height**2 / 4, keypoints=[0] * 51, num_keypoints=0)


def folder(tmp_path: Path, annotations: list[dict[str, Any]], *, complete: bool = True) -> Path:
    images = [{"id": 7, "file_name": "a.png", **SIZE, "all_people_labelled": complete}]
    return write(tmp_path / "before", annotations, images=images, **SIZE)


def test_a_box_without_keypoints_becomes_a_person(tmp_path: Path) -> None:
    weak = detection(400, 50, 200)
    weak.keypoints[15:, 2] = 0.1
    before = folder(tmp_path, [boxed(100, 50, 200), boxed(404, 52, 200), {**CROWD, "bbox": [0, 0, 90, 400]}])
    found = [detection(102, 48, 200, 0.7), weak, detection(10, 10, 150)]  # the last one stands in the crowd
    assert write_pseudo_labels(before, tmp_path / "after", lambda image: found) == {"boxed people": 2}
    picture = CocoPose([tmp_path / "after"])[0]
    np.testing.assert_allclose(picture.certainty, [0.7, 0.8])
    np.testing.assert_allclose(picture.keypoints[0, :, :2], found[0].keypoints[:, :2], atol=0.01)
    assert (picture.keypoints[1, :, 2] > 0).tolist() == [True] * 15 + [False] * 2  # below 0.2 it is not labeled
    np.testing.assert_allclose(picture.keypoint_certainty[0], 0.9)
    assert picture.ignored_crowds.tolist() == [True]
    assert CocoPose([tmp_path / "after"]).image(0).shape == (480, 640, 3)  # pictures are linked


def test_missing_keypoints_are_added_to_the_same_pose_only(tmp_path: Path) -> None:
    before = folder(tmp_path, [labeled(100, 50, 200, 12), labeled(400, 50, 200, 12)])
    other = detection(400, 50, 200)
    other.keypoints[:, :2] = other.keypoints[::-1, :2]  # another pose in the same place
    added = write_pseudo_labels(before, tmp_path / "after", lambda image: [detection(100, 50, 200), other])
    assert added == {"keypoints of labeled people": 5}
    picture = CocoPose([tmp_path / "after"])[0]
    assert picture.keypoints[0, :, 2].tolist() == [2] * 12 + [1] * 5
    np.testing.assert_allclose(picture.keypoint_certainty[0], [1] * 12 + [0.9] * 5, rtol=1e-6)
    assert (picture.keypoints[1, :, 2] > 0).sum() == 12
    assert picture.certainty.tolist() == [1, 1]


@pytest.mark.parametrize("complete", [True, False])
def test_new_people_only_where_not_all_are_labeled(tmp_path: Path, complete: bool) -> None:
    before = folder(tmp_path, [labeled(100, 50, 200, 17)], complete=complete)
    found = [detection(100, 50, 200), detection(400, 50, 200, 0.6), detection(520, 50, 100, 0.2)]  # the last is too uncertain
    added = write_pseudo_labels(before, tmp_path / "after", lambda image: found)
    assert added.get("new people", 0) == (0 if complete else 1)
    assert len(CocoPose([tmp_path / "after"])[0].boxes) == (1 if complete else 2)


def test_other_forms_of_data_become_ours(tmp_path: Path) -> None:
    line = " ".join(["0 0.2 0.5 0.2 0.5", *["0"] * 51])  # a person without a labeled keypoint
    found = detection(6.4, 12, 24)
    sources = [
        write_yolo(tmp_path / "yolo", [yolo_line((0.7, 0.5, 0.3, 0.6)), line]),
        write_coco(tmp_path / "coco", [boxed(6.4, 12, 24) | {"category_id": 1}]),
    ]
    for number, source in enumerate(sources):
        assert write_pseudo_labels(source, tmp_path / f"after-{number}", lambda image: [found]) == {"boxed people": 1}
        data = CocoPose([tmp_path / f"after-{number}"])
        np.testing.assert_allclose(data[0].keypoints[-1, :, :2], found.keypoints[:, :2], atol=0.01)
        assert data.image(0).shape == (48, 64, 3)


def test_an_existing_folder_is_not_written_over(tmp_path: Path) -> None:
    before = folder(tmp_path, [boxed(100, 50, 200)])
    with pytest.raises(ConfigError, match="exists; expected a new folder"):
        write_pseudo_labels(before, before, lambda image: [])


def test_a_label_is_taken_as_often_as_it_is_likely_to_be_right(tmp_path: Path) -> None:
    sure = labeled(300, 50, 200, 17)
    guess = labeled(100, 50, 200, 17) | {"score": 0.5, "keypoint_scores": [0.9] * 16 + [0.25]}
    picture = CocoPose([folder(tmp_path, [sure, guess])])[0]
    rng = np.random.default_rng(0)
    drawn = [sample_labels(picture, rng) for _ in range(2000)]
    assert all((one.keypoints[0, :, 2] > 0).all() for one in drawn)  # people's labels always
    taken = [one.keypoints[1] for one in drawn if len(one.boxes) == 2]
    assert len(taken) / len(drawn) == pytest.approx(0.5, abs=0.05)
    assert np.mean([keypoints[0, 2] > 0 for keypoints in taken]) == pytest.approx(0.9, abs=0.05)
    assert np.mean([keypoints[16, 2] > 0 for keypoints in taken]) == pytest.approx(0.25, abs=0.05)
    assert all(len(one.ignored) == 3 - len(one.boxes) - 1 for one in drawn)  # not taken: an ignore region


def test_pictures_without_pseudo_labels_use_no_chance(tmp_path: Path) -> None:
    picture = CocoPose([folder(tmp_path, [labeled(300, 50, 200, 17)])])[0]
    rng = np.random.default_rng(3)
    assert sample_labels(picture, rng) is picture
    assert rng.random() == np.random.default_rng(3).random()


@pytest.mark.parametrize(
    ("changes", "message"), [({"keypoint_scores": [1.0]}, "has 1 keypoint scores; expected 17"), ({"score": 1.5}, "not a COCO annotations")]
)
def test_scores_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CocoPose([folder(tmp_path, [labeled(300, 50, 200, 17) | changes])])
