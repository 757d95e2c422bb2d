"""Pictures over HTTP: a stream of them (MJPEG), or a snapshot URL, which gives one and is requested again at a rate."""

import threading
import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from edgepose.capture import limits
from edgepose.capture.clock import NS_PER_S, Instant
from edgepose.capture.network.http import HttpAnswer, HttpClient
from edgepose.capture.network.jpegs import JpegSplitter
from edgepose.capture.stream import DecodedFrame
from edgepose.errors import SourceError

_CHUNK_BYTES = 65_536
_LONGEST_REST_S = 60.0
_ENCODED_SHARE = 2
"""An encoded picture takes at most this part of the memory that its image may take."""


class HttpPictures:
    """The pictures of an HTTP camera, one blocking step at a time; one thread owns it, except for the counters and `abandon`.

    An answer that holds one picture and ends is a snapshot: it is requested again, `rate` times a second.

    Args:
        client: makes the requests.
        answer: the first one.
        where: name of the source in messages.
        limit_bytes: most memory of one picture.
        rate: requests of a snapshot per second.
        once: whether a snapshot is a file with one frame, rather than a camera.
    """

    late_by_nature = False
    pixel_aspect = 1.0

    def __init__(self, client: HttpClient, answer: HttpAnswer, where: str, *, limit_bytes: int, rate: float, once: bool) -> None:
        self._client = client
        self._answer = answer
        self._where = where
        self._limit_bytes = limit_bytes
        self._once = once
        self._every_s = 1 / rate
        self._abandoned = threading.Event()
        self._splitter = self._new_splitter()
        self._pending: deque[bytes] = deque()
        self._received = 0  # pictures of this answer
        self._due_s = 0.0
        self._is_snapshot = False
        self._multipart = answer.content_type.startswith("multipart/")
        self.decoding = False
        """Whether a picture is being decoded, which is no wait."""
        self.finite = False
        """Whether it is a file on a web server, and not a camera."""
        self.interval_ns = NS_PER_S // 25
        """Nominal time between two frames."""
        self.patience_s = 0.0
        """How much longer than an ordinary stream it may wait for a frame."""
        self.corrupt_frames = 0
        """Number of damaged pictures."""
        self.superseded_frames = 0
        """Always 0: every picture is delivered."""
        self.packets_without_frame = 0
        """Number of damaged pictures since the last good one."""
        self.notes: list[str] = []
        """Sentences about choices that were made when it was opened."""

    def open(self) -> None:
        """Wait for the first picture, and find out whether more follow.

        Raises:
            SourceError: no picture comes, or one that is too large.
        """
        first = self._first()
        if first is None:
            raise SourceError(f"{self._where} holds no picture; expected JPEG, PNG, WebP or BMP, or a stream of JPEG", "unsupported")
        self._pending.append(first)
        at_end = not self._multipart and self._at_end()
        if (second := self._splitter.take()) is not None:
            self._received += 1
            self._pending.append(second)
        elif at_end:
            self._become_snapshot()
        self.finite = self._once if self._is_snapshot else self._answer.length is not None and not self._multipart

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame, or None at the end."""
        while not self._abandoned.is_set():
            encoded = self._next_encoded()
            if encoded is None:
                return None
            arrival = Instant.now()
            image = self._decode(encoded)
            if image is not None:
                self.packets_without_frame = 0
                return DecodedFrame(image, None, None, arrival)
            self.corrupt_frames += 1
            self.packets_without_frame += 1
        return None

    def image(self, frame: DecodedFrame) -> NDArray[np.uint8]:
        """Return the image of a frame as uint8 (H, W, 3), RGB, upright."""
        image: NDArray[np.uint8] = frame.decoded
        return image

    def abandon(self) -> None:
        """Let a `next_frame` in progress end; callable from any thread."""
        self._abandoned.set()
        self._client.abort()

    def close(self) -> None:
        """Close the connection."""
        self._answer.close()

    def _decode(self, encoded: bytes) -> NDArray[np.uint8] | None:
        began_s = time.monotonic()
        self.decoding = True
        try:
            decoded = limits.decode_picture(encoded, self._limit_bytes, self._where)
        finally:
            self.decoding = False
        if decoded is None:
            return None
        image, factor = decoded
        if factor > 1 and not self.finite:
            # The larger a picture is beyond what any network needs, the longer its camera waits: other cameras need the cores.
            now_s = time.monotonic()
            rest_s = min((now_s - began_s) * factor**2 / 4, _LONGEST_REST_S)
            self._due_s = max(self._due_s, now_s + rest_s)
            self.patience_s = max(self.patience_s, rest_s)
        return image

    def _next_encoded(self) -> bytes | None:
        if self._pending:
            return self._pending.popleft()
        if self._is_snapshot and self.finite:
            return None
        self._abandoned.wait(max(0.0, self._due_s - time.monotonic()))
        if self._abandoned.is_set():
            return None
        return self._snapshot() if self._is_snapshot else self._of_stream()

    def _of_stream(self) -> bytes | None:
        encoded = self._receive()
        if encoded is None and self._received == 1 and not self._abandoned.is_set():
            self._become_snapshot()  # a stream of one picture, of a server that likes multipart
            self._abandoned.wait(max(0.0, self._due_s - time.monotonic()))
            return self._snapshot()
        return encoded

    def _snapshot(self) -> bytes | None:
        self._schedule()
        self._answer = self._client.get()
        self._splitter = self._new_splitter()
        try:
            return self._first() or b""
        finally:
            self._answer.close()

    def _become_snapshot(self) -> None:
        self._answer.close()
        self._is_snapshot = True
        self.interval_ns = round(self._every_s * NS_PER_S)
        self.patience_s = self._every_s
        self._due_s = time.monotonic() + self._every_s

    def _schedule(self) -> None:
        """Set when the next snapshot is due; after a delay, the rate goes on from now."""
        now_s = time.monotonic()
        self._due_s = max(self._due_s + self._every_s, now_s)

    def _first(self) -> bytes | None:
        """Return the first picture of an answer; one that is not a JPEG is the whole answer."""
        header = limits.read_header(self._answer.peek(64))
        if header is not None and header.kind != "jpeg":
            return self._whole()
        return self._receive()

    def _whole(self) -> bytes:
        body = bytearray()
        while data := self._answer.read(_CHUNK_BYTES):
            body += data
            limits.refuse_large_part(len(body), self._limit_bytes // _ENCODED_SHARE, self._where)
        return bytes(body)

    def _receive(self) -> bytes | None:
        """Return the next picture of the answer, None at its end."""
        while (encoded := self._splitter.take()) is None:
            data = self._answer.read(_CHUNK_BYTES)
            if not data:
                return None
            self._splitter.feed(data)
            self.corrupt_frames += self._splitter.damaged
            self._splitter.damaged = 0
        self._received += 1
        return encoded

    def _at_end(self) -> bool:
        """Return whether the answer holds nothing more; a camera sends soon what follows."""
        if self._answer.length is not None:
            return self._answer.taken >= self._answer.length
        data = self._answer.read(_CHUNK_BYTES)
        self._splitter.feed(data)
        return not data

    def _new_splitter(self) -> JpegSplitter:
        return JpegSplitter(self._limit_bytes // _ENCODED_SHARE, self._where)
