"""Pictures from files: a folder of images, or one image; with deadlines, since a file system may be at the end of a network."""

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
"""Names of files that count as images end like this, in either case."""


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return what to sort by for `frame2.jpg` to come before `frame10.jpg`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name.casefold())]


def find_images(folder: Path) -> list[Path]:
    """Return the images in a folder (not below it), sorted naturally."""
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()), key=natural_key)


class ImageSource:
    """A folder of images, or one image; each is taken to have been made when its file was last written.

    Args:
        camera: name in the configuration.
        settings: of this camera.
        path: folder or image.
        epoch: number of times this camera was opened before.

    Raises:
        SourceError: there is no image, or the folder cannot be read.
    """

    live = False

    def __init__(self, camera: str, settings: schema.CameraConfig, path: Path, *, epoch: int = 0) -> None:
        self.camera = camera
        self.url = str(path)
        self.width = 0
        self.height = 0
        self.corrupt_frames = 0
        """Number of files so far that are not images whatever their name says."""
        self.stale_frames = 0
        """Files are never too late."""
        self.superseded_frames = 0
        """Nor do they replace one another."""
        self._settings = settings
        self._epoch = epoch
        self._sequence = 0
        self._next = 0
        self._told: set[Path] = set()  # those that could not be decoded: a loop tells of them once
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
        """Return the next image; files that cannot be decoded are counted and passed over.

        Raises:
            EndOfStream: there are no more.
            SourceError: none of the files could be decoded, or the source was closed.
        """
        timeout_s = self._settings.read_timeout_s
        deadline_s = time.monotonic() + timeout_s
        while True:
            if self._next == len(self._paths):
                self._start_again()
            path = self._paths[self._next]
            self._next += 1
            frame = self._call(partial(self._load, path), timeout_s, f"give {path.name}", "stalled")
            if frame is not None:
                self.width, self.height = frame.width, frame.height
                self._sequence += 1
                return frame
            self.corrupt_frames += 1
            if path not in self._told and len(self._paths) > 1:  # of a single one the error tells
                self._told.add(path)
                _log.warning("%s: %s cannot be decoded and is passed over", self._where, path.name)
            if time.monotonic() > deadline_s:
                raise SourceError(
                    f"{self._where} gave no picture for {timeout_s:g} s: {path.name} and others before it cannot be decoded",
                    "stalled",
                )

    def close(self) -> None:
        """Close the source, from any thread; a `read` that waits ends at once. May be called again."""
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
            raise EndOfStream(f"{self._where} is over after {self._sequence} pictures")
        self._next = 0

    def _load(self, path: Path) -> Frame | None:
        try:
            encoded = np.frombuffer(path.read_bytes(), np.uint8)
            captured_at = path.stat().st_mtime_ns
        except OSError:
            return None
        # OpenCV turns the picture as its EXIF orientation says.
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
        if image is None:
            return None
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), captured_at, "host", self._sequence, self.camera, self._epoch)
