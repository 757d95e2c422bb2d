"""The live table in the terminal, and events and states as lines."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgepose.event import EventKind
from edgepose.messages.live_table import CameraRow, DeviceRow, EventRow, LiveTable
from edgepose.messages.structs import EventMessage
from edgepose.printable import printable

_PEOPLE_LIMIT = 12  # people shown for each camera
_PLAIN_S = 1.0  # seconds between two lines where standard output is no terminal
_AT_THE_EDGE = 0.5  # `edge_bodies` below which a person who is no longer seen has probably left

_WHAT: Mapping[EventKind, str] = {
    "entered": "entered",
    "left": "left",
    "fallen": "fell",
    "still": "is still",
    "waving": "waves",
    "arms_up": "holds both arms up",
    "zone_entered": "entered zone",
    "zone_left": "left zone",
    "loitering": "loiters in zone",
    "line_crossed": "crossed line",
}

_EVIDENCE: Mapping[str, str] = {
    "present_s": "seen for {:.1f} s",
    "absent_s": "not seen for {:.1f} s",
    "down_s": "down within {:.1f} s",
    "lying_s": "lying for {:.1f} s",
    "still_s": "without movement for {:.0f} s",
    "duration_s": "for {:.1f} s",
    "inside_s": "{:.1f} s inside",
}
"""What people may want to know of the evidence, in words; the rest is for programs (`--json`)."""


def event_line(event: EventMessage, offset_s: float | None = None) -> str:
    """Return an event in one line: time, person, kind, evidence in words and score.

    A person who vanishes far from the edge of the frame is called lost: most of them are occluded, or missed by the network.

    Args:
        offset_s: seconds since the first frame, in place of the time of day: a video that is read fast has times that are still to come.
    """
    place = next((f" {name}" for name in (event.zone, event.line) if isinstance(name, str)), "")
    place += f" ({event.direction.replace('_', ' ')})" if isinstance(event.direction, str) else ""
    lost = event.kind == "left" and event.evidence.get("edge_bodies", 0.0) >= _AT_THE_EDGE
    what = "lost from sight" if lost else f"{_WHAT[event.kind]}{place}"
    evidence = [words.format(event.evidence[name]) for name, words in _EVIDENCE.items() if name in event.evidence]
    happened = f"person {event.track} {what}"
    timed = f"{event.at[11:19]} {happened}" if offset_s is None else f"{happened} at {offset_s:.1f} s"
    return printable(", ".join((timed, *evidence, f"score {event.score:.2f}")))


def event_row_line(row: EventRow, *, video_time: bool = False) -> str:
    """Return an event of a live table in one line.

    Args:
        video_time: whether one video is shown: then its device is left out, and times are the seconds since the first frame.
    """
    where = printable(row.camera if video_time else f"{row.device}/{row.camera}")
    return f"{where}: {event_line(row.event, row.offset_s() if video_time else None)}"


def device_line(device: DeviceRow) -> str:
    """Return the state of a device in one line."""
    return printable(f"{device.name}: {device.state}" + ("" if device.state == "online" else f" ({device.reason})"))


def camera_line(camera: CameraRow) -> str:
    """Return the state of a camera in one line."""
    state = printable(f"{camera.device}/{camera.name}: {_state(camera)}")
    if camera.poses is None:
        return state
    return f"{state}, {len(camera.poses.people)} people, {camera.rate_hz:.1f} frames/s, frame {camera.poses.sequence}"


def rendered(live_table: LiveTable, *, video_time: bool = False) -> Group:
    """Return a line for each device, a table for each camera, and the last events, the newest first and each on one line."""
    parts: list[Table | Text] = [Text(device_line(device)) for device in live_table.devices()]
    parts += [_table(camera) for camera in live_table.cameras()]
    events = [event_row_line(row, video_time=video_time) for row in live_table.events()]
    if events:
        parts.append(Text("\n".join(("events, the newest first:", *reversed(events))), no_wrap=True, overflow="ellipsis"))
    return Group(*parts) if parts else Group(Text("nothing received yet"))


class Screen:
    """A view of a live table on a terminal; without one, a line per second for each camera, and each event and state."""

    def __init__(self, live_table: LiveTable, live: Live | None, *, video_time: bool) -> None:
        self._live_table = live_table
        self._live = live
        self._video_time = video_time
        self._written_s = time.monotonic()

    def draw(self) -> None:
        """Show the present state; called several times a second."""
        if self._live is not None:
            self._live.update(rendered(self._live_table, video_time=self._video_time), refresh=True)
            return
        for device in self._live_table.new_states():
            click.echo(device_line(device))
        for event in self._live_table.new_events():
            click.echo(event_row_line(event, video_time=self._video_time))
        if time.monotonic() - self._written_s >= _PLAIN_S:
            self._written_s = time.monotonic()
            for camera in self._live_table.cameras():
                click.echo(camera_line(camera))


@contextmanager
def shown(live_table: LiveTable, *, video_time: bool = False) -> Iterator[Screen]:
    """Show a live table on standard output; yield the screen, whose `draw` is to be called.

    Args:
        video_time: see `event_row_line`.
    """
    if not sys.stdout.isatty():
        yield Screen(live_table, None, video_time=video_time)
        return
    with Live(rendered(live_table, video_time=video_time), console=Console(), auto_refresh=False) as live:
        yield Screen(live_table, live, video_time=video_time)


def _state(camera: CameraRow) -> str:
    return f"{camera.state} ({camera.cause})" if camera.cause else camera.state


def _table(camera: CameraRow) -> Table:
    table = Table(title=Text(printable(f"{camera.device}/{camera.name}: {_state(camera)}")), title_justify="left", expand=False)
    for column in ("person", "score", "center", "height", "keypoints"):
        table.add_column(column, justify="right", min_width=9)
    poses = camera.poses
    if poses is None:
        return table
    for person in poses.people[:_PEOPLE_LIMIT]:
        left, top, width, height = person.box
        seen = sum(keypoint[2] >= 0.2 for keypoint in person.keypoints)
        who = str(person.track) if isinstance(person.track, int) else "-"
        table.add_row(who, f"{person.score:.2f}", f"{left + width / 2:.0f}, {top + height / 2:.0f}", f"{height:.0f} px", f"{seen} of 17")
    more = f", {len(poses.people) - _PEOPLE_LIMIT} more not shown" if len(poses.people) > _PEOPLE_LIMIT else ""
    age = f", age {poses.age_ms:.0f} ms" if poses.age_ms >= 0 else ""  # a file may be read faster than it was recorded
    frame = f"frame {poses.sequence}, {poses.width}x{poses.height}, {camera.rate_hz:.1f}/s{age}"
    table.caption = f"{len(poses.people)} people{more}; {frame}"
    return table
