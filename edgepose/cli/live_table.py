"""Who is where, live in the terminal: drawn from the messages that daemons publish, and from nothing else."""

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgepose.messages.structs import CameraStatusMessage, EventMessage, InfoMessage, PosesMessage, StatusMessage

_RATE_WINDOW = 50  # messages over which the rate is measured
_ROWS = 12  # people shown a camera
_EVENTS = 8  # events shown, the newest last
_PLAIN_S = 1.0  # time between two lines where there is no terminal
_AT_THE_EDGE = 0.5  # `edge_bodies` below which somebody who is seen no more has probably left


@dataclass(slots=True)
class _Device:
    state: str = ""  # empty until it is heard of: whoever sends poses is there
    reason: str = ""
    cameras: set[str] | None = None  # those of its present configuration, where it has told

    def __str__(self) -> str:
        return self.state if self.state == "online" else f"{self.state} ({self.reason})"

    def has(self, camera: str) -> bool:
        """Whether a camera is there now; what the broker keeps of others is history."""
        return self.state in ("", "online") and (self.cameras is None or camera in self.cameras)


@dataclass(slots=True)
class _Camera:
    state: str = "unknown"
    cause: str = ""
    poses: PosesMessage | None = None
    began_at: str = ""  # `captured_at` of the first poses
    arrivals_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RATE_WINDOW))

    def enter(self, status: CameraStatusMessage) -> None:
        """Is in another state; only while it streams, and at the end of a film, somebody is where the last poses say."""
        self.state, self.cause = status.state, status.cause or ""
        if status.state != "streaming" and status.cause != "end_of_stream":
            self.poses = None
            self.arrivals_s.clear()

    def rate(self) -> float:
        """Messages a second, lately."""
        if len(self.arrivals_s) < 2:
            return 0.0
        return (len(self.arrivals_s) - 1) / max(1e-6, self.arrivals_s[-1] - self.arrivals_s[0])


class LiveTable:
    """What was heard last of each device and camera; messages may come from another thread.

    Attributes:
        messages: pose messages heard.
        tracks: numbers of tracks heard, by camera.
        most_people: most people in one frame.
    """

    def __init__(self, prefix: str, *, film: bool = False) -> None:
        """
        Args:
            prefix: of topics.
            film: whether events are told by their seconds into it: a film that is read fast has times that are still to come.
        """
        self._prefix = prefix.strip("/") + "/"
        self._film = film
        self._lock = threading.Lock()
        self._devices: dict[str, _Device] = {}
        self._cameras: dict[tuple[str, str], _Camera] = {}
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self._new_events: deque[str] = deque(maxlen=1000)
        self._new_states: deque[str] = deque(maxlen=1000)
        self.messages = 0
        self.tracks: set[tuple[str, str, int]] = set()
        self.most_people = 0

    def take(self, topic: str, payload: bytes, now_s: float) -> None:
        """Takes one message, JSON or MessagePack; what is not ours is passed over."""
        device, _, rest = topic.removeprefix(self._prefix).partition("/")
        decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
        try:
            with self._lock:
                match rest.split("/"):
                    case ["status"]:
                        self._take_status(device, decode(payload, type=StatusMessage))
                    case ["info"]:
                        self._device(device).cameras = {camera.name for camera in decode(payload, type=InfoMessage).cameras}
                    case ["cameras", name, "status"] if not payload:  # what a broker kept was cleared
                        self._cameras.pop((device, name), None)
                    case ["cameras", name, "status"]:
                        self._camera(device, name).enter(decode(payload, type=CameraStatusMessage))
                    case ["cameras", name, "poses"]:
                        self._take_poses(device, name, decode(payload, type=PosesMessage), now_s)
                    case ["cameras", name, "events"]:
                        line = f"{device}/{name}: {self._event_line(device, name, decode(payload, type=EventMessage))}"
                        self._events.append(line)
                        self._new_events.append(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # not ours, whatever it is
            return

    def lines(self) -> list[str]:
        """One plain line for each camera that is there."""
        with self._lock:
            return [_line(device, name, camera) for device, name, camera in self._there()]

    def new_states(self) -> list[str]:
        """One plain line for each change of a device's state, each only once."""
        with self._lock:
            lines = list(self._new_states)
            self._new_states.clear()
        return lines

    def new_events(self) -> list[str]:
        """One plain line an event, each only once."""
        with self._lock:
            lines = list(self._new_events)
            self._new_events.clear()
        return lines

    def table(self) -> Group:
        """A line for each device, and a table for each camera that is there."""
        with self._lock:
            parts: list[Table | Text] = [Text(f"{name}: {device}") for name, device in sorted(self._devices.items()) if device.state]
            parts += [_table(device, name, camera) for device, name, camera in self._there()]
            if self._events:
                parts.append(Text("\n".join(("events:", *self._events))))
        return Group(*parts) if parts else Group(Text("nothing heard yet"))

    def _there(self) -> Iterator[tuple[str, str, _Camera]]:
        for (device, name), camera in sorted(self._cameras.items()):
            if self._device(device).has(name):
                yield device, name, camera

    def _take_status(self, name: str, status: StatusMessage) -> None:
        device = self._device(name)
        before = str(device)
        device.state, device.reason = status.state, status.reason
        if str(device) != before:
            self._new_states.append(f"{name}: {device}")

    def _device(self, name: str) -> _Device:
        return self._devices.setdefault(name, _Device())

    def _camera(self, device: str, name: str) -> _Camera:
        return self._cameras.setdefault((device, name), _Camera())

    def _event_line(self, device: str, name: str, event: EventMessage) -> str:
        began_at = self._camera(device, name).began_at
        if not self._film or not began_at:
            return event_line(event)
        return event_line(event, f"at {(_time(event.at) - _time(began_at)).total_seconds():.1f} s:")

    def _take_poses(self, device: str, name: str, poses: PosesMessage, now_s: float) -> None:
        camera = self._camera(device, name)
        camera.poses = poses
        camera.began_at = camera.began_at or poses.captured_at
        camera.arrivals_s.append(now_s)
        self.messages += 1
        self.most_people = max(self.most_people, len(poses.people))
        self.tracks.update((device, name, person.track) for person in poses.people if isinstance(person.track, int))


def event_line(event: EventMessage, when: str | None = None) -> str:
    """An event in one line: when (the time of day where nothing else is given), who, what, and the evidence.

    Whoever is seen no more far from the edge of the picture is not said to have left: most of them are hidden, or overlooked.
    """
    zone = f" {event.zone}" if isinstance(event.zone, str) else ""
    evidence = ", ".join(f"{name} {value:g}" for name, value in event.evidence.items())
    lost = event.kind == "left" and event.evidence.get("edge_bodies", 0.0) >= _AT_THE_EDGE
    what = f"lost from sight (left, {event.score:.2f}" if lost else f"{event.kind}{zone} ({event.score:.2f}"
    return f"{when or event.at[11:19]} person {event.track} {what}: {evidence})"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _line(device: str, name: str, camera: _Camera) -> str:
    if camera.poses is None:
        return f"{device}/{name}: {_state(camera)}"
    people, frame = len(camera.poses.people), camera.poses.sequence
    return f"{device}/{name}: {_state(camera)}, {people} people, {camera.rate():.1f} frames/s, frame {frame}"


def _state(camera: _Camera) -> str:
    return f"{camera.state} ({camera.cause})" if camera.cause else camera.state


def _table(device: str, name: str, camera: _Camera) -> Table:
    poses = camera.poses
    table = Table(title=f"{device}/{name}: {_state(camera)}", title_justify="left", expand=False)
    for column in ("person", "score", "centre", "height", "keypoints"):
        table.add_column(column, justify="right", min_width=9)
    if poses is None:
        return table
    for person in poses.people[:_ROWS]:
        left, top, width, height = person.box
        seen = sum(keypoint[2] >= 0.2 for keypoint in person.keypoints)
        who = str(person.track) if isinstance(person.track, int) else "-"
        table.add_row(who, f"{person.score:.2f}", f"{left + width / 2:.0f}, {top + height / 2:.0f}", f"{height:.0f} px", f"{seen} of 17")
    more = f", {len(poses.people) - _ROWS} more not shown" if len(poses.people) > _ROWS else ""
    age = f", age {poses.age_ms:.0f} ms" if poses.age_ms >= 0 else ""  # a file is read faster than it was filmed
    frame = f"frame {poses.sequence}, {poses.width}x{poses.height}, {camera.rate():.1f}/s{age}"
    table.caption = f"{len(poses.people)} people{more}; {frame}"
    return table


class _Screen:
    """Draws a board where there is a terminal, and writes a line a second where there is none."""

    def __init__(self, live_table: LiveTable, live: Live | None) -> None:
        self._live_table = live_table
        self._live = live
        self._written_s = time.monotonic()

    def draw(self) -> None:
        """Shows what there is now."""
        if self._live is not None:
            self._live.update(self._live_table.table(), refresh=True)
            return
        for line in (*self._live_table.new_states(), *self._live_table.new_events()):
            click.echo(line)
        if time.monotonic() - self._written_s >= _PLAIN_S:
            self._written_s = time.monotonic()
            for line in self._live_table.lines():
                click.echo(line)


@contextmanager
def shown(live_table: LiveTable) -> Iterator[_Screen]:
    """Shows a board on standard output; call `draw` of what it gives several times a second."""
    if not sys.stdout.isatty():
        yield _Screen(live_table, None)
        return
    with Live(live_table.table(), console=Console(), auto_refresh=False) as live:
        yield _Screen(live_table, live)
