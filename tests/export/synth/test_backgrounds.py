"""Photographs without people, and drawn ground."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose_export.synth.backgrounds import Photographs, draw_background
from edgepose_export.synth.camera import Camera, look_at
from edgepose_export.synth.effects import draw_effects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty photographs, each of one gray."""
    for number in range(40):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((120, 160, 3), number * 5, np.uint8))
    return tmp_path


def grays(photographs: Photographs) -> set[int]:
    rng = np.random.default_rng(0)
    return {round(float(photographs.draw(rng, 64, from_above=True).mean() * 51)) for _ in range(300)}


def test_the_splits_share_no_photograph(folder: Path) -> None:
    train, held = grays(Photographs([folder], "train")), grays(Photographs([folder], "eval"))
    assert train | held == set(range(40))
    assert train & held == set()


def test_of_a_coco_folder_only_pictures_without_people_are_taken(folder: Path) -> None:
    (folder / "images").mkdir()
    for path in folder.glob("*.png"):
        path.rename(folder / "images" / path.name)
    images = [{"id": number, "file_name": f"{number}.png", "all_people_labelled": number % 3 != 2} for number in range(40)]
    annotations = [{"image_id": number} for number in range(40) if number % 3 == 0]
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    found = grays(Photographs([folder], "train")) | grays(Photographs([folder], "eval"))
    assert found == {number for number in range(40) if number % 3 == 1}


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "empty"])
def test_a_folder_without_photographs_is_refused(tmp_path: Path, make) -> None:
    make(tmp_path / "photos")
    with pytest.raises(ConfigError, match=r"photos .*; expected"):
        Photographs([tmp_path / "photos"], "train")


def test_a_damaged_photograph_is_named(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"\d+\.jpg is not a readable picture; expected"):
        Photographs([tmp_path], "train").draw(np.random.default_rng(0), 64, from_above=False)


@pytest.mark.parametrize("elevation", [0, 40, 90])
@pytest.mark.parametrize("water", [False, True])
def test_ground_is_drawn_from_every_side_and_twice_the_same(elevation: float, water: bool) -> None:
    eye, axes = look_at(np.array([0, 0, 1.0]), 12, np.radians(elevation), 0.0, 0.0)
    camera = Camera(eye, axes, 300.0, 96)
    for seed in range(4):
        first, second = (
            draw_background(np.random.default_rng(seed), Photographs([], "train"), camera, steep=False, water=water) for _ in range(2)
        )
        assert first.shape == (96, 96, 3)
        assert np.isfinite(first).all()
        assert np.array_equal(first, second)


@pytest.mark.parametrize("thermal", [False, True])
def test_effects_are_the_same_for_the_same_numbers_and_leave_a_picture(thermal: bool) -> None:
    image = np.random.default_rng(1).random((96, 96, 3), np.float32)
    distance = np.full((96, 96), 20, np.float32)
    distance[:20] = 1e6
    for seed in range(30):
        first, second = (draw_effects(np.random.default_rng(seed), image, distance, thermal=thermal) for _ in range(2))
        assert first.dtype == np.uint8
        assert np.array_equal(first, second)
        assert np.ptp(first) > 10
