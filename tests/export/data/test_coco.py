import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose_export.data.coco import CocoPose
from testing.export.annotations import BYSTANDER, CROWD, person, write


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
    assert data[1].keypoints.shape == (0, 17, 3)
    assert data[1].path == tmp_path / "b" / "images" / "a.png"


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
