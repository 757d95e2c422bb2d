"""The latest state of devices, cameras and people, kept from the messages that daemons publish."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from edgepose.errors import OutputError
from edgepose.messages import compact
from edgepose.messages.structs import CameraStatusMessage, EventMessage, InfoMessage, PosesMessage, StatusMessage

_RATE_WINDOW = 50  # messages over which the rate is measured
_EVENT_LIMIT = 8  # events that are shown
_NEWS_LIMIT = 1000  # events and states that no caller has taken yet


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """The state of a device, from its status message."""

    name: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class CameraRow:
    """One camera of a device that is online.

    Attributes:
        device, name: of the camera.
        state: from its status message; `unknown` before the first.
        cause: reason of the state, empty where there is none.
        poses: the last pose message; None where there is none, or where it is out of date.
        rate_hz: pose messages per second, measured over the last ones.
    """

    device: str
    name: str
    state: str
    cause: str
    poses: PosesMessage | None
    rate_hz: float


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event.

    Attributes:
        device, camera: where it happened.
        event: its message.
        began_at: capture time of the camera's first pose message, empty where none came before.
    """

    device: str
    camera: str
    event: EventMessage
    began_at: str

    def offset_s(self) -> float | None:
        """Return the seconds from the camera's first pose message to the event, None where no pose message came before."""
        return (_time(self.event.at) - _time(self.began_at)).total_seconds() if self.began_at else None


@dataclass(slots=True)
class _Device:
    state: str = ""  # empty before its first status message: a device that sends poses counts as online
    reason: str = ""
    cameras: set[str] | None = None  # those of its configuration, None before its first info message

    def has(self, camera: str) -> bool:
        """Return whether a camera is present now; retained messages of other cameras are out of date."""
        return self.state in ("", "online") and (self.cameras is None or camera in self.cameras)


@dataclass(slots=True)
class _Camera:
    state: str = "unknown"
    cause: str = ""
    poses: PosesMessage | None = None
    began_at: str = ""  # `captured_at` of the first pose message
    arrivals_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RATE_WINDOW))

    def enter(self, status: CameraStatusMessage) -> None:
        """Set another state; the last poses stay only while the camera streams, and at the end of a video."""
        self.state, self.cause = status.state, status.cause or ""
        if status.state != "streaming" and status.cause != "end_of_stream":
            self.poses = None
            self.arrivals_s.clear()

    def rate_hz(self) -> float:
        """Return the recent pose messages per second."""
        if len(self.arrivals_s) < 2:
            return 0.0
        return (len(self.arrivals_s) - 1) / max(1e-6, self.arrivals_s[-1] - self.arrivals_s[0])


class LiveTable:
    """The latest state of each device and camera; messages may come from another thread.

    Attributes:
        messages: number of pose messages.
        tracks: device, camera and number of all tracks.
        most_people: largest number of people in one frame.
        entered: number of `entered` events: people who were seen for a second or so.
    """

    def __init__(self, prefix: str) -> None:
        """
        Args:
            prefix: of topics.
        """
        self.messages = 0
        self.tracks: set[tuple[str, str, int]] = set()
        self.most_people = 0
        self.entered = 0
        self._prefix = prefix.strip("/") + "/"
        self._lock = threading.Lock()
        self._devices: dict[str, _Device] = {}
        self._cameras: dict[tuple[str, str], _Camera] = {}
        self._events: deque[EventRow] = deque(maxlen=_EVENT_LIMIT)
        self._new_events: deque[EventRow] = deque(maxlen=_NEWS_LIMIT)
        self._new_states: deque[DeviceRow] = deque(maxlen=_NEWS_LIMIT)

    def take(self, topic: str, payload: bytes, now_s: float) -> None:
        """Take one message in any encoding; messages of other programs are ignored.

        Args:
            now_s: monotonic time of its arrival, seconds.
        """
        device, _, rest = topic.removeprefix(self._prefix).partition("/")
        decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
        try:
            with self._lock:
                match rest.split("/"):
                    case ["status"]:
                        self._take_status(device, decode(payload, type=StatusMessage))
                    case ["info"]:
                        self._device(device).cameras = {camera.name for camera in decode(payload, type=InfoMessage).cameras}
                    case ["cameras", name, "status"] if not payload:  # the retained message was cleared
                        self._cameras.pop((device, name), None)
                    case ["cameras", name, "status"]:
                        self._camera(device, name).enter(decode(payload, type=CameraStatusMessage))
                    case ["cameras", name, "poses"]:
                        self._take_poses(device, name, decode_poses(payload, name), now_s)
                    case ["cameras", name, "events"]:
                        self._take_event(device, name, decode(payload, type=EventMessage))
        except (msgspec.MsgspecError, OutputError, UnicodeDecodeError, RecursionError):  # not a message of edgepose
            return

    def devices(self) -> list[DeviceRow]:
        """Return the devices whose state is known, by name."""
        with self._lock:
            return [DeviceRow(name, device.state, device.reason) for name, device in sorted(self._devices.items()) if device.state]

    def cameras(self) -> list[CameraRow]:
        """Return the cameras that are present now, by device and name."""
        with self._lock:
            return [
                CameraRow(device, name, camera.state, camera.cause, camera.poses, camera.rate_hz())
                for device, name, camera in self._present()
            ]

    def events(self) -> list[EventRow]:
        """Return the last events, the newest last."""
        with self._lock:
            return list(self._events)

    def new_states(self) -> list[DeviceRow]:
        """Return each change of a device's state since the last call."""
        with self._lock:
            states = list(self._new_states)
            self._new_states.clear()
        return states

    def new_events(self) -> list[EventRow]:
        """Return the events since the last call."""
        with self._lock:
            events = list(self._new_events)
            self._new_events.clear()
        return events

    def _present(self) -> Iterator[tuple[str, str, _Camera]]:
        for (device, name), camera in sorted(self._cameras.items()):
            if self._device(device).has(name):
                yield device, name, camera

    def _device(self, name: str) -> _Device:
        return self._devices.setdefault(name, _Device())

    def _camera(self, device: str, name: str) -> _Camera:
        return self._cameras.setdefault((device, name), _Camera())

    def _take_status(self, name: str, status: StatusMessage) -> None:
        device = self._device(name)
        changed = status.state != device.state or (status.state != "online" and status.reason != device.reason)
        device.state, device.reason = status.state, status.reason
        if changed:
            self._new_states.append(DeviceRow(name, device.state, device.reason))

    def _take_poses(self, device: str, name: str, poses: PosesMessage, now_s: float) -> None:
        camera = self._camera(device, name)
        camera.poses = poses
        camera.began_at = camera.began_at or poses.captured_at
        camera.arrivals_s.append(now_s)
        self.messages += 1
        self.most_people = max(self.most_people, len(poses.people))
        self.tracks.update((device, name, person.track) for person in poses.people if isinstance(person.track, int))

    def _take_event(self, device: str, name: str, event: EventMessage) -> None:
        row = EventRow(device, name, event, self._camera(device, name).began_at)
        self.entered += event.kind == "entered"
        self._events.append(row)
        self._new_events.append(row)


def decode_poses(payload: bytes, camera: str) -> PosesMessage:
    """Return the pose message of a payload in any encoding.

    Args:
        payload: as received.
        camera: its name, from the topic.

    Raises:
        OutputError: it begins as a compact message and is none.
        msgspec.MsgspecError: it is no pose message.
    """
    if payload[:1] == b"\x01":
        return compact.decode(payload, camera)
    decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
    return decode(payload, type=PosesMessage)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
