"""The painter for GPUs, proven on the CPU: the same labels as OpenCV's stream, the same pixels within a few gray levels."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from edgepose.errors import ConfigError
from edgepose_export.data import warp
from edgepose_export.data.augment import Augmentation, PicturePlan, paint, plan
from edgepose_export.data.batches import Batches
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans
from edgepose_export.data.device_batches import DevicePictures
from testing.export.folders import write_dotted
from testing.export.warps import WARPS, peak
from testing.shared import SHARED

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {"batch_size": 3, "sizes": (224, 256), "seed": 4}
LABELS = ("boxes", "keypoints", "areas", "people", "ignored", "regions")


def smooth(width: int, height: int) -> np.ndarray:
    """Waves of different length in each color, without an edge: any picture of it tells where it was taken."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 13 + y / 29), np.sin(x / 31 - y / 17), np.sin((x + y) / 23)]
    image: np.ndarray = (128 + 100 * np.stack(waves, 2)).round().astype(np.uint8)
    return image


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    folder = write_dotted(tmp_path_factory.mktemp("waves") / "a", sizes=[(300, 220), (301, 227), (300, 300), (317, 223)])
    data = CocoPose([folder])
    for picture in data:
        cv2.imwrite(str(picture.path), smooth(picture.width, picture.height)[..., ::-1])
    return data


@pytest.fixture(scope="module")
def dots(tmp_path_factory):
    return CocoPose([write_dotted(tmp_path_factory.mktemp("dots") / "a", sizes=[(300, 220), (301, 227), (300, 300), (640, 480)])])


def interior(made: PicturePlan, data: CocoPose, size: int, margin: float) -> np.ndarray:
    """Pixels of the canvas that show the inside of a picture, well away from every edge: bool (S, S)."""
    places = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1)
    shown = np.zeros((size, size), bool)
    for part in made.parts:
        picture = data[part.index]
        source = warp.project(np.linalg.inv(part.matrix).astype(np.float64), places)
        x1, y1, x2, y2 = part.rectangle
        within = ((source > margin) & (source < np.array((picture.width, picture.height)) - margin)).all(2)
        within &= (places[..., 0] > x1) & (places[..., 0] < x2) & (places[..., 1] > y1) & (places[..., 1] < y2)
        shown |= within
    return shown


@pytest.mark.parametrize("name", WARPS)
def test_pixels_are_those_of_opencv(waves, name):
    pictures = DevicePictures(waves, CPU)
    rng = np.random.default_rng(2)
    plans = [plan(waves, index % len(waves), 256, WARPS[name], rng) for index in range(12)]
    painted = pictures.paint(plans, 256)
    assert painted.dtype == torch.uint8
    assert painted.shape == (12, 256, 256, 3)
    for made, found in zip(plans, painted.numpy(), strict=True):
        difference = np.abs(found.astype(int) - paint(waves, made, 256)).max(2)
        inside = interior(made, waves, 256, 2)
        assert inside.mean() > 0.03
        assert difference[inside].max() <= 3
        assert difference.mean() < 1  # edges and padding as well


@pytest.mark.skipif(SHARED is None, reason="the photographs in ../shared are not there")
def test_photographs_at_full_size_are_those_of_opencv():
    """Where nothing is averaged, the two differ by rounding alone, however sharp the picture."""
    assert SHARED is not None
    data = CocoPose([SHARED / "data" / "coco-dev"])
    near = replace(WARPS["tilt"], scale=(2.5, 3), rotate=0.5)
    rng = np.random.default_rng(5)
    plans = [plan(data, index, 256, near, rng) for index in range(12)]
    for made, found in zip(plans, DevicePictures(data, CPU, longest_px=640).paint(plans, 256).numpy(), strict=True):
        difference = np.abs(found.astype(int) - paint(data, made, 256)).max(2)
        assert difference[interior(made, data, 256, 1)].max() <= 1


@pytest.mark.parametrize(("scale", "shrink"), [(1.0, 1), (0.5, 2), (0.25, 4), (0.12, 8)])
def test_a_picture_drawn_small_is_averaged_first(tmp_path, scale, shrink):
    """Where every n-th pixel was read instead, grain would stay as strong as it was."""
    data = CocoPose([write_dotted(tmp_path / "a", sizes=[(300, 300)])])
    grain = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    cv2.imwrite(str(data[0].path), grain)
    made = plan(data, 0, 256, replace(Augmentation.none(), scale=(scale, scale)), np.random.default_rng(0))
    found = DevicePictures(data, CPU).paint([made], 256)[0].numpy()
    side = round(256 * scale)
    middle = found[1 : side - 1, 1 : side - 1]
    assert middle.std() < 1.05 * grain.std() / shrink
    assert abs(middle.mean() - grain.mean()) < 3
    assert not found[side + 1 :].any()
    assert not found[:, side + 1 :].any()


def test_a_picture_drawn_small_is_not_darker_at_its_edge(tmp_path):
    """301 px are no multiple of 4: what is averaged with the last column is not the padding."""
    data = CocoPose([write_dotted(tmp_path / "a", sizes=[(301, 227)])])
    cv2.imwrite(str(data[0].path), np.full((227, 301, 3), 255, np.uint8))
    made = plan(data, 0, 256, replace(Augmentation.none(), scale=(0.25, 0.25)), np.random.default_rng(0))
    found = DevicePictures(data, CPU).paint([made], 256)[0].numpy()
    assert (found[:48, :64] == 255).all()


@pytest.mark.parametrize("name", WARPS)
def test_a_dot_lies_where_the_label_says(dots, name):
    """Also in a picture that was made smaller to fit: one of these is twice as large as is kept."""
    pictures = DevicePictures(dots, CPU)
    rng = np.random.default_rng(7)
    plans = [plan(dots, index % len(dots), 400, WARPS[name], rng) for index in range(8)]
    seen = 0
    for made, image in zip(plans, pictures.paint(plans, 400).numpy(), strict=True):
        for keypoints in made.labels.keypoints:
            for number in np.flatnonzero(keypoints[:, 2]):
                found, color = peak(image, keypoints[number, :2])
                assert color.max() > 10, f"no dot at keypoint {number}"
                assert np.abs(found - keypoints[number, :2]).max() <= 1
                seen += 1
    assert seen > 50


def test_the_stream_has_the_labels_of_the_stream_on_the_processor(dots):
    """With all that chance changes, light and noise included."""
    augmentation = replace(Augmentation(), noise=0.5)
    pictures = DevicePictures(dots, CPU)
    with Batches(dots, augmentation, **SETTINGS) as here, Batches(dots, augmentation, painter=pictures.paint, **SETTINGS) as there:
        for _ in range(6):
            first, second = next(here), next(there)
            for name in LABELS:
                np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
            assert first.following == second.following
            assert isinstance(second.images, torch.Tensor)
            assert tuple(second.images.shape) == first.images.shape


@pytest.mark.parametrize("workers", [1, 3])
def test_resumed_stream_is_the_stream_itself(dots, workers):
    pictures = DevicePictures(dots, CPU)
    settings = SETTINGS | {"painter": pictures.paint}
    augmentation = replace(Augmentation(), noise=0.5)
    with Batches(dots, augmentation, **settings) as batches:
        whole = [next(batches) for _ in range(5)]
    with Batches(dots, augmentation, **settings, start=whole[1].following, workers=workers) as batches:
        rest = [next(batches) for _ in range(3)]
    for first, second in zip(whole[2:], rest, strict=True):
        assert isinstance(first.images, torch.Tensor)
        assert isinstance(second.images, torch.Tensor)
        assert torch.equal(first.images, second.images)
        np.testing.assert_array_equal(first.keypoints, second.keypoints)
        assert first.following == second.following


@pytest.mark.parametrize("change", [{"light": 1}, {"gray": 1}], ids=["light", "gray"])
def test_colors_are_those_of_opencv(waves, change):
    pictures = DevicePictures(waves, CPU)
    rng = np.random.default_rng(3)
    plans = [plan(waves, index % len(waves), 256, replace(Augmentation.none(), **change), rng) for index in range(8)]
    plain = pictures.paint([plan(waves, 0, 256, Augmentation.none(), rng)], 256)[0].numpy()
    assert np.abs(plain.astype(int) - pictures.paint(plans[:1], 256)[0].numpy()).mean() > 5
    for made, found in zip(plans, pictures.paint(plans, 256).numpy(), strict=True):
        expected = paint(waves, made, 256)
        inside = interior(made, waves, 256, 2)
        # Rounding before a steep curve (dark pictures made bright) costs OpenCV's picture some levels.
        difference = np.abs(found.astype(int) - expected).max(2)[inside]
        assert np.percentile(difference, 99) <= 4
        height = round(waves[made.parts[0].index].height * 256 / waves[made.parts[0].index].width)
        assert not found[height + 1 :].any()  # the padding stays black


def test_noise_is_as_strong_as_it_says(waves):
    pictures = DevicePictures(waves, CPU)
    noisy = replace(Augmentation.none(), noise=1, noise_levels=(10, 10))
    made = plan(waves, 2, 304, noisy, np.random.default_rng(0))  # 300 px become 304: nothing is averaged
    clean = PicturePlan((replace(made.parts[0], appearance=type(made.parts[0].appearance)()),), made.labels)
    first, plain = pictures.paint([made, clean], 304).numpy().astype(int)
    middle = (plain > 60) & (plain < 195)
    # Between two pixels of the picture the noise of both is averaged: at worst two thirds of it are left along each axis.
    assert 5 < (first - plain)[middle].std() < 10
    assert abs((first - plain)[middle].mean()) < 0.2
    assert np.array_equal(first, pictures.paint([made], 304)[0].numpy())


def test_unreadable_picture_is_named(tmp_path):
    data = CocoPose([write_dotted(tmp_path / "a")])
    data[1].path.write_bytes(b"gone")
    with pytest.raises(ConfigError, match=r"2\.png cannot be decoded"):
        DevicePictures(data, CPU)


def test_covers_and_other_aspects_are_those_of_opencv(dots):
    plans = CropPlans(dots, 1.2)
    augmentation = replace(Augmentation.none(), cover=1.0)
    made = [plans.plan(0, (128, 96), augmentation, np.random.default_rng(seed)) for seed in range(12)]
    painted = DevicePictures(dots, CPU).paint(made, (128, 96)).numpy()
    assert painted.shape == (12, 128, 96, 3)
    assert {cover.part is None for each in made for cover in each.covers} == {True, False}
    for each, found in zip(made, painted, strict=True):
        assert np.abs(found.astype(int) - paint(dots, each, (128, 96))).mean() < 1
