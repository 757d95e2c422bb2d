"""Masks end to end: networks, tiles, crops of the refiner, videos and images of a run get no pixel of what is masked."""

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from edgepose.config.schema import CameraConfig, Config, FilesConfig, PoseConfig, RefineConfig, TilesConfig
from edgepose.engine import onnxruntime
from edgepose.pipeline.offline.run import run
from edgepose.pipeline.offline.settings import offline_config
from testing.onnx_files import write_edgepose, write_refiner

WIDTH, HEIGHT, HIDDEN, SHOWN = 640, 384, 250, 130
MASKS = {"window": [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]}


def write_source(path: Path, frames: int = 4) -> Path:
    """A video that is bright where the mask is, and less so elsewhere."""
    image = np.full((HEIGHT, WIDTH, 3), SHOWN, np.uint8)
    image[:, : WIDTH // 2 - 8] = HIDDEN  # of the chroma and blocks at the border nothing may reach beyond
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, "yuv420p", {"qscale": "2"}
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("masks", [MASKS, {}], ids=["masked", "not masked"])
def test_nothing_of_a_run_gets_a_masked_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masks: dict[str, Any]) -> None:
    seen: dict[str, list[int]] = {}
    for name in ("OnnxRuntimeBackend", "OnnxRuntimeRefinerBackend"):
        network = getattr(onnxruntime, name)
        original = network.run

        def spied(self: Any, images: np.ndarray, original: Any = original, name: str = name) -> Any:
            seen.setdefault(name, []).append(int(images.max()))
            return original(self, images)

        monkeypatch.setattr(network, "run", spied)
    source = write_source(tmp_path / "source.mp4")
    files = FilesConfig(video=str(tmp_path / "out.mp4"), images=str(tmp_path / "images"), jsonl=str(tmp_path / "poses.jsonl"))
    config = Config(tiles=TilesConfig(enabled=True), pose=PoseConfig(score_threshold=0.05), refine=RefineConfig(min_height_px=0))
    model, refiner = (str(path) for path in (write_edgepose(tmp_path / "tiny.onnx"), write_refiner(tmp_path / "again.onnx")))
    config = offline_config(config, str(source), files, model=model, refiner=refiner)
    ((name, camera),) = config.cameras.items()
    assert isinstance(camera, CameraConfig)
    summary = run(replace(config, cameras={name: replace(camera, masks=masks)}))
    assert (summary.frames, summary.people > 0) == (4, True)
    assert len(seen["OnnxRuntimeBackend"]) > 4  # tiles, too
    assert seen["OnnxRuntimeRefinerBackend"]
    shown = [max(values) for values in seen.values()]
    images = sorted((tmp_path / "images").iterdir())
    pictures = [np.asarray(cv2.imread(str(path))) for path in images]
    with av.open(str(tmp_path / "out.mp4")) as container:
        pictures += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 8
    bright = [float((picture[:, : picture.shape[1] // 2] > (HIDDEN + SHOWN) // 2).all(2).mean()) for picture in pictures]
    if masks:
        assert max(shown) < SHOWN + 15
        assert max(bright) < 0.1  # lines and numbers of people
    else:  # the test sees what it looks for
        assert min(shown) > HIDDEN - 15
        assert min(bright) > 0.4
