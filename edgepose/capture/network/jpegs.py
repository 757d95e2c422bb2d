"""JPEG pictures in a stream of bytes, whatever is between them: sloppy MJPEG servers leave out boundaries, dashes, types and lengths."""

import re

from edgepose.capture.limits import refuse_large_part

_START = b"\xff\xd8\xff"
_END, _BEGIN, _SCAN = 0xD9, 0xD8, 0xDA
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD8)))  # markers without a length
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a scan: neither a stuffed byte nor a restart (ITU-T T.81, B.1.1)


class JpegSplitter:
    """A splitter of a stream of bytes into its JPEG pictures, by the structure of JPEG itself (ITU-T T.81, annex B).

    Args:
        limit_bytes: most bytes of one picture, and between two.
        where: name of the source in messages.
    """

    def __init__(self, limit_bytes: int, where: str) -> None:
        self._limit_bytes = limit_bytes
        self._where = where
        self._buffer = bytearray()
        self._at = 0  # of the next marker, or of the scan; 0 outside of a picture
        self._scanning = False
        self._skipped = 0  # bytes since the last picture
        self.damaged = 0
        """Number of pictures that were cut or have no structure."""

    def feed(self, data: bytes) -> None:
        """Append bytes of the stream.

        Raises:
            SourceError: the limit is exceeded.
        """
        self._buffer += data
        refuse_large_part(len(self._buffer) + self._skipped, self._limit_bytes, self._where)

    def take(self) -> bytes | None:
        """Return the next complete picture, None where more bytes are needed."""
        while self._at or self._find_start():
            end = self._advance()
            if end is None:
                return None
            if end:
                picture = bytes(self._buffer[:end])
                self._drop(end)
                self._skipped = 0
                return picture
        return None

    def _find_start(self) -> bool:
        start = self._buffer.find(_START)
        if start < 0:
            self._skip(max(0, len(self._buffer) - len(_START) + 1))
            return False
        self._skip(start)
        self._at, self._scanning = 2, False
        return True

    def _skip(self, size: int) -> None:
        self._skipped += size
        self._drop(size)

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._at = 0

    def _advance(self) -> int | None:
        """Return where the picture ends, 0 where it is damaged and dropped, None where more bytes are needed."""
        buffer = self._buffer
        while True:
            if self._scanning:
                found = _MARKER.search(buffer, self._at)
                if found is None:
                    self._at = max(self._at, len(buffer) - 1)
                    return None
                self._at, self._scanning = found.start(), False
            if len(buffer) < self._at + 4:
                ends = len(buffer) >= self._at + 2 and buffer[self._at] == 0xFF and buffer[self._at + 1] == _END
                return self._at + 2 if ends else None
            marker = buffer[self._at + 1]
            if buffer[self._at] != 0xFF or marker == _BEGIN:
                self.damaged += 1
                self._skip(self._at if marker == _BEGIN and buffer[self._at] == 0xFF else 2)
                return 0
            if marker == _END:
                return self._at + 2
            if marker == 0xFF:
                self._at += 1
            elif marker in _STANDALONE:
                self._at += 2
            else:
                self._at += 2 + max(2, int.from_bytes(buffer[self._at + 2 : self._at + 4], "big"))
                self._scanning = marker == _SCAN
