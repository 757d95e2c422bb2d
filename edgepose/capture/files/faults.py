"""What is wrong with a file that cannot be read as a video or an image, from its first bytes and its structure, in one sentence."""

import struct
from pathlib import Path

from edgepose.capture.files.listing import is_heic

_HEAD_BYTES = 4096
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp", b"moof", b"sidx", b"pnot", b"uuid", b"meta")
_BOX_LIMIT = 10_000  # boxes at the top level that are looked at

_FORMATS = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "a database"),
)

_VIDEO = "a video file, an image or a folder of images"


def fault_of(path: Path) -> str | None:
    """Return what is wrong with a file, as the rest of a sentence that begins with its name; None where nothing is recognized.

    The whole file is never read, and nothing but its own bytes is.
    """
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    if not size:
        return f"is empty (0 bytes); expected {_VIDEO}"
    if not head.strip(b"\0"):
        return f"begins with zero bytes ({_size(size)}): it was reserved, but not written; expected {_VIDEO}"
    if is_heic(head):
        return HEIC_FAULT
    for magic, what in _FORMATS:
        if head.startswith(magic):
            return f"is {what}; expected {_VIDEO}"
    if head[4:8] in _BOXES:
        return _mp4_fault(path, size)
    return _text_fault(head)


HEIC_FAULT = (
    "is a HEIC photograph, which is not read here; expected JPEG or PNG, such as `heif-convert photo.heic photo.jpg` makes"
    " (iPhone: Settings, Camera, Formats, Most Compatible)"
)
"""The rest of the sentence about a HEIC file. The libraries that put its tiles together weigh 25 MB (pi-heif with Pillow), or bring
an encoder under the GPL (pillow-heif)."""


def cut_mp4(path: Path) -> str | None:
    """Return how many bytes are missing at the end of an MP4, as a clause; None where none are, or where it is no MP4."""
    try:
        if not path.is_file():  # opening a pipe again would wait for a writer
            return None
        size = path.stat().st_size
        missing = _walk(path, size)[1]
    except (OSError, struct.error):
        return None
    return f"the last {_size(missing)} of {_size(size + missing)} are missing" if missing else None


def _mp4_fault(path: Path, size: int) -> str | None:
    try:
        kinds, missing = _walk(path, size)
    except (OSError, struct.error):
        return None
    if b"moov" in kinds and not missing:
        return None
    if b"moov" in kinds or b"moof" in kinds:
        return f"is an MP4 that was cut: {_size(missing)} of {_size(size + missing)} are missing at its end; expected a complete file"
    cut = f" and {_size(missing)} of {_size(size + missing)} are missing at its end" if missing else ""
    return (
        f"is an MP4 without its index (`moov` atom){cut}: the recording was not finished, or the file was not copied completely;"
        " expected a complete file (a repair tool needs another video of the same camera)"
    )


def _walk(path: Path, size: int) -> tuple[list[bytes], int]:
    """Return the kinds of the boxes at the top level of an MP4 (ISO/IEC 14496-12, 4.2), and how many bytes the last one lacks."""
    kinds: list[bytes] = []
    at = 0
    with path.open("rb") as file:
        while at + 8 <= size and len(kinds) < _BOX_LIMIT:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                (length,) = struct.unpack(">Q", file.read(8))
            elif length == 0:  # up to the end of the file
                length = size - at
            if not kind.isalnum() or length < 8:
                return kinds, 0
            kinds.append(kind)
            at += length
    return kinds, max(0, at - size)


def _text_fault(head: bytes) -> str | None:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not merely a letter that the end of the sample cuts
            return None
        text = head[: error.start].decode()
    if any(ord(letter) < 32 and letter not in "\t\n\r\f\x1b" for letter in text):
        return None
    if text.lstrip("\ufeff \t\r\n")[:15].lower().startswith(("<!doctype html", "<html")):
        return f"is a web page (HTML), perhaps of a server that asks for a password; expected {_VIDEO}"
    return f"is a text file; expected {_VIDEO}"


def _size(count: int) -> str:
    if count < 10_000:
        return f"{count} bytes"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
