"""People at given positions before a detector of events, without noise."""

from dataclasses import replace

import numpy as np

from edgepose.config.schema import EventsConfig
from edgepose.event import Event
from edgepose.events.body import Point
from edgepose.events.detector import EventDetector, Places
from edgepose.frame import Frame
from edgepose.person import Person
from edgepose.simulation.figure import Pose, View, joints, project

IMAGE = np.zeros((480, 640, 3), np.uint8)
STANDING, LYING = Pose(), Pose(tip=88.0, towards=90.0)


def person(track: int | None = 1, x: float = 200.0, pose: Pose = STANDING, *, confidence: float = 0.9) -> Person:
    points = project(joints(pose), View(height_px=200), (x, 400))
    box = np.array((*(points.min(0) - 8), *(points.max(0) + 8)), np.float32)
    return Person(box, 0.9, np.concatenate((points, np.full((17, 1), confidence)), 1).astype(np.float32), track)


class Scene:
    """A detector that receives people at ten frames per second."""

    def __init__(
        self,
        zones: dict[str, list[Point]] | None = None,
        settings: EventsConfig | None = None,
        lines: dict[str, tuple[Point, Point]] | None = None,
    ) -> None:
        self.detector = EventDetector(settings or EventsConfig(), Places(zones or {}, lines or {}), "front", 0.2)
        self.now_ns = 1_800_000_000_000_000_000
        self.number = 0
        self.events: list[Event] = []

    def show(self, *people: Person, for_s: float = 0.1, step_s: float = 0.1) -> list[str]:
        """Show people for some time and return the kinds of the events reported meanwhile."""
        reported = []
        for _ in range(round(for_s / step_s)):
            frame = Frame(IMAGE, self.now_ns, "stream", self.number, "front")
            reported += self.detector.update(people, frame)
            self.now_ns += round(step_s * 1e9)
            self.number += 1
        self.events += reported
        return [event.kind for event in reported]


def fall(scene: Scene, lasts_s: float, *, stands_s: float = 2.0, lies_s: float = 3.0) -> list[str]:
    """Show a person who stands, falls and lies, and return the kinds of the events reported from the beginning."""
    reported = scene.show(person(), for_s=stands_s)
    steps = round(lasts_s / 0.1)
    for step in range(1, steps):
        reported += scene.show(person(pose=replace(LYING, tip=88.0 * step / steps)))
    return reported + scene.show(person(pose=LYING), for_s=lies_s)
