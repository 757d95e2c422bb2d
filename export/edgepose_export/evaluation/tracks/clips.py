"""Labeled clips: folders in the layout of COCO for videos, and videos with the box of one person a frame in a CSV file."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.capture.source import open_source
from edgepose.config.schema import CameraConfig
from edgepose.errors import ConfigError, EndOfStream
from edgepose.frame import NS_PER_S, Frame

_EPOCH_NS = 1_700_000_000 * NS_PER_S  # of the first frame of a clip whose times begin at 0
_TRACKED = 1  # track number of the one person whom a CSV file follows
_EXPECTED = "expected a folder of `edgepose-export synth --clips`, or of videos with a CSV file (frame,x,y,w,h) beside each"


@dataclass(frozen=True, slots=True, eq=False)
class FrameTruth:
    """The labeled people of a frame.

    Attributes:
        tracks: int (N,), numbers of the people.
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels.
        keypoints: float32 (N, 17, 3), x y and COCO's visibility; 0 where there are none.
        ignored: bool (N,), people who count neither as found nor as missed: hardly visible.
        at_rest: bool (N,), people who do not move at all.
    """

    tracks: NDArray[np.int64]
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    ignored: NDArray[np.bool_]
    at_rest: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """An event that happens in a clip.

    Attributes:
        kind: as of the runtime.
        track: of the person.
        start, end: seconds since the first frame.
        zone: of events of zones, else empty.
        wrist: of `waving`: left or right, else empty.
        line, direction: of `line_crossed`, else empty; the direction is left or right.
        doubtful: whether it may be missed and may be reported: a stay about as long as loitering.
    """

    kind: str
    track: int
    start: float
    end: float
    zone: str = ""
    wrist: str = ""
    line: str = ""
    direction: str = ""
    doubtful: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LabeledClip:
    """A clip with its labels.

    Attributes:
        name: of the clip.
        frames: opens it: yields its frames in order.
        truth: the labels of each frame.
        times_s: float64 (T,), of the frames since the first one.
        all_labeled: whether every person is labeled.
        elevation_deg: how steeply the camera looks down; None if unknown.
        camera: how the camera moves; empty if unknown.
        zones: polygons by name, shares of width and height.
        lines: both ends by name, likewise.
        events: what happens; None if that is not labeled.
        grounds: float64 (T, 3, 3), from the ground in meters to pixels of each frame; None if unknown.
    """

    name: str
    frames: Callable[[], Iterator[Frame]]
    truth: Sequence[FrameTruth]
    times_s: NDArray[np.float64]
    all_labeled: bool
    elevation_deg: float | None = None
    camera: str = ""
    zones: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    lines: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = field(default_factory=dict)
    events: Sequence[TrueEvent] | None = None
    grounds: NDArray[np.float64] | None = None


class _Zone(msgspec.Struct):
    polygon: list[tuple[float, float]]


class _Line(msgspec.Struct):
    points: tuple[tuple[float, float], tuple[float, float]]


class _Video(msgspec.Struct):
    id: int
    name: str = ""
    elevation: float | None = None
    camera: str = ""
    zones: dict[str, _Zone] = {}
    lines: dict[str, _Line] = {}


class _Picture(msgspec.Struct):
    id: int
    video_id: int
    frame_id: int
    file_name: str
    captured_at: float
    ground_to_image: list[list[float]] | None = None


class _Box(msgspec.Struct):
    image_id: int
    track_id: int
    bbox: tuple[float, float, float, float]
    keypoints: list[float] = []
    iscrowd: int = 0
    at_rest: int = 0


class _Event(msgspec.Struct):
    video_id: int
    track_id: int
    kind: str
    start: float
    end: float
    zone: str = ""
    wrist: str = ""
    line: str = ""
    direction: str = ""


class _Labels(msgspec.Struct):
    videos: list[_Video]
    images: list[_Picture]
    annotations: list[_Box]
    events: list[_Event] | None = None


def read_clips(folder: Path) -> list[LabeledClip]:
    """Read the labels of all clips of a folder.

    Raises:
        ConfigError: the folder is refused.
    """
    labels = folder / "annotations.json"
    if labels.is_file():
        return _coco_clips(labels)
    pairs = [(path.with_suffix(".mp4"), path) for path in sorted(folder.glob("*.csv"))] if folder.is_dir() else []
    clips = [_followed_clip(video, boxes) for video, boxes in pairs if video.is_file()]
    if not clips:
        raise ConfigError(f"{folder} holds no labeled clips; {_EXPECTED}")
    return clips


def _coco_clips(path: Path) -> list[LabeledClip]:
    try:
        labels = msgspec.json.decode(path.read_bytes(), type=_Labels)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} has no labels of clips ({error}); {_EXPECTED}") from error
    pictures: dict[int, list[_Picture]] = defaultdict(list)
    boxes: dict[int, list[_Box]] = defaultdict(list)
    events: dict[int, list[TrueEvent]] = defaultdict(list)
    for picture in labels.images:
        pictures[picture.video_id].append(picture)
    for box in labels.annotations:
        boxes[box.image_id].append(box)
    for event in labels.events or []:
        true = TrueEvent(event.kind, event.track_id, event.start, event.end, event.zone, event.wrist, event.line, event.direction)
        events[event.video_id].append(true)
    clips = []
    for video in labels.videos:
        frames = sorted(pictures[video.id], key=lambda picture: picture.frame_id)
        if not frames:
            raise ConfigError(f"{path}: video {video.id} has no images; expected at least one")
        files = [path.parent / "images" / picture.file_name for picture in frames]
        times_s = np.array([picture.captured_at for picture in frames])
        if (np.diff(times_s) <= 0).any():
            raise ConfigError(f"{path}: captured_at of video {video.id} does not rise from frame to frame; expected seconds that do")
        clips.append(
            LabeledClip(
                name=video.name or str(video.id),
                frames=_reader(files, times_s),
                truth=[_truth(boxes[picture.id]) for picture in frames],
                times_s=times_s - times_s[0],
                all_labeled=True,
                elevation_deg=video.elevation,
                camera=video.camera,
                zones={name: zone.polygon for name, zone in video.zones.items()},
                lines={name: line.points for name, line in video.lines.items()},
                events=events[video.id] if labels.events is not None else None,
                grounds=_grounds(frames),
            )
        )
    return clips


def _grounds(frames: Sequence[_Picture]) -> NDArray[np.float64] | None:
    if any(picture.ground_to_image is None for picture in frames):
        return None
    return np.array([picture.ground_to_image for picture in frames], np.float64).reshape(-1, 3, 3)


def _truth(people: Sequence[_Box]) -> FrameTruth:
    boxes = np.array([person.bbox for person in people], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    keypoints = [person.keypoints if len(person.keypoints) == 51 else [0.0] * 51 for person in people]
    return FrameTruth(
        tracks=np.array([person.track_id for person in people], np.int64),
        boxes=boxes,
        keypoints=np.array(keypoints, np.float32).reshape(-1, 17, 3),
        ignored=np.array([bool(person.iscrowd) for person in people], bool),
        at_rest=np.array([bool(person.at_rest) for person in people], bool),
    )


def _reader(files: Sequence[Path], times_s: NDArray[np.float64]) -> Callable[[], Iterator[Frame]]:
    def read() -> Iterator[Frame]:
        for number, (file, time_s) in enumerate(zip(files, times_s.tolist(), strict=True)):
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise ConfigError(f"{file} is not a readable picture; expected a JPEG or PNG file")
            pixels = np.ascontiguousarray(image[..., ::-1], np.uint8)
            yield Frame(pixels, _EPOCH_NS + round(time_s * NS_PER_S), "stream", number, "clip")

    return read


def _followed_clip(video: Path, boxes: Path) -> LabeledClip:
    """Return a clip in which the box of one person is labeled in some frames."""
    try:
        with boxes.open(newline="") as file:
            rows = {int(row["frame"]): [float(row[key]) for key in ("x", "y", "w", "h")] for row in csv.DictReader(file)}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{boxes} has no boxes ({error!r}); expected the columns frame,x,y,w,h") from error
    times_ns = [frame.captured_at_ns for frame in _video_frames(video)]
    if not times_ns:
        raise ConfigError(f"{video} has no frames; expected a video")
    truth = []
    for number in range(len(times_ns)):
        box = np.array([rows[number]] if number in rows else [], np.float32).reshape(-1, 4)
        box[:, 2:] += box[:, :2]
        count = len(box)
        truth.append(
            FrameTruth(np.full(count, _TRACKED), box, np.zeros((count, 17, 3), np.float32), np.zeros(count, bool), np.zeros(count, bool))
        )
    times_s = (np.array(times_ns) - times_ns[0]) / NS_PER_S
    return LabeledClip(video.stem, lambda: _video_frames(video), truth, times_s, all_labeled=False)


def _video_frames(video: Path) -> Iterator[Frame]:
    source = open_source("clip", CameraConfig(source=str(video)))
    try:
        while True:
            yield source.read()
    except EndOfStream:
        return
    finally:
        source.close()
