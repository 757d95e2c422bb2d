"""Fuzzing of RTSP: the bytes of a real server, damaged on their way, one connection at a time.

`python -m testing.fuzz.rtsp PORT` is the worker of `testing.fuzz.pool`.
"""

import random
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import SourceError
from testing.faults.relay import Relay
from testing.fuzz.pool import answer, hammer
from testing.fuzz.tally import Tally
from testing.servers.rtsp import RtspServer

_PATIENCE_S = 30.0
_FRAMES = 3
_HEAD_BYTES = 1500  # the dialog before the first frame


def fuzz(count: int, workers: int, told: Callable[[], None] = lambda: None) -> Tally:
    """Open that many connections."""
    size = ("--width", "64", "--height", "48", "--rate", "30")
    with tempfile.TemporaryDirectory(prefix="edgepose-fuzz-") as folder, RtspServer(Path(folder), *size) as server:
        return hammer("testing.fuzz.rtsp", [str(server.port)], count, workers=workers, patience_s=_PATIENCE_S, told=told)


class Damage:
    """The damage to one connection, which begins at some byte and covers some packets.

    Half of the connections are damaged in the RTSP dialog, before the first frame.
    """

    _WORDS = (
        b"RTSP/1.0", b"200", b"Content-Length:", b"Session:", b"Transport:", b"m=video", b"a=rtpmap:", b"a=fmtp:", b"a=control:", b"\r\n",
        b"sprop-parameter-sets=", b"interleaved=0-1", b"packetization-mode=", b"$\0", b"CSeq:", b"Content-Base:", b"RTP-Info:",
    )  # fmt: skip
    _NASTY = (b"", b"\0", b"\xff" * 40, b"A" * 5000, b"-1", b"4294967296", b"99999999999999999999", b"%n%s", b"\r\n\r\n", b"$\0\xff\xff")

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._left = self._random.choice((1, 1, 2, 4, 16, 64))
        self._skip = self._random.randrange(_HEAD_BYTES if self._random.random() < 0.5 else 20_000)
        self._passed = 0
        self._lock = threading.Lock()

    def __call__(self, data: bytes) -> bytes:
        """Return the bytes to pass on."""
        with self._lock:
            self._passed += len(data)
            if self._passed < self._skip or not self._left:
                return data
            self._left -= 1
            return self._damaged(data)

    def _damaged(self, data: bytes) -> bytes:
        draw = self._random
        kind = draw.randrange(7)
        text = bytearray(data)
        at = draw.randrange(len(text))
        if kind == 0:  # bits
            for _ in range(draw.choice((1, 3, 10, 100))):
                text[draw.randrange(len(text))] ^= 1 << draw.randrange(8)
        elif kind == 1:  # bytes inserted
            text[at:at] = draw.choice(self._NASTY) or draw.randbytes(draw.randrange(1, 200))
        elif kind == 2:  # bytes removed
            del text[at : at + draw.choice((1, 2, 4, 50, 1000))]
        elif kind == 3:  # repeated
            text[at:at] = text[at : at + draw.choice((1, 4, 100, 4000))]
        elif kind == 4:  # cut short
            del text[at:]
        elif kind == 5:  # a keyword changed
            word = draw.choice(self._WORDS)
            where = text.find(word)
            if where >= 0:
                end = where + len(word)
                text[draw.choice((where, end)) : end + draw.choice((0, 1, 5))] = draw.choice(self._NASTY)
            else:
                text[at : at + 4] = draw.randbytes(4)
        else:  # noise
            text[at : at + 64] = draw.randbytes(min(64, len(text) - at))
        return bytes(text)


def main() -> None:
    """Answer each number with the outcome of the connection that it damages."""
    with Relay(int(sys.argv[1])) as relay:

        def one(number: int) -> tuple[str, str]:
            relay.mangle = Damage(number)
            camera = CameraConfig(source=f"rtsp://127.0.0.1:{relay.port}/cam", open_timeout_s=1.0, read_timeout_s=0.7)
            try:
                source = open_source("front", camera)
                try:
                    for _ in range(_FRAMES):
                        source.read()
                finally:
                    source.close()
            except SourceError as error:
                good = str(error).startswith("camera front: rtsp://") and "\n" not in str(error)
                return ("refused", error.cause) if good else ("wrong", f"not a sentence: {error!r}")
            except Exception as error:
                return "wrong", f"{type(error).__name__}: {error}"
            finally:
                relay.cut()
            return "accepted", ""

        answer(one)


if __name__ == "__main__":
    main()
