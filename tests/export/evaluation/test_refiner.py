"""The refiner of pictures, with a refiner file that finds one known pose."""

from pathlib import Path

import numpy as np
import pytest

from edgepose.config import schema
from edgepose.model.file import read_model
from edgepose.pose.refine.regions import Region
from edgepose_export.evaluation.refiner import PictureRefiner
from testing.bodies import moved, standing_person
from testing.onnx_files import write_refiner

SETTINGS = schema.ModelConfig(backend="cpu", threads=1)
WHITE = np.full((480, 640, 3), 255, np.uint8)


@pytest.mark.parametrize(("people", "kept"), [(0, [1, 2]), (2, [0, 1, 2])])
def test_people_with_one_refined_pose_are_one(tmp_path: Path, people: int, kept: list[int]) -> None:
    person = standing_person(200, 100, score=0.5)
    info = read_model(write_refiner(tmp_path / "empty.onnx")).info
    assert info.crop_margin is not None
    answer = person.keypoints.copy()
    answer[:, :2] = Region.around(person.box, info.crop_margin, info.crop_shape).to_crop(answer[:, :2])
    found = [moved(standing_person(200, 100, score=0.4), np.array((12, 0))), person, standing_person(400, 100, score=0.45)]
    refiner = PictureRefiner(write_refiner(tmp_path / "refiner.onnx", keypoints=answer), people, SETTINGS)
    result = refiner(WHITE, found)
    refiner.close()
    assert refiner.refined == (people or 3)
    assert [index for each in result for index, person in enumerate(found) if each.box is person.box] == kept
