import gc
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from edgepose.capture.presentation import RgbConverter
from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from testing.videos import write_video


@pytest.mark.parametrize("name", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuvj444p", "yuv420p10le", "gray", "nv12", "rgb24"])
@pytest.mark.parametrize("width", [98, 130])
def test_values_are_those_of_the_scaler(name: str, width: int) -> None:
    image = np.random.default_rng(3).integers(0, 256, (66, 98, 3), np.uint8)
    decoded = VideoReformatter().reformat(av.VideoFrame.from_ndarray(image, format="rgb24"), 98, 66, format=name)
    expected = VideoReformatter().reformat(decoded, width, 66, format="rgb24", threads=1).to_ndarray()
    assert np.array_equal(RgbConverter(threads=1).convert(decoded, width), expected)


def test_frames_of_other_sizes_and_formats_may_follow_and_share_nothing() -> None:
    converter = RgbConverter(threads=1)
    images = [np.full((height, 64, 3), value, np.uint8) for height, value in ((32, 10), (48, 90), (32, 200), (32, 90))]
    frames = [av.VideoFrame.from_ndarray(image, format="rgb24") for image in images]
    formats = ("yuv420p", "yuv420p", "yuvj444p", "yuv420p")
    converted = [
        converter.convert(VideoReformatter().reformat(frame, 64, frame.height, format=name), 64)
        for frame, name in zip(frames, formats, strict=True)
    ]
    for image, result in zip(images, converted, strict=True):
        assert result.shape == image.shape
        assert np.abs(result.astype(int) - image).max() <= 3


def test_no_frame_waits_for_garbage_collection(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", 40, rate=10)
    with closing(open_source("front", CameraConfig(source=str(path)))) as source:
        source.read()
        gc.collect()
        gc.disable()
        try:
            for _ in range(30):
                source.read()
            assert gc.collect() < 30
        finally:
            gc.enable()
