"""The video at an HTTP URL, whatever its answer turns out to be: pictures, a playlist, or a file or stream that FFmpeg reads."""

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
from numpy.typing import NDArray

from edgepose.capture import limits
from edgepose.capture.clock import NS_PER_S
from edgepose.capture.network.http import HttpAnswer, HttpClient, HttpFile
from edgepose.capture.network.playlists import PlaylistStream, is_playlist
from edgepose.capture.snapshots import HttpPictures
from edgepose.capture.stream import DecodedFrame, Stream
from edgepose.config import schema
from edgepose.errors import SourceError

_HEAD_BYTES = 64
_PICTURES = ("jpeg", "png", "webp", "bmp")


class HttpVideo:
    """The video at a URL, one blocking step at a time; one thread owns it, except for the counters and `abandon`.

    Args:
        url: `http://` or `https://`.
        where: name of the source in messages.
        settings: configuration of the camera.
        once: whether the URL of a picture is a file with one frame, rather than a camera.
    """

    def __init__(self, url: str, where: str, settings: schema.CameraConfig, *, once: bool) -> None:
        self._url = url
        self._where = where
        self._settings = settings
        self._once = once
        self._client: HttpClient | None = None
        self._inner: Stream | HttpPictures | None = None
        self._abandoned = False
        self._corrupt_before = 0  # of earlier openings

    def open(self) -> None:
        """Request the URL, and open what it answers.

        Raises:
            SourceError: there is no answer, or none with video; or any other exception of PyAV.
        """
        self.close()
        settings = self._settings
        self._client = HttpClient(
            self._url,
            self._where,
            ca_file=settings.ca_file,
            open_timeout_s=settings.open_timeout_s,
            read_timeout_s=settings.read_timeout_s,
        )
        if self._abandoned:
            self._client.abort()
        answer = self._client.get()
        self._inner = self._choose(self._client, answer)
        self._inner.open()

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame, or None at the end."""
        return None if self._inner is None else self._inner.next_frame()

    def image(self, frame: DecodedFrame) -> NDArray[np.uint8]:
        """Return the image of a frame as uint8 (H, W, 3), RGB, upright."""
        assert self._inner is not None
        return self._inner.image(frame)

    def abandon(self) -> None:
        """Let a `next_frame` in progress end; callable from any thread."""
        self._abandoned = True
        inner, client = self._inner, self._client
        if inner is not None:
            inner.abandon()
        if client is not None:
            client.abort()

    def close(self) -> None:
        """Close the video and its connections."""
        inner, self._inner = self._inner, None
        client, self._client = self._client, None
        if inner is not None:
            self._corrupt_before += inner.corrupt_frames
            inner.close()
        if client is not None:
            client.close()

    @property
    def finite(self) -> bool:
        """Whether it is a file, and not a camera."""
        return self._inner is not None and self._inner.finite

    @property
    def interval_ns(self) -> int:
        """Nominal time between two frames."""
        return NS_PER_S // 25 if self._inner is None else self._inner.interval_ns

    @property
    def patience_s(self) -> float:
        """How much longer than an ordinary stream it may wait for a frame."""
        return 0.0 if self._inner is None else self._inner.patience_s

    @property
    def decoding(self) -> bool:
        """Whether a frame is being decoded, which is no wait."""
        return self._inner is not None and self._inner.decoding

    @property
    def pixel_aspect(self) -> float:
        """Width of a stored pixel divided by its height; images have square pixels."""
        return 1.0 if self._inner is None else self._inner.pixel_aspect

    @property
    def notes(self) -> list[str]:
        """Sentences about choices that were made when it was opened."""
        return [] if self._inner is None else self._inner.notes

    @property
    def late_by_nature(self) -> bool:
        """Whether its frames may be late by any time."""
        return self._inner is not None and self._inner.late_by_nature

    @property
    def corrupt_frames(self) -> int:
        """Number of damaged frames."""
        return self._corrupt_before + (0 if self._inner is None else self._inner.corrupt_frames)

    @property
    def superseded_frames(self) -> int:
        """Always 0: every frame is delivered."""
        return 0

    @property
    def skips_unreferenced(self) -> bool:
        """Whether frames that no other frame needs are not decoded; pictures have none."""
        return isinstance(self._inner, Stream) and self._inner.skips_unreferenced

    @skips_unreferenced.setter
    def skips_unreferenced(self, skips: bool) -> None:
        if isinstance(self._inner, Stream):
            self._inner.skips_unreferenced = skips

    @property
    def skipped_frames(self) -> int:
        """Number of frames that were not decoded for that reason."""
        return self._inner.skipped_frames if isinstance(self._inner, Stream) else 0

    @property
    def packets_without_frame(self) -> int:
        """Number of packets since the last frame."""
        return 0 if self._inner is None else self._inner.packets_without_frame

    def _choose(self, client: HttpClient, answer: HttpAnswer) -> Stream | HttpPictures:
        """Return what reads an answer: by its first bytes, then by its type, since cameras often get the type wrong."""
        head = answer.peek(_HEAD_BYTES)
        settings, limit_bytes = self._settings, self._settings.frame_limit_mb * limits.MB
        timeouts = {"open_timeout_s": settings.open_timeout_s + 1, "read_timeout_s": settings.read_timeout_s}
        if is_playlist(head):
            return PlaylistStream(client, answer, self._where, **timeouts, limit_bytes=limit_bytes)
        picture = limits.read_header(head)
        is_jpeg = head.startswith(b"\xff\xd8\xff")
        if is_jpeg or (picture is not None and picture.kind in _PICTURES) or _is_multipart(answer, head):
            rate = settings.rate or 1.0
            return HttpPictures(client, answer, self._where, limit_bytes=limit_bytes, rate=rate, once=self._once)
        if answer.content_type == "text/html" or head.lstrip()[:9].lower() in (b"<!doctype", b"<html>"):
            raise SourceError(
                f"{self._where} is a web page; expected the address of the stream itself, as in the camera's manual", "unsupported"
            )
        return _HttpContainer(client, answer, self._where, **timeouts, limit_bytes=limit_bytes)


def _is_multipart(answer: HttpAnswer, head: bytes) -> bool:
    if answer.content_type.startswith(("multipart/", "image/jp", "video/x-motion-jpeg", "video/mjpeg", "video/x-mjpeg")):
        return True
    return head.lstrip().startswith(b"--") or b"image/jp" in head.lower()


class _HttpContainer(Stream):
    """A file or stream in a format of FFmpeg, whose bytes `client` requests."""

    def __init__(
        self, client: HttpClient, answer: HttpAnswer, where: str, *, open_timeout_s: float, read_timeout_s: float, limit_bytes: int
    ) -> None:
        super().__init__(
            answer.url,
            {},
            where,
            open_timeout_s=open_timeout_s,
            read_timeout_s=read_timeout_s,
            is_file=False,
            low_delay=True,
            limit_bytes=limit_bytes,
        )
        self._file = HttpFile(client, answer, limit_bytes, where, PurePosixPath(urlsplit(answer.url).path).name)

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame, or None at the end."""
        decoded = super().next_frame()
        self._file.frame_came()
        return decoded

    def _open_container(self) -> Any:
        options = {
            # Only probing identifies the format; FFmpeg's default of 5 s is longer than our default timeout.
            "analyzeduration": "1000000",
            "format_whitelist": limits.FORMATS,
            "max_pixels": str(limits.maximum_pixels(self.limit_bytes)),
        }
        try:
            return av.open(self._file, options=options, timeout=self._timeouts, metadata_errors="ignore", io_open=self._refuse)
        except av.ArgumentError as error:  # not on the list
            raise SourceError(
                f"{self.where} has a format that is not read from a network; expected MPEG-TS, MP4, Matroska, FLV or MJPEG", "unsupported"
            ) from error

    def _refuse(self, url: str, flags: int, options: dict[str, str]) -> Any:
        raise SourceError(f"{self.where} names another address; expected a video that is complete in itself", "forbidden")
