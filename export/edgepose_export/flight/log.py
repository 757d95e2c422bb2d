"""The log of a flight, read from recorded messages: paths of the aircraft and of people, and events with their places."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from edgepose.errors import RecordingError
from edgepose.messages.structs import EventMessage, PosesMessage

_STEP_S = 0.2  # between two points of a path: tracks of hours must fit into a page
_TRACK_GAP_S = 30.0


@dataclass(frozen=True, slots=True)
class PathPoint:
    """One point of a path.

    Attributes:
        at: time, RFC 3339.
        seconds: the same since the Unix epoch.
        latitude, longitude: degrees.
        radius_m: of a person's place; height above the ground of an aircraft.
    """

    at: str
    seconds: float
    latitude: float
    longitude: float
    radius_m: float


@dataclass(frozen=True, slots=True)
class PersonPath:
    """The path of one person under one track number of a camera."""

    camera: str
    track: int
    points: list[PathPoint]


@dataclass(frozen=True, slots=True)
class PlacedEvent:
    """An event at the place of its person; without one where the person had none."""

    message: EventMessage
    point: PathPoint | None


@dataclass(slots=True)
class FlightLog:
    """All that the messages of a flight say about places.

    Attributes:
        aircraft: paths, a new one after a gap.
        people: paths of people with a place on the Earth.
        events: in the order of the files.
        messages: pose messages read.
        without: pose messages that gave no place, by the state of telemetry; `no_mount` where they have none.
        unreadable: lines that are no message.
    """

    aircraft: list[list[PathPoint]] = field(default_factory=list)
    people: list[PersonPath] = field(default_factory=list)
    events: list[PlacedEvent] = field(default_factory=list)
    messages: int = 0
    without: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0


class _Line(msgspec.Struct, frozen=True):
    """What tells the kinds of lines apart: an event has a kind, and a line of a subscriber a topic and a payload."""

    kind: str | UnsetType = UNSET
    payload: msgspec.Raw = msgspec.Raw()
    people: msgspec.Raw = msgspec.Raw()


_kinds = msgspec.json.Decoder(_Line)
_poses = msgspec.json.Decoder(PosesMessage)
_events = msgspec.json.Decoder(EventMessage)


def read_log(folder: Path) -> FlightLog:
    """Read all `*.jsonl` files of a folder in the order of their names.

    A line is a pose message or an event, as files and subscribers write it: as it is, or as `payload` beside a topic.

    Raises:
        RecordingError: there is no such file, or no message in them.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise RecordingError(f"{folder} has no files *.jsonl; expected recorded messages, such as those of files.jsonl")
    log = FlightLog()
    reader = _LogReader(log)
    for path in files:
        try:
            for line in _lines(path):
                reader.take(line)
        except OSError as error:
            raise RecordingError(f"{path} cannot be read ({error}); expected recorded messages") from error
    if not log.messages:
        raise RecordingError(f"{folder} has no pose messages in {len(files)} files; expected recorded messages")
    return log


class _LogReader:
    def __init__(self, log: FlightLog) -> None:
        self._log = log
        self._people: dict[tuple[object, ...], PersonPath] = {}

    def take(self, line: bytes) -> None:
        try:
            kind = _kinds.decode(line)
            if bytes(kind.payload):
                line = bytes(kind.payload)
                kind = _kinds.decode(line)
            if kind.kind is not UNSET:
                self._take_event(_events.decode(line))
            elif bytes(kind.people):
                self._take_poses(_poses.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            self._log.unreadable += 1

    def _take_poses(self, message: PosesMessage) -> None:
        log, aircraft = self._log, message.aircraft
        log.messages += 1
        if aircraft is UNSET or aircraft.state != "ok":
            log.without["no_mount" if aircraft is UNSET else aircraft.state] += 1
            return
        seconds = _seconds(message.captured_at)
        if aircraft.lat is not UNSET and aircraft.lon is not UNSET and aircraft.height_m is not UNSET:
            self._add_aircraft(PathPoint(message.captured_at, seconds, aircraft.lat, aircraft.lon, aircraft.height_m))
        for person in message.people:
            ground = person.ground
            if ground is UNSET or ground.lat is UNSET or ground.lon is UNSET or person.track is UNSET:
                continue
            key = (message.session, message.camera, message.epoch, person.track)
            path = self._people.get(key)
            if path is None:
                path = self._people[key] = PersonPath(message.camera, person.track, [])
                log.people.append(path)
            _add(path.points, PathPoint(message.captured_at, seconds, ground.lat, ground.lon, ground.radius_m))

    def _take_event(self, message: EventMessage) -> None:
        at_s = _seconds(message.at)
        paths = [path for path in self._log.people if (path.camera, path.track) == (message.camera, message.track)]
        points = [point for path in paths for point in path.points[-1:] if abs(point.seconds - at_s) < _TRACK_GAP_S]
        self._log.events.append(PlacedEvent(message, points[-1] if points else None))

    def _add_aircraft(self, point: PathPoint) -> None:
        paths = self._log.aircraft
        if not paths or not -1 < point.seconds - paths[-1][-1].seconds < _TRACK_GAP_S:
            paths.append([point])
        else:
            _add(paths[-1], point)


def _add(path: list[PathPoint], point: PathPoint) -> None:
    if not path or point.seconds - path[-1].seconds >= _STEP_S:
        path.append(point)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield line


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
