"""The file format of black-box recordings: segments of checksummed records, each of which starts with everything that a replay needs.

A recording is a folder of segment files, in the order of their names. A segment is one line that names format and version, then
records (`edgepose.storage.records`) that hold MessagePack and are numbered from 1. Of a damaged segment, every record that verifies is
given, and the others are counted from the numbers. The end of a segment may be missing, after a power cut.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.aircraft import FixedConfig, FlightReportConfig, MavlinkConfig
from edgepose.config.schema import CameraConfig, Config
from edgepose.encryption.files import state_files
from edgepose.errors import RecordingError
from edgepose.frame import Clock
from edgepose.ground import WorldPlaces
from edgepose.person import Candidates, Person
from edgepose.storage.records import Damage, StoredRecord, packed_record, scan_records

SUFFIX = ".segment"
KIND = "segment"
"""What `edgepose.encryption` calls a segment."""

_VERSION = 5
_FIRST_LINE = f"edgepose black box {_VERSION}\n".encode()
_FIRST_LINE_OF_ANY = re.compile(rb"edgepose black box (\d{1,9})\n")
_FIRST_LINE_LIMIT_BYTES = 64
_KIND = 1


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """The first record of a segment.

    Attributes:
        edgepose: version that recorded.
        model, sha256: file name and hash of the pose network.
        settings: those that decide on people and events; sources, broker and files are left out.
        at_ns: nanoseconds since the Unix epoch.
        places: zones and lines on the map.
    """

    edgepose: str
    model: str
    sha256: str
    settings: Config
    at_ns: int
    places: WorldPlaces = WorldPlaces()


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
        visited: tiles in which candidates were searched besides the whole frame: left, top, right, bottom; None where it shows all.
        motion: of the camera since the frame before, nine numbers; None where it was still or not measured.
        refined: everybody after refinement, None without a refiner.
        at_ns: end of postprocessing, nanoseconds since the Unix epoch.
        failed: whether postprocessing or delivery failed, after which all people were forgotten.
        snapshot: state of the camera's postprocessing before this frame, in its first record of a segment.
        telemetry: what placed its people, as `edgepose.flight` writes it; None for a camera without a mount.
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
    visited: list[tuple[int, int, int, int]] | None
    motion: tuple[float, ...] | None
    refined: PackedPeople | None
    at_ns: int
    failed: bool
    snapshot: bytes | None
    telemetry: bytes | None = None

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
    """Records that are missing at this place.

    Attributes:
        records: their number; None where nobody knows it, since they were the last ones.
        damaged: whether they were damaged after they had been written; otherwise they could not be kept.
    """

    records: int | None
    damaged: bool = False


Record = SegmentHeader | FrameRecord | StateRecord | LossRecord

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def settings_of(config: Config) -> Config:
    """Return the settings that decide on people and events, and nothing confidential."""
    return Config(
        cameras={
            name: CameraConfig(source="-", zones=camera.zones, lines=camera.lines, mount=camera.mount)
            for name, camera in config.cameras.items()
        },
        flight=msgspec.structs.replace(
            config.flight, topic=None, places_file=None, mavlink=MavlinkConfig(), fixed=FixedConfig(), report=FlightReportConfig()
        ),
        pose=config.pose,
        track=config.track,
        refine=config.refine,
        smooth=config.smooth,
        tiles=config.tiles,
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


def packed(record: Record, number: int) -> bytes:
    """Return a record as it is written into a segment, as the one with a number."""
    return packed_record(_KIND, number, _encoder.encode(record))


def is_segment(path: Path) -> bool:
    """Return whether a file is a segment of any version, by its first line; False where it cannot be read."""
    try:
        if not path.is_file():  # reading anything else might block
            return False
        with path.open("rb") as file:
            return _FIRST_LINE_OF_ANY.fullmatch(file.readline(_FIRST_LINE_LIMIT_BYTES)) is not None
    except OSError:
        return False


def segments_in(folder: Path) -> list[Path]:
    """Return the segments of a folder, in order."""
    return [folder / name for name in state_files().names(folder) if name.endswith(SUFFIX)]


def records(path: Path) -> Iterator[Record]:
    """Yield all records of a recording, a folder or a single segment, in order; damaged ones are replaced by a `LossRecord`.

    Raises:
        RecordingError: it is missing, of another version, or nothing in it verifies.
    """
    try:
        segments = segments_in(path) if state_files().place(path).is_dir() else [path]
        if not segments:
            raise RecordingError(f"{path} holds no recording; expected a folder with files that end in {SUFFIX}")
        empty = True
        for segment in segments:
            for record in _records_of(segment):
                empty = empty and isinstance(record, LossRecord)
                yield record
        if empty:
            raise RecordingError(f"{path} holds no records that verify; expected a recording of the black box")
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}; expected a recording of the black box") from error


def _records_of(segment: Path) -> Iterator[Record]:
    data = state_files().load(segment, KIND)
    line = data[:_FIRST_LINE_LIMIT_BYTES].partition(b"\n")[0] + b"\n"
    if line != _FIRST_LINE:
        if _FIRST_LINE.startswith(data):
            return  # the power was cut before anything was written
        if _FIRST_LINE_OF_ANY.fullmatch(line) is not None or not _is_damaged_segment(data):
            raise _format_error(segment, line)
    number, highest, is_headed, has_unread = 0, 0, False, False
    for found in scan_records(data, len(_FIRST_LINE)):
        if isinstance(found, Damage):
            has_unread = True  # the next record that verifies tells how many are missing
            continue
        highest = found.number
        try:
            record = _decoder.decode(found.payload)
        except msgspec.MsgspecError as error:
            raise RecordingError(f"{segment} was written by another version of edgepose: {error}; expected that version") from error
        if isinstance(record, SegmentHeader):
            is_headed = True
        elif not is_headed:  # without its settings a frame cannot be postprocessed
            continue
        if found.number > number + 1:
            yield LossRecord(records=found.number - number - 1, damaged=True)
        number, has_unread = found.number, False
        yield record
    if has_unread or not is_headed:
        yield LossRecord(records=None if has_unread or not highest else highest, damaged=True)


def _is_damaged_segment(data: bytes) -> bool:
    """Return whether data whose first line is damaged holds a header of a segment."""
    first = next((found for found in scan_records(data, len(_FIRST_LINE)) if isinstance(found, StoredRecord)), None)
    return first is not None


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
