"""Masks: what lies in them is black in every frame that a source delivers, before anything else sees it."""

import ast
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.capture.presentation import blackened
from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream
from testing.videos import write_video

MASKS = {"window": [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5)], "corner": [(1.0, 1.0), (0.9, 1.0), (1.0, 0.9)]}
DECODERS = ("av.open", "cv2.imread", "cv2.imdecode", "cv2.VideoCapture")
PACKAGE = Path(__file__).parents[2] / "edgepose"
CAPTURE = Path(__file__).parents[2] / "edgepose" / "capture"


def test_only_what_lies_in_a_mask_is_black_its_edge_too() -> None:
    image = np.full((100, 200, 3), 200, np.uint8)
    masked = blackened(image, MASKS)
    assert masked is image
    assert not masked[:51, :101].any()
    assert (masked[53:, :150] == 200).all()
    assert not masked[99, 199].any()
    read_only = np.full((100, 200, 3), 200, np.uint8)
    read_only.flags.writeable = False
    assert not blackened(read_only, MASKS)[:50, :100].any()
    assert (read_only == 200).all()
    assert blackened(read_only, {}) is read_only


@pytest.mark.parametrize("kind", ["video", "image"])
def test_every_frame_of_a_source_is_masked(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("white.mp4" if kind == "video" else "white.png")
    if kind == "video":
        write_video(path, 5, size=(200, 100), index=10)  # grays from 120 on
    else:
        cv2.imwrite(str(path), np.full((100, 200, 3), 255, np.uint8))
    source = open_source("a", CameraConfig(source=str(path), masks=MASKS))
    for _ in range(5 if kind == "video" else 1):
        frame = source.read()
        assert frame.image[:48, :98].max() == 0
        assert frame.image[60:, :150].min() > 100
    with pytest.raises(EndOfStream):
        source.read()
    source.close()


def test_no_frame_is_made_without_its_masks() -> None:
    """The gate: every `Frame(...)` of the capture package gets its image from `blackened`."""
    made = 0
    for path in CAPTURE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Frame":
                made += 1
                text = ast.unparse(node.args[0])
                assert text == "self._masked(image)" or (path.name == "images.py" and text == "image"), f"{path}: {text}"
    assert made == 3


def calls(tree: ast.AST) -> list[str]:
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_pixels_come_into_the_program_through_the_gate_alone() -> None:
    """Of the other places that make a frame or decode pixels, none has those of a camera.

    A replay and the simulation have no pixels, `doctor` makes its own, the golden check reads a picture of the package, two write, the
    Python API gets arrays from its caller, and a job of the web page and retention only look how long a video is.
    """
    others: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if CAPTURE not in path.parents:
            made = [name for name in calls(ast.parse(path.read_text())) if name == "Frame" or name.startswith(DECODERS)]
            others |= {str(path.relative_to(PACKAGE)): made} if made else {}
    assert others == {
        "api.py": ["Frame", "Frame"],
        "engine/golden.py": ["cv2.imread"],
        "simulation/camera.py": ["Frame"],
        "pipeline/replay.py": ["Frame"],
        "diagnostics/doctor.py": ["Frame"],
        "diagnostics/bench_sources.py": ["av.open"],
        "output/retention.py": ["av.open"],
        "output/video.py": ["av.open", "av.open"],
        "web/job_process.py": ["av.open"],
    }
