"""The kind of an upload, by its content: which pictures and videos are read, and which files that lead to others are refused."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from edgepose.capture.files.faults import HEIC_FAULT
from edgepose.capture.files.listing import is_heic

HEAD_BYTES = 4096
"""How much of a file its kind is told by."""

CODECS = ("h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg4", "mpeg2video", "h263", "mjpeg")
"""Decoders of FFmpeg that an uploaded video may need."""

ACCEPTED = "JPEG, PNG, WebP, BMP, MP4, MOV, MKV, WebM, AVI or MPEG-TS"

_BOXES_LIMIT = 10_000
_CONTAINERS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"dinf"))  # ISO/IEC 14496-12: boxes on the way to a data reference
_SELF_CONTAINED = 1  # flag of a data reference

# First bytes of what is refused by name: a sentence that says why helps more than "unknown".
_REFUSED = (
    (b"#extm3u", "a playlist"),
    (b"[playlist]", "a playlist"),
    (b"ffconcat", "a list of other files"),
    (b"v=0\r", "a session description (SDP)"),
    (b"v=0\n", "a session description (SDP)"),
    (b"<", "markup, such as SVG, a playlist or a web page"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"pk\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"bzh", "a bzip2 archive"),
    (b"\xfd7zxz", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"rar!", "a RAR archive"),
    (b"%pdf", "a PDF document"),
    (b"%!ps", "a PostScript document"),
    (b"\x7felf", "a program"),
)
_ADDRESSES = (b"http:", b"https:", b"file:", b"rtsp:", b"rtmp:", b"ftp:", b"concat:", b"subfile:", b"data:")


class RefusedContentError(Exception):
    """A file that is not read; the text is the rest of a sentence that begins with its name."""


@dataclass(frozen=True, slots=True)
class ContentKind:
    """What a file is.

    Attributes:
        suffix: of its name, by which the product's own readers are chosen.
        is_picture: whether it is read as a still picture.
        formats: demuxers of FFmpeg that may read it; empty for a picture.
    """

    suffix: str
    is_picture: bool
    formats: str = ""


_MP4 = ContentKind(".mp4", False, "mov,mp4,m4a,3gp,3g2,mj2")


def kind_of(file: BinaryIO, size: int) -> ContentKind:
    """Return the kind of a file, whatever its name says.

    Args:
        file: seekable.
        size: in bytes.

    Raises:
        RefusedContentError: it is none that is accepted, or it names other files.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if not head:
        raise RefusedContentError(f"is empty (0 bytes); expected {ACCEPTED}")
    if is_heic(head[:12]):
        raise RefusedContentError(HEIC_FAULT)
    kind = _known(head)
    if kind is None:
        text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        what = next((what for magic, what in _REFUSED if text.startswith(magic)), None)
        if what is None and text.startswith(_ADDRESSES):
            what = "an address"
        if what is None and head[257:262] == b"ustar":
            what = "a tar archive"
        raise RefusedContentError(f"is {what or 'no picture or video that is read here'}; expected {ACCEPTED}")
    if kind is _MP4:
        _refuse_references(file, size)
    file.seek(0)
    return kind


def _known(head: bytes) -> ContentKind | None:
    if head[:3] == b"\xff\xd8\xff":
        return ContentKind(".jpg", True)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return ContentKind(".png", True)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ContentKind(".webp", True)
    if head[:2] == b"BM" and head[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0"):  # size of the second header
        return ContentKind(".bmp", True)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return _MP4
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return ContentKind(".mkv", False, "matroska,webm")
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return ContentKind(".avi", False, "avi")
    if all(head[at : at + 1] == b"\x47" for at in range(0, min(len(head), 5 * 188), 188)) and len(head) >= 188:
        return ContentKind(".ts", False, "mpegts")
    return None


def _refuse_references(file: BinaryIO, size: int) -> None:
    """Raise where the samples of an MP4 or QuickTime file lie in other files, or where it only names other movies."""
    left = [(0, size)]
    boxes = 0
    while left:
        at, end = left.pop()
        while at + 8 <= end:
            boxes += 1
            if boxes > _BOXES_LIMIT:
                raise RefusedContentError(f"has more than {_BOXES_LIMIT} boxes; expected a video")
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            begin = at + 8
            if length == 1:
                extended = file.read(8)
                length, begin = (struct.unpack(">Q", extended)[0] if len(extended) == 8 else 0), at + 16
            elif length == 0:
                length = end - at
            if length < begin - at:
                break
            stop = min(end, at + length)
            if kind in (b"rmra", b"rmda"):
                raise RefusedContentError("names other movies instead of holding one; expected the video itself")
            if kind == b"dref":
                _refuse_external(file, begin + 8, stop)
            elif kind in _CONTAINERS:
                left.append((begin, stop))
            at += length


def _refuse_external(file: BinaryIO, at: int, end: int) -> None:
    while at + 12 <= end:
        file.seek(at)
        length, kind, flags = struct.unpack(">I4sI", file.read(12))
        if not flags & _SELF_CONTAINED:
            raise RefusedContentError(f"takes its video from another file ({kind.decode('latin-1').strip()!r}); expected the video itself")
        if length < 12:
            break
        at += length
