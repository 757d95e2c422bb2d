"""What a pose network takes for people: which finds count, and how a refiner learns that nobody is there."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgepose
from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose_export.cli.main import run
from edgepose_export.data.augment import Augmentation, PicturePlans, paint
from edgepose_export.data.batches import Position, collate
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans
from edgepose_export.data.hard_negatives import boxes_of_nobody, write_hard_negatives
from testing.export.annotations import CROWD, person, write

SIZE = {"width": 320, "height": 240}


def find(left: float, top: float, right: float, bottom: float) -> Person:
    return Person(np.array([left, top, right, bottom], np.float32), 0.4, np.zeros((17, 3), np.float32))


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """One complete picture with a person at the left and a crowd at the bottom, and one that is not complete."""
    images = [
        {"id": 7, "file_name": "a.png", **SIZE},
        {"id": 8, "file_name": "a.png", **SIZE, "all_people_labelled": False},
    ]
    labeled = [person(image_id=7, bbox=[10, 10, 60, 120]), {**CROWD, "image_id": 7, "bbox": [0, 200, 320, 40]}]
    return write(tmp_path / "before", labeled, images=images, **SIZE)


def test_a_find_that_touches_a_person_or_a_crowd_shows_somebody(before: Path) -> None:
    picture = CocoPose([before])[0]
    nobody = find(150, 20, 210, 140)
    found = [find(10, 10, 70, 130), find(20, 100, 40, 125), find(100, 180, 140, 230), nobody, find(330, 0, 400, 90), find(5, 5, 300, 200)]
    boxes = boxes_of_nobody(picture, found)
    assert len(boxes) == 1
    np.testing.assert_array_equal(boxes[0], nobody.box)


def test_only_complete_pictures_give_some_and_their_people_are_left_out(before: Path, tmp_path: Path) -> None:
    after = tmp_path / "after"
    assert write_hard_negatives(before, after, lambda image: [find(150, 20, 210, 140), find(10, 10, 70, 130)]) == 1
    pictures = CocoPose([after])
    assert len(pictures) == 1
    assert not len(pictures[0].boxes)
    assert not len(pictures[0].ignored)
    np.testing.assert_array_equal(pictures[0].hard_negatives, [[150, 20, 210, 140]])
    plan = PicturePlans(pictures).plan(0, 320, Augmentation.none(), np.random.default_rng(0))
    assert (plan.labels.ignored[:, 2:] - plan.labels.ignored[:, :2]).prod(1).max() > 200 * 300  # a pose network learns no background


def test_all_keypoints_of_such_a_crop_are_absent(before: Path, tmp_path: Path) -> None:
    write_hard_negatives(before, tmp_path / "after", lambda image: [find(150, 20, 210, 140)])
    data = CocoPose([before, tmp_path / "after"])
    plans = CropPlans(data, 1.1)
    assert [data.source(plans.picture(index)) for index in range(len(plans))] == [0, 1]
    for seed in range(6):
        made = [plans.plan(index, (128, 96), Augmentation(), np.random.default_rng(seed)) for index in range(2)]
        batch = collate(made, np.stack([paint(data, plan, (128, 96)) for plan in made]), Position())
        assert (batch.keypoints[0, 0, :, 2] >= 0).all()
        assert (batch.keypoints[1, 0, :, 2] == -1).all()


def test_what_gives_none_is_refused(before: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="things that are taken for people"):
        write_hard_negatives(before, tmp_path / "after", lambda image: [find(10, 10, 70, 130)])
    with pytest.raises(ConfigError, match="expected a new folder"):
        write_hard_negatives(before, before, lambda image: [])
    document = json.loads((before / "annotations.json").read_text())
    assert len(document["annotations"]) == 2


def test_the_command_collects_what_the_shipped_network_finds(tmp_path: Path) -> None:
    golden = Path(edgepose.__file__).parent / "assets" / "golden.jpg"
    (tmp_path / "before" / "images").mkdir(parents=True)
    (tmp_path / "before" / "images" / golden.name).write_bytes(golden.read_bytes())
    image = cv2.imread(str(golden))
    assert image is not None
    height, width = image.shape[:2]
    document = {"images": [{"id": 1, "file_name": golden.name, "width": width, "height": height}], "annotations": []}
    (tmp_path / "before" / "annotations.json").write_text(json.dumps(document))  # as if its people were statues
    assert run(["hard-negatives", str(tmp_path / "before"), "--threads", "1", "--output", str(tmp_path / "after")]) == 0
    assert len(CocoPose([tmp_path / "after"])[0].hard_negatives) >= 1
