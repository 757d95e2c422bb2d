"""What the cameras show now: newest poses, pictures that somebody wants, and the last events.

The postprocess thread leaves the newest results here and goes on; nothing is encoded before a client of the page asks for it. So the work
does not depend on how many look, and a client that is slow finds newer results when it comes back.
"""

from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from edgepose.config.schema import Config
from edgepose.daemon.commands import snapshot_message
from edgepose.messages import compact
from edgepose.messages.structs import EventMessage, PosesMessage
from edgepose.pipeline.stages import FrameResult
from edgepose.pixels import PixelGate
from edgepose.storage.span import Span, nanoseconds

EVENTS_LIMIT = 100
"""Events that a client sees when it comes."""

PICTURE_WIDTH_PX = 800
"""Widest picture behind skeletons."""

STILL_WIDTH_PX = 1280
"""Widest still, for drawing areas."""

_PICTURE_BYTES, _STILL_BYTES = 96 * 1024, 384 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class ShownFrame:
    """The newest frame of a camera.

    Attributes:
        number: of the frame since the start, among all cameras.
        poses: what is published of it.
        result: with the pixels; None where nobody wants them.
    """

    number: int
    poses: PosesMessage
    result: FrameResult | None


class LiveFeed:
    """The newest results; `take_…` belong to the postprocess thread, the rest to that of the server."""

    def __init__(self) -> None:
        self.frames = 0
        """Number of frames so far."""
        self.event_count = 0
        """Number of events so far."""
        self._newest: dict[str, ShownFrame] = {}
        self._events: deque[EventMessage] = deque(maxlen=EVENTS_LIMIT)
        self._wanted: Counter[str] = Counter()  # clients that want pictures, by camera
        self._encoded: dict[str, tuple[int, bytes]] = {}
        self._pictures: dict[str, tuple[int, bytes]] = {}

    def take_poses(self, result: FrameResult, poses: PosesMessage) -> None:
        """Take the newest frame of a camera."""
        self.frames += 1
        camera = poses.camera
        self._newest[camera] = ShownFrame(self.frames, poses, result if self._wanted[camera] > 0 else None)

    def take_event(self, event: EventMessage) -> None:
        """Take an event."""
        self._events.append(event)
        self.event_count += 1

    def newest(self) -> list[tuple[str, ShownFrame]]:
        """Return the newest frame of each camera, by name."""
        return list(self._newest.items())

    def newest_of(self, camera: str) -> ShownFrame | None:
        """Return the newest frame of a camera, None before the first."""
        return self._newest.get(camera)

    def keep_cameras(self, cameras: Iterable[str]) -> None:
        """Forget cameras that the configuration no longer has."""
        for gone in set(self._newest).difference(cameras):
            for known in (self._newest, self._encoded, self._pictures):
                known.pop(gone, None)

    def events_after(self, count: int) -> list[EventMessage]:
        """Return the events since there were `count`, as far as they are kept."""
        new = min(self.event_count - count, EVENTS_LIMIT)
        return list(self._events)[-new:] if new > 0 else []

    def forget(self, span: Span) -> int:
        """Forget what is of a span, and return how many events."""
        for camera, frame in self.newest():
            if span.holds(nanoseconds(frame.poses.captured_at) or 0, camera):
                for known in (self._newest, self._encoded, self._pictures):
                    known.pop(camera, None)
        gone = [event for event in list(self._events) if span.holds_message(msgspec.json.encode(event))]
        for event in gone:
            with suppress(ValueError):  # a newer one has taken its place meanwhile
                self._events.remove(event)
        return len(gone)

    def want_pictures(self, camera: str, change: int) -> None:
        """Count one client more or less (1 or -1) that wants the pixels of a camera's next frames."""
        self._wanted[camera] += change

    def encoded(self, camera: str, frame: ShownFrame) -> bytes:
        """Return the poses of a frame in the compact encoding, made once for all clients."""
        known = self._encoded.get(camera)
        if known is None or known[0] != frame.number:
            known = self._encoded[camera] = (frame.number, compact.encode(frame.poses))
        return known[1]

    def picture(self, camera: str, frame: ShownFrame, config: Config) -> bytes:
        """Return a frame as a JPEG, as far as `privacy.pixels` lets it out, made once for all clients.

        Args:
            camera: its name.
            frame: with its result.
            config: in use.

        Raises:
            ConfigError: no image may leave.
        """
        known = self._pictures.get(camera)
        if known is None or known[0] != frame.number:
            assert frame.result is not None
            known = self._pictures[camera] = (frame.number, released_jpeg(frame.result, config, PICTURE_WIDTH_PX, _PICTURE_BYTES))
        return known[1]


def still(result: FrameResult, config: Config) -> bytes:
    """Return a frame as a JPEG to draw areas on; ConfigError where no image may leave."""
    return released_jpeg(result, config, STILL_WIDTH_PX, _STILL_BYTES)


def released_jpeg(result: FrameResult, config: Config, width_px: int, limit_bytes: int) -> bytes:
    """Return what may leave of a frame as a JPEG; empty where it cannot be made that small."""
    gate = PixelGate(config.privacy.pixels, config.pose.keypoint_threshold)
    message = snapshot_message(result.frame, gate.release(result.frame.image, result.people), width_px, limit_bytes)
    return b"" if message is None else message.jpeg
