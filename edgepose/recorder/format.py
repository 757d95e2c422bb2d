"""The form of black-box recordings: segments of records, each with a check sum, which begin with all that is needed to go on from there.

A recording is a folder of segment files, in the order of their names. A segment is a line that says what it is, then records: length and
CRC-32 (little-endian, 4 bytes each) and MessagePack. The end of a segment may be missing, where the power went.
"""

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
_MAGIC = b"edgepose black box 2\n"
_HEAD = struct.Struct("<II")
_LARGEST = 64 << 20  # bytes of a record: more is no length but damage


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """Beginning of a segment.

    Attributes:
        edgepose: version that recorded.
        model, sha256: file name and hash of the network.
        settings: what decides on people and events; sources, broker and files are left out.
        at: nanoseconds since the Unix epoch.
    """

    edgepose: str
    model: str
    sha256: str
    settings: Config
    at: int


class PackedPeople(msgspec.Struct, frozen=True, array_like=True):
    """Boxes, scores and keypoints bit for bit: float32 (P, 4), float64 (P,), float32 (P, 17, 3)."""

    boxes: bytes
    scores: bytes
    keypoints: bytes

    @classmethod
    def of(cls, people: list[Person]) -> "PackedPeople":
        """Of people; track numbers are left out."""
        scores = np.array([person.score for person in people], np.float64)
        rows = [(person.box, person.keypoints) for person in people]
        return cls(b"".join(box.tobytes() for box, _ in rows), scores.tobytes(), b"".join(keypoints.tobytes() for _, keypoints in rows))

    def people(self) -> list[Person]:
        """The people, without track numbers."""
        boxes, keypoints = _floats(self.boxes, 4), _floats(self.keypoints, 17 * 3).reshape(-1, 17, 3)
        scores = np.frombuffer(self.scores, np.float64).tolist()
        return [Person(box, score, points) for box, score, points in zip(boxes, scores, keypoints, strict=True)]


class FrameRecord(msgspec.Struct, frozen=True, kw_only=True, tag="frame"):
    """What the engine saw in a frame.

    Attributes:
        letterbox: the fields of `Letterbox`, in their order.
        scores: float32 (K,) of the candidates that could be somebody, the same K of `boxes` (K, 4) and `keypoints` (K, 17, 3).
        looked: everybody after a second look, None where there was none.
        at: nanoseconds since the Unix epoch at which the people were worked out.
        failed: whether that, or handing them on, failed, after which everybody was forgotten.
        memory: what was remembered of the camera's people before this frame; given in the first of a segment.
    """

    camera: str
    epoch: int
    sequence: int
    captured_at: int
    clock: Clock
    width: int
    height: int
    letterbox: tuple[int, ...]
    boxes: bytes
    scores: bytes
    keypoints: bytes
    refined: PackedPeople | None
    at: int
    failed: bool
    memory: bytes | None

    def candidates(self) -> Candidates:
        """As the engine gave them, those left out that nobody would have looked at."""
        keypoints = _floats(self.keypoints, 17 * 3).reshape(1, -1, 17, 3)
        return Candidates(_floats(self.boxes, 4)[None], np.frombuffer(self.scores, np.float32)[None], keypoints)


class StateRecord(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """A change of a camera's state, as in its message; `at` in nanoseconds since the Unix epoch."""

    camera: str
    state: str
    cause: str | None
    detail: str | None
    epoch: int
    at: int


class LossRecord(msgspec.Struct, frozen=True, kw_only=True, tag="lost"):
    """Records that could not be kept before this one."""

    records: int


Record = SegmentHeader | FrameRecord | StateRecord | LossRecord

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def settings_of(config: Config) -> Config:
    """What decides on people and events, and nothing that is nobody's business."""
    return Config(
        cameras={name: CameraConfig(source="-", zones=camera.zones) for name, camera in config.cameras.items()},
        pose=config.pose,
        track=config.track,
        refine=config.refine,
        smooth=config.smooth,
        plausibility=config.plausibility,
        events=msgspec.structs.replace(config.events, store=None),
    )


def candidates_of(candidates: Candidates, least: float) -> dict[str, Any]:
    """The fields of a `FrameRecord` for the first picture of a batch.

    Args:
        least: candidates below this score are left out.
    """
    strong = np.flatnonzero(candidates.scores[0] >= least)
    arrays = {name: getattr(candidates, name)[0, strong] for name in ("boxes", "scores", "keypoints")}
    return {name: np.ascontiguousarray(array, np.float32).tobytes() for name, array in arrays.items()}


def packed(record: Record) -> bytes:
    """A record as it stands in a segment."""
    payload = _encoder.encode(record)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def beginning() -> bytes:
    """What a segment begins with."""
    return _MAGIC


def is_segment(path: Path) -> bool:
    """Whether a file is part of a recording, or of a ring, by what it begins with; False where it cannot be read."""
    try:
        if not path.is_file():  # reading anything else might wait
            return False
        with path.open("rb") as file:
            return file.readline(64) == _MAGIC
    except OSError:
        return False


def records(path: Path) -> Iterator[Record]:
    """All records of a recording, a folder or a single segment, in order.

    RecordingError where there is none, or where it is damaged.
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
            raise RecordingError(f"{path} holds nothing that was seen; expected a recording of the black box")
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}; expected a recording of the black box") from error


def _records_of(segment: Path) -> Iterator[Record]:
    with segment.open("rb") as file:
        begins = file.readline(64)
        if begins != _MAGIC:
            if _MAGIC.startswith(begins):
                return  # the power went before anything was written
            raise RecordingError(f"{segment} is no recording of the black box; expected a file that it wrote")
        first = True
        while True:
            place = file.tell()
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return  # the end, or where the power went
            length, checksum = _HEAD.unpack(head)
            payload = file.read(length) if length <= _LARGEST else b""
            if length <= _LARGEST and len(payload) < length:
                return
            if zlib.crc32(payload) != checksum or not payload:
                raise RecordingError(f"{segment} is damaged at byte {place}; expected a recording as the black box wrote it")
            try:
                record = _decoder.decode(payload)
            except msgspec.MsgspecError as error:
                raise RecordingError(f"{segment} was written by another version of edgepose: {error}; expected that version") from error
            if first != isinstance(record, SegmentHeader):
                raise RecordingError(f"{segment} is damaged at byte {place}; expected one header, and that at the beginning")
            first = False
            yield record


def _floats(data: bytes, width: int) -> NDArray[np.float32]:
    return np.frombuffer(data, np.float32).reshape(-1, width)
