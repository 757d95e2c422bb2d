"""Whether a daemon with a new bundle works as before: it publishes health, and cameras that delivered frames deliver some again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgepose.daemon.health import DaemonSnapshot

FRAMES = 4
"""Frames of a camera that show that it works: more than may be under way when the configuration changes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What counts in a trial, at one moment.

    Attributes:
        reports: health messages that were published, as far as they differ: the newest one's time, empty before the first.
        connected: whether the broker has them.
        frames: pose messages of each configured camera since the start of the daemon.
        paused: cameras that an operator has paused.
        stuck: stages that hang.
    """

    reports: str = ""
    connected: bool = False
    frames: Mapping[str, int] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    stuck: tuple[str, ...] = ()

    @classmethod
    def of(cls, snapshot: DaemonSnapshot) -> "Progress":
        """Return the progress that a snapshot shows."""
        cameras = snapshot.pipeline.cameras
        return cls(
            reports="" if snapshot.health is None else f"{snapshot.health.at} {snapshot.health.uptime_s}",
            connected=snapshot.publisher.state == "connected",
            frames={name: snapshot.metrics.camera(name).published for name in cameras},
            paused=frozenset(name for name, camera in cameras.items() if camera.state.state == "paused"),
            stuck=snapshot.stuck,
        )


class Trial:
    """The trial of a bundle; times are readings of one clock.

    Args:
        began: progress at its beginning.
        cameras: that delivered frames before.
        ends_s: when it has failed.
    """

    def __init__(self, began: Progress, cameras: Sequence[str], ends_s: float) -> None:
        self._began = began
        self._cameras = cameras
        self._ends_s = ends_s

    def missing(self, now: Progress) -> list[str]:
        """Return what is missing for success, each in a few words."""
        silent = [
            name
            for name in self._cameras
            if name in now.frames and name not in now.paused and now.frames[name] < self._began.frames.get(name, 0) + FRAMES
        ]
        return [
            *(["no health message was written"] if now.reports == self._began.reports else []),
            *([] if now.connected else ["the broker is not connected"]),
            *(f"camera {name} delivered fewer than {FRAMES} frames that were processed" for name in silent),
            *(f"{stage} hangs" for stage in now.stuck),
        ]

    def is_over(self, now_s: float) -> bool:
        """Return whether the time is up."""
        return now_s >= self._ends_s
