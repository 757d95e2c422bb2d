"""Damage for RTSP over TCP: a change of RTP packets that leaves their interleaved framing whole."""

from collections.abc import Callable

RTP_HEADER = 12
"""Bytes before the payload of a packet without extensions (RFC 3550, 5.1)."""


class Interleaved:
    """A filter of a server's bytes that changes the RTP packets among them (RFC 2326, 10.12); one for each connection.

    Args:
        change: takes a packet and returns one of the same length.
    """

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self._change = change
        self._rest = b""

    def __call__(self, data: bytes) -> bytes:
        """Return the bytes to pass on; an incomplete packet waits for its rest."""
        self._rest += data
        passed = b""
        while (length := self._complete()) is not None:
            piece, self._rest = self._rest[:length], self._rest[length:]
            channel_of_rtp = piece[:1] == b"$" and piece[1] % 2 == 0
            passed += piece[:4] + self._change(piece[4:]) if channel_of_rtp else piece
        return passed

    def _complete(self) -> int | None:
        """Return the length of the first packet or reply that is complete, or None."""
        if self._rest[:1] == b"$":
            length = 4 + int.from_bytes(self._rest[2:4], "big")
            return length if len(self._rest) >= max(4, length) else None
        head, end, _ = self._rest.partition(b"\r\n\r\n")
        if not end:
            return None
        body = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        length = len(head) + 4 + body
        return length if len(self._rest) >= length else None
