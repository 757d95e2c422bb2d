"""Source of image files: a folder of images, a pattern, a list, or one image; with deadlines, since files may be on a network."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from edgepose.capture.clock import NS_PER_S
from edgepose.capture.files.facts import SourceFacts
from edgepose.capture.files.faults import HEIC_FAULT, fault_of
from edgepose.capture.files.listing import HEIC_SUFFIXES, IMAGE_SUFFIXES, Listing, is_heic, is_pattern, list_images
from edgepose.capture.files.pictures import Picture, Pictures, decode_pictures
from edgepose.capture.limits import MB
from edgepose.capture.presentation import blackened
from edgepose.capture.worker import Worker, WorkerClosedError, WorkerTimeoutError
from edgepose.config import schema
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Clock, Frame

T = TypeVar("T")

_log = logging.getLogger(__name__)

DEFAULT_RATE = 25.0
"""Frames per second of the images in a folder, as FFmpeg assumes too."""

_DECODING_S = 120.0
"""Deadline of decoding: a picture of 100 megapixels takes seconds, and the file system has no part in it."""


class ImageSource:
    """A folder of images, the images that a pattern or a list names, or one image.

    The dates of files do not say when frames were taken: they were copied or unzipped. So images follow one another at a fixed rate
    (`rate`), from the date of the first file on. The number of a frame is the place of its file: a file that cannot be decoded leaves a
    gap.

    Args:
        camera: name in the configuration.
        settings: configuration of the camera.
        path: folder, pattern or image; with `images` only a name for messages.
        images: the images, in order; None to look for them.
        epoch: number of times this camera was opened before.

    Raises:
        SourceError: there is no image, or the folder cannot be read.
    """

    live = False
    patience_s = 0.0

    def __init__(
        self, camera: str, settings: schema.CameraConfig, path: Path, *, images: Sequence[Path] | None = None, epoch: int = 0
    ) -> None:
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
        self.facts = SourceFacts()
        """What was skipped, and how many frames there should be."""
        self._settings = settings
        self._epoch = epoch
        self._interval_ns = round(NS_PER_S / (settings.rate or DEFAULT_RATE))
        self._begin_ns: int | None = None
        self._elapsed_ns = 0
        self._sequence = 0
        self._delivered = 0
        self._next = 0
        self._waiting: deque[Picture] = deque()  # further frames or pages of the last file
        self._reported: set[Path] = set()  # files that could not be decoded: a loop reports each once
        self._where = f"camera {camera}: {path}"
        self._worker = Worker(f"capture-{camera}", lambda: None)
        try:
            listing = self._call(partial(_listing, path, images), settings.open_timeout_s, "open", "timeout")
        except OSError as error:
            self._worker.close()
            raise SourceError(f"{self._where} cannot be listed ({error.strerror})", "unauthorized") from error
        self._paths = listing.images
        for skipped, cause in listing.skipped:
            self.facts.skip(cause, str(skipped))
        if not self._paths:
            self._worker.close()
            if is_pattern(path) and not self.facts.skipped:
                raise SourceError(
                    f"{self._where} matches no file; expected a pattern such as 'frames/*.png' or frame_%04d.png", "not_found"
                )
            raise SourceError(f"{self._where} {_nothing(self.facts)}; {', '.join(IMAGE_SUFFIXES)} are accepted", "no_video")
        if self.facts.skipped:
            _log.info("%s: %s", self._where, _skipped(self.facts))
        self.facts.expected_frames = len(self._paths)
        if len(self._paths) > 1 and not settings.rate:
            self.facts.notes.append(
                f"{self._where}: the images follow at {DEFAULT_RATE:g} frames/s, whatever their files' dates (`rate` or --rate changes it)"
            )

    def begin_at(self, start_ns: int) -> None:
        """Set the capture time of the first frame, ns since the Unix epoch; before the first `read`."""
        self._begin_ns = start_ns

    def read(self) -> Frame:
        """Return the next image; files that cannot be decoded are counted and skipped.

        Raises:
            EndOfStream: there are no more images.
            SourceError: none of the files could be decoded, or the source was closed.
        """
        while not self._waiting:
            if self._next == len(self._paths):
                self._start_again()
            path = self._paths[self._next]
            self._next += 1
            pictures = self._load(path)
            if pictures is not None:
                self._waiting.extend(pictures.pictures)
            else:
                self.corrupt_frames += 1
                self._advance(0)
        return self._frame(self._waiting.popleft(), self._paths[self._next - 1])

    def close(self) -> None:
        """Close the source from any thread, which ends a waiting `read` immediately; idempotent."""
        self._worker.close()

    def _frame(self, picture: Picture, path: Path) -> Frame:
        assert self._begin_ns is not None
        clock: Clock = "host" if len(self._paths) == 1 else "stream"
        captured_at_ns = self._begin_ns + self._elapsed_ns
        image = blackened(picture.image, self._settings.masks)
        frame = Frame(image, captured_at_ns, clock, self._sequence, self.camera, self._epoch, file=str(path), full_size=picture.full_size)
        self.width, self.height = frame.width, frame.height
        self._delivered += 1
        self._advance(picture.duration_ms)
        return frame

    def _advance(self, duration_ms: int) -> None:
        self._sequence += 1
        self._elapsed_ns += duration_ms * NS_PER_S // 1000 if duration_ms > 0 else self._interval_ns

    def _call(self, task: Callable[[], T], timeout_s: float, what: str, cause: str) -> T:
        try:
            return self._worker.call(task, timeout_s)
        except WorkerClosedError:
            raise SourceError(f"{self._where} is closed", "closed") from None
        except WorkerTimeoutError:
            self._worker.close()
            raise SourceError(f"{self._where} did not {what} within {timeout_s:g} s", cause) from None

    def _start_again(self) -> None:
        if not self._delivered:
            raise SourceError(self._nothing_decoded(), "unsupported")
        if not self._settings.loop:
            raise EndOfStream(f"{self._where} ended after {self._delivered} images")
        self._next = 0

    def _nothing_decoded(self) -> str:
        accepted = f"images in {', '.join(IMAGE_SUFFIXES)} are accepted"
        if len(self._paths) > 1:
            return f"{self._where}: none of these {len(self._paths)} files could be decoded ({_skipped(self.facts)}); {accepted}"
        fault = fault_of(self._paths[0])
        if fault is not None:
            return f"{self._where} {fault}"
        return f"{self._where}: this file could not be decoded, it is damaged or no image; {accepted}"

    def _load(self, path: Path) -> Pictures | None:
        """Return the pictures in a file, None where it cannot be decoded: reading has a deadline, decoding another."""
        content = self._call(partial(_read, path), self._settings.read_timeout_s, f"deliver {path.name}", "stalled")
        if content is None:
            self._refuse(path, "unreadable", "cannot be read")
            return None
        encoded, modified_ns = content
        if self._begin_ns is None:
            self._begin_ns = modified_ns
        if not encoded:
            self._refuse(path, "empty", "is empty (0 bytes)")
            return None
        if path.suffix.lower() in HEIC_SUFFIXES or is_heic(encoded[:12]):
            self._refuse(path, "heic", HEIC_FAULT)
            return None
        limit_bytes = self._settings.frame_limit_mb * MB
        try:
            decode = partial(decode_pictures, encoded, limit_bytes, f"camera {self.camera}: {path}")
            pictures = self._call(decode, _DECODING_S, f"decode {path.name}", "failed")
        except SourceError as error:
            if error.cause != "too_large" or len(self._paths) == 1:
                raise
            self._refuse(path, "too_large", f"is too large ({error})")
            return None
        if pictures is None:
            self._refuse(path, "damaged", "cannot be decoded")
            return None
        if pictures.left_out and path not in self._reported:
            self._reported.add(path)
            read = len(pictures.pictures)
            self.facts.notes.append(f"{path}: only the first {read} of its frames are read; convert it to a video to have all")
            _log.warning("%s: of %s only the first %d frames are read; convert it to a video to have all", self._where, path.name, read)
        return pictures

    def _refuse(self, path: Path, cause: str, why: str) -> None:
        if path in self._reported:
            return
        self._reported.add(path)
        self.facts.skip(cause, str(path))
        if len(self._paths) > 1:  # the error reports a single one
            _log.warning("%s: %s %s and is skipped", self._where, path.name, why)


def _listing(path: Path, images: Sequence[Path] | None) -> Listing:
    return list_images(path) if images is None else Listing(list(images), [])


def _read(path: Path) -> tuple[bytes, int] | None:
    try:
        return path.read_bytes(), path.stat().st_mtime_ns
    except OSError:
        return None


def _nothing(facts: SourceFacts) -> str:
    return f"holds no images ({_skipped(facts)})" if facts.skipped else "holds no images"


def _skipped(facts: SourceFacts) -> str:
    return f"skipped {', '.join(f'{len(names)} {CAUSE_WORDS[cause]}' for cause, names in facts.skipped.items())}"


CAUSE_WORDS = {
    "heic": "in HEIC or AVIF",
    "video": "videos",
    "folder": "folders",
    "other": "of another kind",
    "empty": "empty",
    "damaged": "damaged",
    "too_large": "too large",
    "unreadable": "unreadable",
    "failed": "failed",
}
"""The causes for which files are skipped, in words that follow a number."""
