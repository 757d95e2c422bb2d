"""Source of image files: a folder of images, or one image; with deadlines, since the file system may be on a network."""

import logging
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from edgepose.capture.worker import Worker, WorkerClosedError, WorkerTimeoutError
from edgepose.config import schema
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame

T = TypeVar("T")

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""File name suffixes of images, in lower or upper case."""


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts `frame2.jpg` before `frame10.jpg`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name.casefold())]


def find_images(folder: Path) -> list[Path]:
    """Return the images in a folder, without subfolders, in natural order."""
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()), key=natural_key)


class ImageSource:
    """A folder of images, or one image; the capture time of an image is when its file was last modified.

    Args:
        camera: name in the configuration.
        settings: configuration of the camera.
        path: folder or image.
        epoch: number of times this camera was opened before.

    Raises:
        SourceError: there is no image, or the folder cannot be read.
    """

    live = False
    patience_s = 0.0

    def __init__(self, camera: str, settings: schema.CameraConfig, path: Path, *, epoch: int = 0) -> None:
        self.camera = camera
        self.url = str(path)
        self.width = 0
        self.height = 0
        self.corrupt_frames = 0
        """Number of files so far that could not be decoded."""
        self.stale_frames = 0
        """Always 0: files are never late."""
        self.superseded_frames = 0
        """Always 0: every file is read."""
        self._settings = settings
        self._epoch = epoch
        self._sequence = 0
        self._next = 0
        self._reported: set[Path] = set()  # files that could not be decoded: a loop reports each once
        self._where = f"camera {camera}: {path}"
        self._worker = Worker(f"capture-{camera}", lambda: None)
        try:
            self._paths = self._call(lambda: find_images(path) if path.is_dir() else [path], settings.open_timeout_s, "open", "timeout")
        except OSError as error:
            self._worker.close()
            raise SourceError(f"{self._where} cannot be listed ({error.strerror})", "unauthorized") from error
        if not self._paths:
            self._worker.close()
            raise SourceError(f"{self._where} holds no images; {', '.join(IMAGE_SUFFIXES)} are accepted", "no_video")

    def read(self) -> Frame:
        """Return the next image; files that cannot be decoded are counted and skipped.

        Raises:
            EndOfStream: there are no more images.
            SourceError: none of the files could be decoded, or the source was closed.
        """
        timeout_s = self._settings.read_timeout_s
        deadline_s = time.monotonic() + timeout_s
        while True:
            if self._next == len(self._paths):
                self._start_again()
            path = self._paths[self._next]
            self._next += 1
            frame = self._call(partial(self._load, path), timeout_s, f"deliver {path.name}", "stalled")
            if frame is not None:
                self.width, self.height = frame.width, frame.height
                self._sequence += 1
                return frame
            self.corrupt_frames += 1
            if path not in self._reported and len(self._paths) > 1:  # the error reports a single one
                self._reported.add(path)
                _log.warning("%s: %s cannot be decoded and is skipped", self._where, path.name)
            if time.monotonic() > deadline_s:
                raise SourceError(
                    f"{self._where} delivered no frame for {timeout_s:g} s: {path.name} and the files before it cannot be decoded",
                    "stalled",
                )

    def close(self) -> None:
        """Close the source from any thread, which ends a waiting `read` immediately; idempotent."""
        self._worker.close()

    def _call(self, task: Callable[[], T], timeout_s: float, what: str, cause: str) -> T:
        try:
            return self._worker.call(task, timeout_s)
        except WorkerClosedError:
            raise SourceError(f"{self._where} is closed", "closed") from None
        except WorkerTimeoutError:
            self._worker.close()
            raise SourceError(f"{self._where} did not {what} within {timeout_s:g} s", cause) from None

    def _start_again(self) -> None:
        if not self._sequence:
            raise SourceError(
                f"{self._where}: {'this file could not' if len(self._paths) == 1 else f'none of these {len(self._paths)} files could'}"
                f" be decoded; images in {', '.join(IMAGE_SUFFIXES)} are accepted",
                "unsupported",
            )
        if not self._settings.loop:
            raise EndOfStream(f"{self._where} ended after {self._sequence} images")
        self._next = 0

    def _load(self, path: Path) -> Frame | None:
        try:
            encoded = np.frombuffer(path.read_bytes(), np.uint8)
            captured_at_ns = path.stat().st_mtime_ns
        except OSError:
            return None
        # OpenCV applies the EXIF orientation.
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
        if image is None:
            return None
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), captured_at_ns, "host", self._sequence, self.camera, self._epoch)
