"""HLS playlists: what a playlist says, and their streams, which are late by nature and are shown at their own pace (RFC 8216)."""

import re
import threading
import time
from typing import Any
from urllib.parse import urljoin

import av

from edgepose.capture import limits
from edgepose.capture.clock import NS_PER_S, Instant
from edgepose.capture.network.http import HttpAnswer, HttpClient
from edgepose.capture.redact import show
from edgepose.capture.stream import DecodedFrame, Stream
from edgepose.errors import SourceError

_VARIANT = re.compile(r"^#EXT-X-STREAM-INF:[^\n]*\n(?:#[^\n]*\n|\s*\n)*([^#\s][^\n]*)", re.MULTILINE)
_TARGET = re.compile(r"^#EXT-X-TARGETDURATION:\s*([0-9]+)", re.MULTILINE)
_KEY = re.compile(r"^#EXT-X-(?:SESSION-)?KEY:(?:[^\n]*[,:])?METHOD=([A-Z0-9-]+)", re.MULTILINE)
_LONGEST_SEGMENT_S = 60
_DELIVERY = 3.0  # a server adds a segment each target duration; a player waits for three of them (RFC 8216, 6.3.3)
_LATE_S = 1.0
"""A frame that is later than this moves the clock of the stream: the next ones follow at their own pace."""


def is_playlist(head: bytes) -> bool:
    """Return whether a text begins as a playlist does."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"#EXTM3U")


class PlaylistStream(Stream):
    """A stream of segments that a playlist names; every segment is requested by `client`.

    Frames come in segments, all at once and seconds late. They are delivered at the pace of their timestamps.

    Args:
        client: makes the requests.
        answer: with the playlist.
        where: name of the source in messages.
        open_timeout_s, read_timeout_s: as for `Stream`.
        limit_bytes: most memory of one frame.
    """

    late_by_nature = True

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
        self._client = client
        self._answer: HttpAnswer | None = answer
        self._requests = 0  # since the last frame
        self._refused: SourceError | None = None  # once refused, FFmpeg must not go on to other segments
        self._ended = threading.Event()
        self._begin_ns: int | None = None  # monotonic time at which the frame with the timestamp 0 is due

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame when it is due, or None at the end."""
        decoded = super().next_frame()
        self._requests = 0
        if decoded is None or decoded.pts_ns is None or self.finite:
            return decoded
        now_ns = time.monotonic_ns()
        if self._begin_ns is None or not 0 <= self._begin_ns + decoded.pts_ns - now_ns + round(_LATE_S * NS_PER_S) <= self._ahead_ns():
            self._begin_ns = now_ns - decoded.pts_ns
        due_ns = self._begin_ns + decoded.pts_ns
        self._ended.wait(max(0, due_ns - now_ns) / NS_PER_S)
        # Timestamps on the clock of the pace: a segment that came late is no frame that is late.
        return DecodedFrame(decoded.decoded, due_ns, None, Instant.now())

    def abandon(self) -> None:
        """Let a `next_frame` in progress end soon; callable from any thread."""
        super().abandon()
        self._ended.set()
        self._client.abort()

    def _ahead_ns(self) -> int:
        return round((_LATE_S + 2 * self.patience_s) * NS_PER_S)

    def _open_container(self) -> Any:
        """Read the playlist, choose a variant, and open its segments."""
        answer, self._answer = self._answer or self._client.get(), None
        text, url = self._text(answer), answer.url
        variant = _VARIANT.search(text)
        if variant is not None:
            answer = self._answer_of(urljoin(url, variant[1].strip()))
            text, url = self._text(answer), answer.url
            if _VARIANT.search(text):
                raise SourceError(
                    f"{self.where} is a playlist of playlists of playlists; expected segments in the second one", "unsupported"
                )
        method = next((found for found in _KEY.findall(text) if found != "NONE"), None)
        if method is not None:
            raise SourceError(f"{self.where} has encrypted segments ({method}); expected segments without a key", "unsupported")
        target = _TARGET.search(text)
        segment_s = min(int(target[1]) if target else 0, _LONGEST_SEGMENT_S)
        self.patience_s = _DELIVERY * segment_s
        self._requests, self._refused = 0, None
        first: list[bytes] = [text.encode()]

        def io_open(asked: str, flags: int, options: dict[str, str]) -> Any:
            return _Text(first.pop()) if first and asked == url else self._request(asked)

        return av.open(
            url,
            format="hls",
            options={"http_persistent": "0", "http_multiple": "0", "max_pixels": str(limits.maximum_pixels(self.limit_bytes))},
            timeout=(self._timeouts[0], self._timeouts[1] + self.patience_s),
            metadata_errors="ignore",
            io_open=io_open,
        )

    def _request(self, url: str) -> HttpAnswer:
        """Return what the playlist names: its next version, or a segment."""
        if self._refused is not None:
            raise self._refused
        try:
            return self._answer_of(url)
        except SourceError as error:
            self._refused = error
            raise

    def _answer_of(self, url: str) -> HttpAnswer:
        self._requests += 1
        if url.startswith("http:") and self._client.url.lower().startswith("https:"):
            raise SourceError(f"{self.where} leads to {show(url)}, which is not encrypted; expected https to the end", "forbidden")
        if self._requests > limits.REQUESTS_WITHOUT_FRAME:
            raise SourceError(
                f"{self.where} names segments without video: {limits.REQUESTS_WITHOUT_FRAME} requests gave no frame; expected H.264",
                "unsupported",
            )
        if url.startswith("crypto"):
            raise SourceError(f"{self.where} has encrypted segments; expected segments without a key", "unsupported")
        try:
            return self._client.get(url, timeout_s=self._timeouts[1] + self.patience_s)
        except SourceError as error:
            if error.cause in ("not_found", "failed") and self._requests > 1:
                return _Text(b"")  # type: ignore[return-value]  # a segment that is gone already: the next one follows
            raise

    def _text(self, answer: HttpAnswer) -> str:
        body = bytearray()
        try:
            while data := answer.read(limits.PLAYLIST_BYTES):
                body += data
                limits.refuse_large_part(len(body), limits.PLAYLIST_BYTES, self.where)
        finally:
            answer.close()
        if not is_playlist(bytes(body[:16])):
            raise SourceError(
                f"{self.where} leads to {show(answer.url)}, which is no playlist; expected one of HLS (#EXTM3U)", "unsupported"
            )
        return body.decode("utf-8", "replace").replace("\r\n", "\n")


class _Text:
    """Bytes as a file that is read once."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def read(self, size: int) -> bytes:
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def close(self) -> None:
        pass
