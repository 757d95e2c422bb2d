"""Rendered pictures with their labels: exact, and from the seed alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.errors import ConfigError
from edgepose_export.cli.main import cli
from edgepose_export.data.coco import CocoPose
from edgepose_export.synth import poses
from edgepose_export.synth.bodies import Body, BodyModel
from edgepose_export.synth.camera import Camera, look_at
from edgepose_export.synth.dataset import labels_hash, write_dataset
from edgepose_export.synth.labels import label_people
from edgepose_export.synth.meshes import Mesh, box, merge
from edgepose_export.synth.pictures import PictureMaker, Plan
from edgepose_export.synth.renderer import Renderer
from edgepose_export.synth.scene import Light, Placed, Scene
from edgepose_export.synth.shading import scene_triangles

pytestmark = [pytest.mark.needs("synth"), pytest.mark.xdist_group("synth")]

SIZE = 200
PLAN = Plan(7, "train", SIZE)
NOSE, LEFT_EYE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_WRIST, LEFT_ANKLE, RIGHT_ANKLE = 0, 1, 5, 6, 9, 15, 16


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return BodyModel()


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(SIZE) as opened:
        yield opened


def standing(model: BodyModel) -> Body:
    """An adult who stands upright, arms hanging, and looks toward -y."""
    pose = poses.Pose("stand")
    for side in "LR":
        pose.arm(side, 0.1, 0.0, 0.1)
    return model.draw(np.random.default_rng(3), [pose])[0]


def placed(body: Body, spot: tuple[float, float] = (0, 0)) -> Placed:
    colors = np.full_like(body.vertices, 0.5)
    offset = np.array([*spot, 0], np.float32)
    surface = Mesh(body.vertices + offset, body.normals, colors, body.anatomy.faces)
    return Placed(body, surface, merge([]), body.keypoints.astype(np.float64) + offset)


def labels(
    renderer: Renderer, people: list[Placed], *, elevation: float, azimuth: float, things: Mesh | None = None
) -> list[dict[str, Any]]:
    """Annotations of people seen from 8 m; azimuth -90 sees a person's face, 90 the back."""
    eye, axes = look_at(np.array([0, 0, 0.9]), 8.0, np.radians(elevation), np.radians(azimuth), 0.0)
    light = Light(np.array([0, 0, 1.0]), 0.8, hard=False)
    scene = Scene(Camera(eye, axes, 600.0, SIZE), people, things or merge([]), light, water=False, thermal=False)
    return label_people(scene, renderer.render(scene_triangles(scene, np.random.default_rng(0), renderer, np.zeros(3))))


def joints(annotation: dict[str, Any]) -> np.ndarray:
    return np.array(annotation["keypoints"]).reshape(17, 3)


def test_from_the_front_the_face_is_visible_and_the_left_is_on_the_right(model: BodyModel, renderer: Renderer) -> None:
    (person,) = labels(renderer, [placed(standing(model))], elevation=5, azimuth=-90)
    found = joints(person)
    assert found[[NOSE, LEFT_EYE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ANKLE], 2].tolist() == [2] * 5
    assert found[LEFT_SHOULDER, 0] > found[RIGHT_SHOULDER, 0] + 10
    assert found[LEFT_ANKLE, 0] > found[RIGHT_ANKLE, 0]
    assert found[NOSE, 1] < found[LEFT_SHOULDER, 1] < found[LEFT_ANKLE, 1]
    assert (person["num_keypoints"], person["iscrowd"]) == (17, 0)


def test_from_behind_the_face_is_hidden_and_the_left_is_on_the_left(model: BodyModel, renderer: Renderer) -> None:
    found = joints(labels(renderer, [placed(standing(model))], elevation=5, azimuth=90)[0])
    assert found[[NOSE, LEFT_EYE], 2].tolist() == [1, 1]
    assert found[[LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ANKLE], 2].tolist() == [2] * 3
    assert found[LEFT_SHOULDER, 0] < found[RIGHT_SHOULDER, 0] - 10


def test_from_straight_above_the_shoulders_are_visible_and_the_hips_are_not(model: BodyModel, renderer: Renderer) -> None:
    found = joints(labels(renderer, [placed(standing(model))], elevation=90, azimuth=-90)[0])
    assert found[[LEFT_SHOULDER, RIGHT_SHOULDER], 2].tolist() == [2, 2]
    assert found[[11, 12, LEFT_ANKLE], 2].tolist() == [1, 1, 1]
    assert found[LEFT_SHOULDER, 0] > found[RIGHT_SHOULDER, 0] + 10  # the top of the picture is where the back is


def test_boxes_and_areas_are_those_of_the_silhouette_also_behind_things(model: BodyModel, renderer: Renderer) -> None:
    person = placed(standing(model))
    (free,) = labels(renderer, [person], elevation=10, azimuth=-90)
    wall = box((0, -1, 0.5), (3, 0.1, 1.0), (1, 0, 0))  # hides the legs
    (behind,) = labels(renderer, [person], elevation=10, azimuth=-90, things=wall)
    assert (behind["bbox"], behind["area"]) == (free["bbox"], free["area"])
    assert free["visible"] == 1
    assert 0.2 < behind["visible"] < 0.8
    assert (joints(free)[LEFT_ANKLE, 2], joints(behind)[LEFT_ANKLE, 2]) == (2, 1)
    assert joints(behind)[NOSE, 2] == 2
    x, y, wide, high = free["bbox"]
    assert free["area"] < wide * high
    found = joints(free)
    assert ((found[:, 0] > x) & (found[:, 0] < x + wide) & (found[:, 1] > y) & (found[:, 1] < y + high)).all()


def test_who_is_hardly_visible_or_hardly_in_the_picture_is_a_crowd(model: BodyModel, renderer: Renderer) -> None:
    wall = box((0, -1, 1.0), (3, 0.1, 2.2), (1, 0, 0))
    (hidden,) = labels(renderer, [placed(standing(model))], elevation=0, azimuth=-90, things=wall)
    assert (hidden["iscrowd"], hidden["num_keypoints"], hidden["visible"]) == (1, 0, 0)
    (cut,) = labels(renderer, [placed(standing(model), (1.5, 0))], elevation=0, azimuth=-90)
    assert (cut["iscrowd"], sum(cut["keypoints"])) == (1, 0)
    assert labels(renderer, [placed(standing(model), (5, 0))], elevation=0, azimuth=-90) == []


def test_a_joint_outside_of_the_picture_has_no_label(model: BodyModel, renderer: Renderer) -> None:
    (person,) = labels(renderer, [placed(standing(model), (1.3, 0))], elevation=0, azimuth=-90)
    found = joints(person)
    assert person["iscrowd"] == 0
    assert found[LEFT_WRIST].tolist() == [0, 0, 0]
    assert found[RIGHT_SHOULDER, 2] > 0


@pytest.mark.parametrize("kind", poses.ON_LAND)
def test_everybody_touches_the_ground_or_rides(model: BodyModel, kind: str) -> None:
    rng = np.random.default_rng(0)
    for body in model.draw(rng, [poses.draw_pose(rng, {kind: 1.0}) for _ in range(3)], coarse=True):
        assert 0 <= body.vertices[:, 2].min() < 0.16
        assert 0.6 < body.height < 2.2
        if kind in ("lie", "fallen"):
            assert body.vertices[:, 2].max() < 0.75 * body.height


def test_coarse_bodies_have_the_same_outline(model: BodyModel) -> None:
    pose = poses.draw_pose(np.random.default_rng(0), {"walk": 1.0})
    fine, coarse = (model.draw(np.random.default_rng(1), [pose], coarse=coarse)[0] for coarse in (False, True))
    assert len(coarse.anatomy.faces) < 0.35 * len(fine.anatomy.faces)
    assert np.array_equal(fine.keypoints, coarse.keypoints)
    assert np.abs(fine.vertices.max(0) - coarse.vertices.max(0)).max() < 0.03


def test_a_picture_depends_on_its_number_alone() -> None:
    first, second = PictureMaker(PLAN), PictureMaker(PLAN)
    forward = [first.make(index) for index in range(4)]
    backward = [second.make(index) for index in reversed(range(4))][::-1]
    assert [picture.people for picture in forward] == [picture.people for picture in backward]
    assert [picture.jpeg for picture in forward] == [picture.jpeg for picture in backward]
    assert forward[0].people != forward[1].people


def test_a_folder_is_coco_and_continues_where_it_was_interrupted(tmp_path: Path) -> None:
    whole = write_dataset(PLAN, 6, tmp_path / "whole", 2, lambda done, total: None)
    write_dataset(PLAN, 3, tmp_path / "parts", 1, lambda done, total: None)
    kept = (tmp_path / "parts" / "images" / "000000.jpg").stat().st_mtime_ns
    steps: list[tuple[int, int]] = []
    parts = write_dataset(PLAN, 6, tmp_path / "parts", 1, lambda done, total: steps.append((done, total)))
    assert parts == whole == json.loads((tmp_path / "parts" / "annotations.json").read_text())
    assert labels_hash(parts) == labels_hash(whole)
    assert steps == [(4, 6), (5, 6), (6, 6)]
    assert (tmp_path / "parts" / "images" / "000000.jpg").stat().st_mtime_ns == kept
    pictures = CocoPose([tmp_path / "whole"])
    assert len(pictures) == 6
    assert pictures.people == sum(not person["iscrowd"] for person in whole["annotations"])
    for image in whole["images"]:
        picture = cv2.imread(str(tmp_path / "whole" / "images" / image["file_name"]))
        assert picture is not None
        assert picture.shape == (SIZE, SIZE, 3)
    for person in whole["annotations"]:
        x, y, wide, high = person["bbox"]
        assert 0 <= x < x + wide <= SIZE
        assert 0 <= y < y + high <= SIZE
        assert 0 < person["area"] <= wide * high


def test_another_plan_does_not_mix_into_a_folder(tmp_path: Path) -> None:
    write_dataset(PLAN, 1, tmp_path / "mine", 1, lambda done, total: None)
    with pytest.raises(ConfigError, match=r"mine holds pictures of .*'seed': 7.*; expected a new folder"):
        write_dataset(Plan(8, "train", SIZE), 1, tmp_path / "mine", 1, lambda done, total: None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"other is neither empty nor a folder of synthetic pictures; expected a new folder"):
        write_dataset(PLAN, 1, tmp_path / "other", 1, lambda done, total: None)


def test_a_refused_background_ends_two_jobs_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"photos is not a folder; expected a folder of pictures without people"):
        write_dataset(Plan(1, "train", SIZE, (tmp_path / "photos",)), 4, tmp_path / "new", 2, lambda done, total: None)


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    arguments = ["synth", "--count", "4", "--seed", "1", "--split", "eval", "--size", "128", "--jobs", "1", "-o", str(tmp_path / "set")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert [image["set"] for image in written["images"]] == ["0", "30", "60", "90"]
    assert "".join(done.output.split()).endswith(labels_hash(written))
    assert written["info"]["split"] == "eval"


def test_photographs_change_no_label(tmp_path: Path) -> None:
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((SIZE, SIZE, 3), 20 * number, np.uint8))
    plain, photographed = (PictureMaker(Plan(7, "train", SIZE, folders)) for folders in ((), (tmp_path,)))
    pairs = [(plain.make(index), photographed.make(index)) for index in range(5)]
    assert [first.people for first, _ in pairs] == [second.people for _, second in pairs]
    assert any(first.jpeg != second.jpeg for first, second in pairs)
