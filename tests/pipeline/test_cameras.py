"""Camera threads are replaced without looking, even for a moment, as if all cameras had ended."""

import pytest

import edgepose.pipeline.cameras
from edgepose.config.schema import CameraConfig
from edgepose.pipeline.cameras import Cameras


class Thread:
    """A camera thread that hangs once it is started, and tells whether the cameras looked ended while it started."""

    cameras: Cameras
    looked_ended: list[bool]

    def __init__(self, name: str, camera: CameraConfig, *_: object, **__: object) -> None:
        self.name, self.camera = f"camera-{name}", camera
        self.heartbeat = self
        self.paused = False
        self.restarts = 0
        self._started = False

    def start(self) -> None:
        Thread.looked_ended.append(Thread.cameras.done())
        self._started = True

    def is_alive(self) -> bool:
        return self._started

    def stuck(self, now_s: float) -> bool:
        return True

    def abandon(self) -> None:
        pass

    def where(self) -> str:
        return "cv.py:1 in read"


def test_a_camera_that_is_replaced_never_looks_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgepose.pipeline.cameras, "CameraThread", Thread)
    arguments = (lambda: None, None, None, lambda state: None)
    Thread.cameras = Cameras({"front": CameraConfig(source="x")}, *arguments, forever=True)  # type: ignore[arg-type]
    Thread.looked_ended = []
    Thread.cameras.start()
    Thread.looked_ended = []
    assert Thread.cameras.replace_stuck(0.0) == ["camera-front"]
    assert Thread.looked_ended == [False]
