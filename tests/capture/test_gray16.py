"""16-bit gray of thermal cameras: what the frames hold is shown, or a fixed span, and nothing flickers."""

from pathlib import Path

import av
import numpy as np
import pytest

from edgepose.capture.presentation import Gray16Span
from edgepose.capture.source import open_source
from edgepose.config.cross_checks import check_together
from edgepose.config.schema import CameraConfig, Config
from edgepose.errors import ConfigError

COLD, WARM = 29_315, 31_015  # 20 and 37 degrees Celsius in hundredths of a kelvin


def scene() -> np.ndarray:
    counts = np.full((64, 80), COLD, np.uint16)
    counts[20:44, 30:50] = WARM
    return counts


def test_what_the_frames_hold_is_shown_from_black_to_white() -> None:
    image = Gray16Span().image(scene())
    assert image.shape == (64, 80, 3)
    assert (image[0, 0].tolist(), image[30, 40].tolist()) == ([0, 0, 0], [255, 255, 255])


def test_a_fixed_span_gives_the_same_gray_for_the_same_temperature() -> None:
    span = Gray16Span((COLD - 1000, COLD + 3000))
    assert span.image(scene())[0, 0, 0] == span.image(np.full((8, 8), COLD, np.uint16))[0, 0, 0] == 64


def test_a_scene_of_one_temperature_is_not_made_of_noise() -> None:
    noise = COLD + np.random.default_rng(1).normal(0, 2, (64, 80))
    assert Gray16Span().image(noise.astype(np.uint16)).std() < 16


def test_a_hot_thing_that_appears_does_not_darken_the_rest_at_once() -> None:
    span, hot = Gray16Span(), scene()
    before = int(span.image(scene())[30, 40, 0])
    hot[:10, :10] = 65_000
    assert before - int(span.image(hot)[30, 40, 0]) < 200
    for _ in range(60):
        last = span.image(hot)
    assert last[30, 40, 0] < 40


@pytest.mark.parametrize("span", [None, (29_000.0, 32_000.0)])
def test_a_thermal_video_keeps_what_differs(tmp_path: Path, span: tuple[float, float] | None) -> None:
    path = tmp_path / "thermal.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", 10)
        stream.width, stream.height, stream.pix_fmt = 80, 64, "gray16le"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(), format="gray16le")))
        container.mux(stream.encode(None))
    source = open_source("thermal", CameraConfig(source=str(path), gray16_span=span))
    try:
        image = source.read().image
    finally:
        source.close()
    assert image.shape == (64, 80, 3)
    assert int(image[30, 40, 0]) - int(image[0, 0, 0]) > 100


def test_a_span_that_is_turned_round_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected the darker count first"):
        check_together(Config(cameras={"a": CameraConfig(source="x", gray16_span=(5.0, 1.0))}))
