from typing import Any

import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose_export.data import warp
from edgepose_export.data.coco import CocoPose, sample_labels
from testing.export.annotations import BYSTANDER, CROWD, person, write
from testing.shared import SHARED

IMAGE: dict[str, Any] = {"id": 7, "file_name": "a.png", "width": 64, "height": 48}
BOX_ONLY: dict[str, Any] = {"image_id": 7, "bbox": [40, 10, 10, 20]}  # neither keypoints nor area


def test_people_and_ignore_regions_are_kept_apart(tmp_path):
    data = CocoPose([write(tmp_path / "a", [person(), BYSTANDER, CROWD])])
    picture = data[0]
    assert (len(data), data.people, picture.identity) == (1, 1, 7)
    np.testing.assert_array_equal(picture.boxes, [[8, 4, 28, 28]])
    np.testing.assert_array_equal(picture.ignored, [[20, 10, 30, 20], [0, 0, 30, 20]])
    assert picture.ignored_crowds.tolist() == [False, True]
    assert picture.areas.tolist() == [250.5]
    assert picture.keypoints.shape == (1, 17, 3)
    assert picture.keypoints[0, 3].tolist() == [13, 8, 2]
    assert picture.keypoints[0, 16].tolist() == [0, 0, 0]  # not labeled: the place it claims is dropped too
    assert picture.all_people_labeled


def test_folders_are_joined_and_the_flag_is_kept(tmp_path):
    images = [{"id": 7, "file_name": "a.png", "width": 64, "height": 48, "all_people_labelled": False}]
    data = CocoPose([write(tmp_path / "a", [person()]), write(tmp_path / "b", [], images=images)])
    assert [picture.all_people_labeled for picture in data] == [True, False]
    completed = [{"id": 7, "file_name": "a.png", "width": 64, "height": 48, "all_people_labelled": True, "completed_by": "yolox-nano"}]
    assert not CocoPose([write(tmp_path / "c", [], images=completed)])[0].all_people_labeled  # a detector misses people
    assert data[1].keypoints.shape == (0, 17, 3)
    assert data[1].path == tmp_path / "b" / "images" / "a.png"


@pytest.mark.parametrize(
    ("annotation", "is_person"),
    [
        (BYSTANDER, True),
        (BOX_ONLY, True),
        (person(num_keypoints=0), True),
        (CROWD, False),
        (BOX_ONLY | {"iscrowd": 1}, False),
        (BYSTANDER | {"maybe_crowd": True}, False),
        (BYSTANDER | {"detector": True}, False),
        (BYSTANDER | {"detector": False, "maybe_crowd": 0}, True),
    ],
)
def test_a_box_of_one_person_is_a_person_only_by_choice(tmp_path, annotation, is_person):
    folder = write(tmp_path / "a", [annotation, person()])
    plain, picture = CocoPose([folder])[0], CocoPose([folder], box_people=True)[0]
    assert (len(plain.boxes), len(plain.ignored)) == (1, 1)
    assert (len(picture.boxes), len(picture.ignored)) == ((2, 0) if is_person else (1, 1))
    assert picture.keypoints[-1, 3].tolist() == [13, 8, 2]  # who has keypoints keeps them
    if is_person:
        np.testing.assert_array_equal(picture.boxes[0], plain.ignored[0])
        assert picture.areas[0] == plain.ignored_areas[0]
        assert not picture.keypoints[0].any()
        assert (picture.certainty.shape, picture.keypoint_certainty.shape) == ((2,), (2, 17))


def test_a_person_who_has_only_a_box_stays_a_person(tmp_path):
    """A person whose labeled keypoints all leave the picture does not."""
    data = CocoPose([write(tmp_path / "a", [BOX_ONLY, person(keypoints=[60, 40, 2] + [0] * 48, num_keypoints=1)])], box_people=True)
    everything = warp.follow(data[0], np.eye(3), False, (0, 0, 64, 48), 1, 0)
    assert (len(everything.boxes), len(everything.ignored)) == (2, 0)
    # Half of the box-only person is left of x = 45, the keypoint (60, 40) is not.
    left = warp.follow(data[0], np.eye(3), False, (0, 0, 45, 48), 1, 0.3)
    np.testing.assert_array_equal(left.boxes, [[40, 10, 45, 30]])
    assert not left.keypoints.any()
    assert len(left.ignored) == 1
    hardly = warp.follow(data[0], np.eye(3), False, (0, 0, 42, 48), 1, 0.3)
    assert (len(hardly.boxes), len(hardly.ignored)) == (0, 2)


def test_a_draw_of_pseudo_labels_keeps_a_person_who_has_only_a_box(tmp_path):
    guess = person(score=0.5, keypoint_scores=[0.5] * 17)
    picture = CocoPose([write(tmp_path / "a", [BOX_ONLY, guess])], box_people=True)[0]
    drawn = [sample_labels(picture, np.random.default_rng(seed)) for seed in range(40)]
    assert {len(one.boxes) for one in drawn} == {1, 2}
    assert all((one.boxes[0] == [40, 10, 50, 30]).all() for one in drawn)


def test_the_set_and_the_elevation_of_a_picture_are_read(tmp_path):
    names: list[dict[str, Any]] = [{}, {"set": "steep", "elevation": 41.5}, {"elevation": 41.5, "group_elevation": 30}]
    data = CocoPose([write(tmp_path / "a", images=[IMAGE | {"id": number} | fields for number, fields in enumerate(names)])])
    assert [(picture.group, picture.elevation_deg) for picture in data] == [("", None), ("steep", 41.5), ("", 30)]


def test_image_is_rgb_and_stays_readable_from_memory(tmp_path):
    data = CocoPose([write(tmp_path / "a")])
    first = data.image(0)
    assert (first.shape, first.dtype) == ((48, 64, 3), np.uint8)
    assert first[0, 0].tolist() == [200, 0, 0]
    first[:] = 0
    data[0].path.unlink()
    assert data.image(0)[0, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (person(image_id=8), "image 8, which is not in the file"),
        (person(bbox=[8, 4, 0, 24]), "width and height above 0"),
        (person(bbox=[8, 4, "wide", 24]), "annotations[0].bbox"),
        (person(bbox=[8, 4]), "annotations[0].bbox"),
        (person(keypoints=[1, 2, 2]), "expected 51"),
        (person(keypoints=[1, 1, 3] * 17), "visibility"),
        (person(keypoints=[]), "claims 15 keypoints"),
    ],
)
def test_bad_annotation_is_refused_in_one_sentence(tmp_path, annotation, words):
    with pytest.raises(ConfigError) as caught:
        CocoPose([write(tmp_path / "a", [annotation])])
    assert words in str(caught.value)
    assert str(tmp_path / "a") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "no images"),
        ([{"id": 7, "file_name": "b.png", "width": 64, "height": 48}], "'b.png', which is not in"),
        ([{"id": 7, "file_name": "a.png", "width": 64, "height": 48}] * 2, "two images"),
        ([{"id": 7, "file_name": "a.png", "width": 0, "height": 48}], "0x48"),
        ([{"id": 7, "file_name": "a.png", "width": 64}], "height"),
    ],
)
def test_bad_image_list_is_refused(tmp_path, images, words):
    with pytest.raises(ConfigError, match=words):
        CocoPose([write(tmp_path / "a", images=images)])


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one folder"):
        CocoPose([])
    with pytest.raises(ConfigError, match="cannot be read"):
        CocoPose([tmp_path / "nowhere"])
    folder = write(tmp_path / "a")
    (folder / "annotations.json").write_text("{")
    with pytest.raises(ConfigError, match="not a COCO annotations file"):
        CocoPose([folder])


def test_picture_that_cannot_be_decoded_or_has_another_size_is_refused(tmp_path):
    damaged = CocoPose([write(tmp_path / "a")])
    damaged[0].path.write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="cannot be decoded"):
        damaged.image(0)
    with pytest.raises(ConfigError, match="32x48 pixels, but its annotations say 64x48"):
        CocoPose([write(tmp_path / "b", width=32)]).image(0)
    gone = CocoPose([write(tmp_path / "c")])
    gone[0].path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        gone.image(0)


@pytest.mark.skipif(SHARED is None, reason="the pictures of ../shared/data are not here")
@pytest.mark.parametrize(
    ("name", "people", "ignored", "groups"),
    [
        ("drone-dev", 2659, 426, {"rehoth", "semantic-drone", "uav123"}),  # 201 boxes of a detector, 225 crowds
        ("drone-thermal-dev", 859, 9, {""}),
        ("coco-dev", 797 + 102, 274 + 7, {""}),
    ],
)
def test_sets_with_boxes_only_are_read(name, people, ignored, groups):
    assert SHARED is not None
    data = CocoPose([SHARED / "data" / name], box_people=True)
    assert (data.people, sum(len(picture.ignored) for picture in data)) == (people, ignored)
    assert {picture.group for picture in data} == groups
