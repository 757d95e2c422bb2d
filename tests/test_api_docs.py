"""The examples of docs/python.md run as they stand, one after the other."""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgepose
from edgepose.output.video import VideoWriter
from edgepose.pixels import unguarded

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
CLIP = Path(edgepose.__file__).parent / "assets" / "demo.mp4"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    video = cv2.VideoCapture(str(CLIP))
    frames = [np.asarray(video.read()[1], np.uint8) for _ in range(8)]
    video.release()
    cv2.imwrite("street.png", frames[0])
    with VideoWriter("walk.mp4") as walk:  # short: each frame takes all of its tiles
        for number, frame in enumerate(frames):
            walk.write(unguarded(np.ascontiguousarray(frame[..., ::-1])), number * 40_000_000)
    names: dict[str, Any] = {}
    for number, example in enumerate(EXAMPLES):
        exec(compile(example, f"{PAGE.name}, example {number + 1}", "exec"), names)
    printed = capsys.readouterr().out
    assert "nose (0, 1)" in printed
    assert "people\n" in printed
    assert "image is uint8 (480, 640), a gray picture; expected uint8 (height, width, 3)" in printed
    assert np.asarray(cv2.imread("drawn.png")).shape == (480, 640, 3)
