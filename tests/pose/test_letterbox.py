from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgepose.errors import ModelError
from edgepose.model.file import read_model
from edgepose.pose.letterbox import Letterbox, input_shape
from testing.onnx_files import write_edgepose, write_ultralytics

SIDES = st.integers(1, 4096)
INPUTS = st.integers(1, 40).map(lambda blocks: 32 * blocks)
ALIGNMENTS = st.sampled_from(["start", "center"])


@given(
    SIDES,
    SIDES,
    st.integers(1, 20).map(lambda blocks: 32 * blocks),
    st.integers(1, 20).map(lambda blocks: 32 * blocks),
    ALIGNMENTS,
    st.integers(0, 2**32 - 1),
)
def test_points_map_to_the_input_and_back(source_height: int, source_width: int, height: int, width: int, align: str, seed: int) -> None:
    letterbox = Letterbox.fit(source_height, source_width, height, width, align=align)  # type: ignore[arg-type]
    assume(min(letterbox.scale_x, letterbox.scale_y) >= 1 / 16)  # below this scale, float32 does not resolve a thousandth of a pixel
    points = np.random.default_rng(seed).uniform(0, (source_width, source_height), (20, 2)).astype(np.float32)
    there = letterbox.to_input(points)
    assert there.dtype == np.float32
    np.testing.assert_allclose(letterbox.to_source(there), points, atol=1e-3)
    assert (there >= np.array((letterbox.left, letterbox.top)) - 1e-3).all()
    assert (there <= np.array((letterbox.left + letterbox.content_width, letterbox.top + letterbox.content_height)) + 1e-3).all()


@given(SIDES, SIDES, INPUTS, INPUTS, ALIGNMENTS)
def test_content_is_inside_the_input_and_keeps_its_aspect(
    source_height: int, source_width: int, height: int, width: int, align: str
) -> None:
    letterbox = Letterbox.fit(source_height, source_width, height, width, align=align)  # type: ignore[arg-type]
    assert letterbox.top >= 0
    assert letterbox.left >= 0
    assert 1 <= letterbox.content_height <= height - letterbox.top
    assert 1 <= letterbox.content_width <= width - letterbox.left
    assert letterbox.content_height == height or letterbox.content_width == width
    scale = min(height / source_height, width / source_width)
    assert abs(letterbox.content_height - source_height * scale) < 1
    assert abs(letterbox.content_width - source_width * scale) < 1


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(1, 300), ALIGNMENTS)
def test_only_the_padding_is_filled(source_height: int, source_width: int, align: str) -> None:
    letterbox = Letterbox.fit(source_height, source_width, 96, 128, align=align, fill=7)  # type: ignore[arg-type]
    out = np.full((96, 128, 3), 99, np.uint8)
    assert letterbox.apply(np.full((source_height, source_width, 3), 200, np.uint8), out) is out
    inside = np.zeros((96, 128), np.bool_)
    bottom, right = letterbox.top + letterbox.content_height, letterbox.left + letterbox.content_width
    inside[letterbox.top : bottom, letterbox.left : right] = True
    assert (out[inside] == 200).all()
    assert (out[~inside] == 7).all()


@pytest.mark.parametrize(
    ("source", "size", "align", "expected"),
    [
        ((720, 1280), (160, 256), "start", (144, 256, 0, 0)),
        ((1280, 720), (256, 160), "start", (256, 144, 0, 0)),
        ((576, 768), (256, 256), "start", (192, 256, 0, 0)),
        ((576, 768), (256, 256), "center", (192, 256, 32, 0)),
        ((100, 100), (256, 320), "center", (256, 256, 0, 32)),
        ((1, 4000), (32, 320), "start", (1, 320, 0, 0)),
    ],
)
def test_known_layouts(source: tuple[int, int], size: tuple[int, int], align: str, expected: tuple[int, int, int, int]) -> None:
    letterbox = Letterbox.fit(*source, *size, align=align)  # type: ignore[arg-type]
    assert (letterbox.content_height, letterbox.content_width, letterbox.top, letterbox.left) == expected


@pytest.mark.parametrize("source", [(480, 640), (481, 643), (96, 640)], ids=["even", "odd", "wide"])
@pytest.mark.parametrize("size", [(96, 128), (240, 320), (288, 384), (608, 800)], ids=["small", "half", "large", "enlarged"])
@pytest.mark.parametrize("align", ["start", "center"])
def test_pixels_and_points_map_to_the_same_position(source: tuple[int, int], size: tuple[int, int], align: str) -> None:
    image = np.zeros((*source, 3), np.uint8)
    image[60:76, 400:424] = 255  # its center is (412, 68)
    letterbox = Letterbox.fit(*source, *size, align=align)  # type: ignore[arg-type]
    weight = letterbox.apply(image)[..., 0].astype(np.float64)
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    middle = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    # A tenth of a pixel: bilinear reduction weighs the pixels of an edge unevenly. A wrong convention would shift by half a pixel.
    np.testing.assert_allclose(middle, letterbox.to_input(np.array((412, 68), np.float32)), atol=0.1)


def test_wrong_shapes_are_rejected() -> None:
    letterbox = Letterbox.fit(48, 64, 32, 32)
    with pytest.raises(ValueError, match=r"expected uint8 \(48, 64, 3\)"):
        letterbox.apply(np.zeros((48, 65, 3), np.uint8))
    with pytest.raises(ValueError, match=r"expected uint8 \(32, 32, 3\)"):
        letterbox.apply(np.zeros((48, 64, 3), np.uint8), np.zeros((32, 32, 4), np.uint8))
    with pytest.raises(ValueError, match="expected positive sizes"):
        Letterbox.fit(0, 64, 32, 32)


@pytest.mark.parametrize(
    ("source", "requested", "expected"),
    [
        ((720, 1280), 0, (160, 256)),
        ((1280, 720), 0, (256, 160)),
        ((576, 768), 0, (192, 256)),
        ((577, 768), 0, (192, 256)),
        ((600, 768), 0, (224, 256)),
        ((500, 500), 0, (256, 256)),
        ((10, 4000), 0, (32, 256)),
        ((720, 1280), 320, (192, 320)),
    ],
)
def test_a_dynamic_input_follows_the_aspect_of_the_frame(
    tmp_path: Path, source: tuple[int, int], requested: int, expected: tuple[int, int]
) -> None:
    info = read_model(write_edgepose(tmp_path / "m.onnx")).info
    assert input_shape(info, *source, requested) == expected


def test_the_layout_is_the_one_that_the_model_was_trained_with(tmp_path: Path) -> None:
    ours = read_model(write_edgepose(tmp_path / "ours.onnx", input_shape=("N", 256, 256, 3))).info
    letterbox = Letterbox.for_model(ours, 720, 1280)
    assert (letterbox.height, letterbox.width, letterbox.top, letterbox.fill) == (256, 256, 0, 0)
    with pytest.raises(ModelError, match="fixed at 256x256"):
        Letterbox.for_model(ours, 720, 1280, 320)
    theirs = Letterbox.for_model(read_model(write_ultralytics(tmp_path / "theirs.onnx")).info, 96, 96)
    assert (theirs.height, theirs.width, theirs.top, theirs.left, theirs.fill) == (64, 96, 0, 16, 114)
