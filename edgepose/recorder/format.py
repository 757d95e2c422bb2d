"""The file format of black-box recordings: segments of checksummed records, each of which starts with everything that a replay needs.

A recording is a folder of segment files, in the order of their names. A segment is one line that names format and version, then records:
length and CRC-32 (little-endian, 4 bytes each) and MessagePack. The end of a segment may be missing, after a power cut.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import CameraConfig, Config
from edgepose.errors import RecordingError
from edgepose.frame import Clock
from edgepose.person import Candidates, Person

SUFFIX = ".segment"
_VERSION = 2
_FIRST_LINE = f"edgepose black box {_VERSION}\n".encode()
_FIRST_LINE_OF_ANY = re.compile(rb"edgepose black box (\d{1,9})\n")
_FIRST_LINE_LIMIT_BYTES = 64
_RECORD_HEAD = struct.Struct("<II")  # length, CRC-32
_RECORD_LIMIT_BYTES = 64 << 20  # a longer length is damage


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """The first record of a segment.

    Attributes:
        edgepose: version that recorded.
        model, sha256: file name and hash of the pose network.
        settings: those that decide on people and events; sources, broker and files are left out.
        at_ns: nanoseconds since the Unix epoch.
    """

    edgepose: str
    model: str
    sha256: str
    settings: Config
    at_ns: int


class PackedPeople(msgspec.Struct, frozen=True, array_like=True):
    """Boxes, scores and keypoints bit for bit: float32 (P, 4), float64 (P,), float32 (P, 17, 3)."""

    boxes: bytes
    scores: bytes
    keypoints: bytes

    @classmethod
    def of(cls, people: list[Person]) -> "PackedPeople":
        """Return people packed; track numbers are left out."""
        scores = np.array([person.score for person in people], np.float64)
        rows = [(person.box, person.keypoints) for person in people]
        return cls(b"".join(box.tobytes() for box, _ in rows), scores.tobytes(), b"".join(keypoints.tobytes() for _, keypoints in rows))

    def people(self) -> list[Person]:
        """Return the people, without track numbers."""
        boxes, keypoints = _floats(self.boxes, 4), _floats(self.keypoints, 17 * 3).reshape(-1, 17, 3)
        scores = np.frombuffer(self.scores, np.float64).tolist()
        return [Person(box, score, points) for box, score, points in zip(boxes, scores, keypoints, strict=True)]


class FrameRecord(msgspec.Struct, frozen=True, kw_only=True, tag="frame"):
    """A frame as the pose network and the refiner left it.

    Attributes:
        captured_at_ns: capture time of the frame, nanoseconds since the Unix epoch.
        letterbox: the fields of `Letterbox`, in their order.
        scores: float32 (K,) of the candidates that may be people, the same K of `boxes` (K, 4) and `keypoints` (K, 17, 3).
        motion: of the camera since the frame before, six numbers; None where it was still or not measured.
        refined: everybody after refinement, None without a refiner.
        at_ns: end of postprocessing, nanoseconds since the Unix epoch.
        failed: whether postprocessing or delivery failed, after which all people were forgotten.
        snapshot: state of the camera's postprocessing before this frame, in its first record of a segment.
    """

    camera: str
    epoch: int
    sequence: int
    captured_at_ns: int
    clock: Clock
    width: int
    height: int
    letterbox: tuple[int, ...]
    boxes: bytes
    scores: bytes
    keypoints: bytes
    motion: tuple[float, ...] | None
    refined: PackedPeople | None
    at_ns: int
    failed: bool
    snapshot: bytes | None

    def candidates(self) -> Candidates:
        """Return the candidates of the network, without those below all thresholds."""
        keypoints = _floats(self.keypoints, 17 * 3).reshape(1, -1, 17, 3)
        return Candidates(_floats(self.boxes, 4)[None], np.frombuffer(self.scores, np.float32)[None], keypoints)


class StateRecord(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """A change of a camera's state, with the fields of its message; `at_ns` in nanoseconds since the Unix epoch."""

    camera: str
    state: str
    cause: str | None
    detail: str | None
    epoch: int
    at_ns: int


class LossRecord(msgspec.Struct, frozen=True, kw_only=True, tag="lost"):
    """The number of records that could not be kept before this one."""

    records: int


Record = SegmentHeader | FrameRecord | StateRecord | LossRecord

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def settings_of(config: Config) -> Config:
    """Return the settings that decide on people and events, and nothing confidential."""
    return Config(
        cameras={name: CameraConfig(source="-", zones=camera.zones) for name, camera in config.cameras.items()},
        pose=config.pose,
        track=config.track,
        refine=config.refine,
        smooth=config.smooth,
        motion=config.motion,
        plausibility=config.plausibility,
        events=msgspec.structs.replace(config.events, store=None),
    )


def packed_candidates(candidates: Candidates, lowest_score: float) -> dict[str, Any]:
    """Return the fields of a `FrameRecord` for the first frame of a batch.

    Args:
        lowest_score: candidates below this score are left out.
    """
    kept = np.flatnonzero(candidates.scores[0] >= lowest_score)
    arrays = {name: getattr(candidates, name)[0, kept] for name in ("boxes", "scores", "keypoints")}
    return {name: np.ascontiguousarray(array, np.float32).tobytes() for name, array in arrays.items()}


def first_line() -> bytes:
    """Return the first line of a segment."""
    return _FIRST_LINE


def packed(record: Record) -> bytes:
    """Return a record as it is written into a segment."""
    payload = _encoder.encode(record)
    return _RECORD_HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def is_segment(path: Path) -> bool:
    """Return whether a file is a segment of any version, by its first line; False where it cannot be read."""
    try:
        if not path.is_file():  # reading anything else might block
            return False
        with path.open("rb") as file:
            return _FIRST_LINE_OF_ANY.fullmatch(file.readline(_FIRST_LINE_LIMIT_BYTES)) is not None
    except OSError:
        return False


def records(path: Path) -> Iterator[Record]:
    """Yield all records of a recording, a folder or a single segment, in order.

    Raises:
        RecordingError: it is missing, damaged, or of another version.
    """
    try:
        segments = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not segments:
            raise RecordingError(f"{path} holds no recording; expected a folder with files that end in {SUFFIX}")
        empty = True
        for segment in segments:
            for record in _records_of(segment):
                empty = False
                yield record
        if empty:
            raise RecordingError(f"{path} holds no records; expected a recording of the black box")
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}; expected a recording of the black box") from error


def _records_of(segment: Path) -> Iterator[Record]:
    with segment.open("rb") as file:
        line = file.readline(_FIRST_LINE_LIMIT_BYTES)
        if line != _FIRST_LINE:
            if _FIRST_LINE.startswith(line):
                return  # the power was cut before anything was written
            raise _format_error(segment, line)
        first = True
        while True:
            offset = file.tell()
            head = file.read(_RECORD_HEAD.size)
            if len(head) < _RECORD_HEAD.size:
                return  # the end, or a power cut
            length, checksum = _RECORD_HEAD.unpack(head)
            payload = file.read(length) if length <= _RECORD_LIMIT_BYTES else b""
            if length <= _RECORD_LIMIT_BYTES and len(payload) < length:
                return
            if zlib.crc32(payload) != checksum or not payload:
                raise RecordingError(f"{segment} is damaged at byte {offset}; expected a recording as the black box wrote it")
            try:
                record = _decoder.decode(payload)
            except msgspec.MsgspecError as error:
                raise RecordingError(f"{segment} was written by another version of edgepose: {error}; expected that version") from error
            if first != isinstance(record, SegmentHeader):
                raise RecordingError(f"{segment} is damaged at byte {offset}; expected one header, as the first record")
            first = False
            yield record


def _format_error(segment: Path, line: bytes) -> RecordingError:
    other = _FIRST_LINE_OF_ANY.fullmatch(line)
    if other is None:
        return RecordingError(f"{segment} is not a recording of the black box; expected a file that the black box wrote")
    return RecordingError(
        f"{segment} is a recording of black box format {int(other[1])}; expected format {_VERSION},"
        " or a replay with the version of edgepose that recorded it"
    )


def _floats(data: bytes, width: int) -> NDArray[np.float32]:
    return np.frombuffer(data, np.float32).reshape(-1, width)
