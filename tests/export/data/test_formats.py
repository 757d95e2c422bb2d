"""A data set in any of the forms gives the same labels; a folder that is none of them is refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose.person import KEYPOINT_NAMES
from edgepose_export.data.coco import CocoPose, read_pictures
from edgepose_export.data.formats import find_source
from testing.export.annotations import person, write
from testing.export.yolo_folders import write_coco, write_red, write_yolo, yolo_line

CROWD_WITH_MASK = {
    "id": 900,
    "image_id": 7,
    "category_id": 1,
    "bbox": [0, 0, 30, 20],
    "area": 300,
    "iscrowd": 1,
    "segmentation": {"counts": [272, 2, 4, 4], "size": [48, 64]},
    "keypoints": [0] * 51,
    "num_keypoints": 0,
}
DOG = {"id": 901, "image_id": 7, "category_id": 18, "bbox": [1, 1, 5, 5], "area": 20, "iscrowd": 0, "segmentation": [[1, 1, 5, 5, 1, 5]]}


def shipped(folder: Path) -> Path:
    return write_coco(folder, [person(category_id=1, segmentation=[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), CROWD_WITH_MASK, DOG])


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("", "train2017"),
        (":val2017", "val2017"),
        (":val", "val2017"),
        ("/annotations/person_keypoints_val2017.json", "val2017"),
        ("/annotations/person_keypoints_train2017.json:{}/val2017", "val2017"),
    ],
)
def test_coco_is_read_as_it_ships(tmp_path: Path, name: str, split: str) -> None:
    folder = shipped(tmp_path / "coco")
    data = CocoPose([Path(f"{folder}{name.format(folder)}")])
    assert data[0].path == folder / split / "a.png"
    assert (len(data), data.people, len(data[0].ignored)) == (1, 1, 1)  # without the dog
    assert data[0].ignored_crowds.tolist() == [True]
    assert data.image(0).shape == (48, 64, 3)
    ours = CocoPose([write(tmp_path / "ours", [person()])])[0]
    np.testing.assert_array_equal(data[0].keypoints, ours.keypoints)
    np.testing.assert_array_equal(data[0].boxes, ours.boxes)


def test_a_single_split_needs_no_name(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "coco", [person(category_id=1)], splits=["default"])
    assert find_source(folder).images == folder / "default"


def test_an_empty_box_of_coco_is_left_out(tmp_path: Path) -> None:
    empty = DOG | {"category_id": 1, "bbox": [4, 4, 0, 7], "keypoints": [0] * 51, "num_keypoints": 0}
    assert len(CocoPose([write_coco(tmp_path / "coco", [empty])])[0].ignored) == 0


def test_yolo_pose_gives_pixels(tmp_path: Path) -> None:
    lines = [yolo_line(), "0 0.25 0.5 0.1 0.2", "", yolo_line((0.5, 0.5, 1.0, 1.0))]
    data = CocoPose([write_yolo(tmp_path / "mine", lines)])
    assert [picture.path.name for picture in data] == ["a.png", "b.png"]
    picture, nobody = data
    np.testing.assert_allclose(picture.boxes, [[16, 12, 48, 36], [0, 0, 64, 48]], atol=1e-4)
    np.testing.assert_allclose(picture.ignored, [[12.8, 19.2, 19.2, 28.8]], atol=1e-4)  # the line that ends after the box
    np.testing.assert_allclose(picture.keypoints[0, 14], [0.58 * 64, 0.58 * 48, 2], atol=1e-4)
    assert picture.keypoints[0, 15:].tolist() == [[0, 0, 0]] * 2
    assert (len(nobody.boxes), nobody.all_people_labeled) == (0, True)
    assert data.image(0)[0, 0].tolist() == [200, 0, 0]


def test_yolo_pose_without_visibility(tmp_path: Path) -> None:
    data = CocoPose([write_yolo(tmp_path / "mine", [yolo_line(dimensions=2)], kpt_shape=[17, 2])])
    assert data[0].keypoints[0, :, 2].tolist() == [2] * 15 + [0] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"train": "train.txt"},
        {"train": ["images/train"]},
        {"train": "../images/train"},  # as Roboflow writes it
        {"path": "../mine"},
        {"path": None},
        {"path": "mine"},  # relative to the folder above
        {"path": "datasets/elsewhere"},  # of another machine
        {"names": ["person"]},
        {"names": ["dog", "Person"]},
        {"names": None, "nc": 1},
        {"flip_idx": None},
        {"kpt_names": {0: list(KEYPOINT_NAMES)}},
    ],
    ids=str,
)
def test_ways_to_describe_the_same_set(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = write_yolo(
        tmp_path / "mine", [yolo_line().replace("0 ", "1 ", 1) if changes.get("names") == ["dog", "Person"] else yolo_line()], **changes
    )
    (folder / "train.txt").write_text("./images/train/a.png\nimages/train/b.png\n\n")
    for source in (folder, folder / "data.yaml", Path(f"{folder}:train"), Path(f"{folder}/data.yaml:train")):
        assert [(picture.path.name, len(picture.boxes)) for picture in read_pictures(source)] == [("a.png", 1), ("b.png", 0)]
    if "path" not in changes and changes.get("names") != ["dog", "Person"]:
        assert [picture.path.name for picture in read_pictures(Path(f"{folder}:val"))] == ["c.png"]


def test_pictures_may_be_links(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "mine")
    (folder / "images").rename(tmp_path / "elsewhere")
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    assert CocoPose([folder]).people == 1


def test_a_set_may_say_that_people_are_missing(tmp_path: Path) -> None:
    assert not CocoPose([write_yolo(tmp_path / "mine", all_people_labelled=False)])[0].all_people_labeled


def test_progress_counts_pictures(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    CocoPose([write_yolo(tmp_path / "mine")], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


SHORT = " ".join(yolo_line().split()[:-1])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (SHORT, "line 2 has 55 values; expected 56"),
        (yolo_line(dimensions=2), "line 2 has 39 values; expected 56"),
        (yolo_line((0.5, 0.5, 0, 0.5)), "box of 0 x 0.5; expected a width and a height above 0"),
        (yolo_line((0.5, 0.5, 1.5, 0.5)), "the box's width is 1.5; expected a share"),
        (yolo_line((320, 240, 20, 20)), "the box's center x is 320; expected a share"),
        (yolo_line().replace("0.3 0.3", "1.3 0.3", 1), "nose x is 1.3; expected a share"),
        (yolo_line(visible=0.87), "nose has the visibility 0.87; expected 0"),
        (yolo_line().replace("0.3 0.3", "nan 0.3", 1), "NaN"),
        (yolo_line().replace("0.3 0.3", "left 0.3", 1), "not a number"),
    ],
)
def test_a_wrong_label_is_named_by_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    folder = write_yolo(tmp_path / "mine", [yolo_line(), line])
    with pytest.raises(ConfigError) as caught:
        CocoPose([folder])
    assert str(folder / "labels" / "train" / "a.txt") in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kpt_shape": [13, 3]}, r"kpt_shape \[13, 3\]; expected \[17, 3\]"),
        ({"kpt_shape": None}, "only data.yaml, images, labels"),
        ({"flip_idx": list(range(17))}, "not in COCO's order"),
        ({"kpt_names": {0: ["head", *KEYPOINT_NAMES[1:]]}}, "kpt_names head"),
        ({"names": {0: "dog", 1: "cat"}}, "classes .'dog', 'cat'."),
        ({"names": "person"}, "expected a list"),
        ({"train": None}, "no split 'train'; expected one of those that it names: val"),
        ({"train": "images/training"}, "names images/training, which is not in"),
        ({"train": "labels"}, "has no pictures"),
        ({"train": "list.txt"}, "list.txt, line 1: picture x.png does not exist"),
        ({"train": "lonely"}, "has a label file; expected for example .*lonely/d.txt"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = write_yolo(tmp_path / "mine", **changes)
    (folder / "list.txt").write_text("x.png\n")
    if changes.get("train") == "lonely":
        write_red(folder / "lonely" / "d.png")
    with pytest.raises(ConfigError, match=words) as caught:
        CocoPose([folder])
    assert "\n" not in str(caught.value)


def test_folders_of_no_known_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing in it; expected annotations\.json"):
        find_source(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        find_source(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"nowhere\.json does not exist"):
        find_source(Path(f"{tmp_path}/nowhere.json:{tmp_path}"))
    folder = shipped(tmp_path / "coco")
    with pytest.raises(ConfigError, match="splits train2017, val2017, and test is asked for"):
        find_source(Path(f"{folder}:test"))
    with pytest.raises(ConfigError, match=r"picture folder .*elsewhere of .* does not exist"):
        find_source(Path(f"{folder}/annotations/person_keypoints_val2017.json:{folder}/elsewhere"))
    with pytest.raises(ConfigError, match="no split 'val'"):
        find_source(Path(f"{write(tmp_path / 'ours')}:val"))
    (folder / "val2017" / "a.png").unlink()
    with pytest.raises(ConfigError, match=r"no pictures of .* are found in .*val2017"):
        find_source(Path(f"{folder}:val2017"))


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ([{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}], "categories dog, cat"),
        ([{"id": 1, "name": "person", "keypoints": ["head", "neck"]}], "2 keypoints .head, neck.; expected the 17 COCO keypoints"),
    ],
)
def test_categories_that_are_no_people_with_cocos_keypoints_are_refused(tmp_path: Path, categories: list[object], words: str) -> None:
    folder = write(tmp_path / "a", [person(category_id=1)])
    content = json.loads((folder / "annotations.json").read_text())
    (folder / "annotations.json").write_text(json.dumps(content | {"categories": categories}))
    with pytest.raises(ConfigError, match=words):
        CocoPose([folder])


def with_orientation(path: Path, orientation: int) -> None:
    """Insert an EXIF segment into a JPEG, as a telephone that is held upright writes it."""
    entry = bytes.fromhex("4d4d002a0000000800010112000300000001") + orientation.to_bytes(2, "big") + bytes(6)
    segment = b"Exif\0\0" + entry
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:])


def test_a_picture_with_an_exif_orientation_is_labeled_as_it_is_shown(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "mine", train="images/phone")
    path = folder / "images" / "phone" / "p.jpg"
    path.parent.mkdir()
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:, :32] = 255  # the left half as stored is the upper half as shown (orientation 6)
    cv2.imwrite(str(path), stored)
    with_orientation(path, 6)
    (folder / "labels" / "phone").mkdir()
    (folder / "labels" / "phone" / "p.txt").write_text(yolo_line() + "\n")
    data = CocoPose([folder])
    assert (data[0].width, data[0].height) == (48, 64)
    for shrink in (1, 2):
        shown = data.image(0, shrink)
        assert shown.shape == (64 // shrink, 48 // shrink, 3)
        assert shown[2, 20 // shrink].mean() > 200 > 50 > shown[60 // shrink, 20 // shrink].mean()
    # The annotations file of COCO layout may give the size as shown, too.
    ours = write(tmp_path / "ours", [])
    (ours / "images" / "p.jpg").write_bytes(path.read_bytes())
    images = [{"id": 7, "file_name": "p.jpg", "width": 48, "height": 64}]
    (ours / "annotations.json").write_text(json.dumps({"images": images, "annotations": []}))
    assert CocoPose([ours]).image(0).shape == (64, 48, 3)
