"""Everything that one camera's people do, frame by frame, as events.

Durations are counted in time that was watched: a gap between two frames counts as a second at most, and breaks whatever evidence was
being gathered, so that a stream that stalls makes nobody fall, leave or stand still. Where a clock is set back, no time has passed.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from edgepose.config.schema import EventsConfig
from edgepose.event import Event
from edgepose.events.arms import arms_up
from edgepose.events.body import Body, Point
from edgepose.events.evidence import Evidence, S, clarity
from edgepose.events.fall import fall
from edgepose.events.people import PersonMemory, PersonState, heir
from edgepose.events.stillness import still
from edgepose.events.waving import wave
from edgepose.events.zones import gone, zones
from edgepose.frame import Frame
from edgepose.person import Person

_GAP_S = 1.0  # after a longer one nothing goes on
_MOST_REMEMBERED = 256  # people; whoever was not seen for longest is forgotten first
_AGAIN_KINDS = ("fallen", "waving", "arms_up")  # the others cannot repeat themselves
_AMIDST = 1.0  # body sizes from the picture's sides
_ENOUGH_PER_S = 4.0  # sightings a second beyond doubt


class EventDetectorState(msgspec.Struct, frozen=True):
    """Snapshot of an `EventDetector`, without its settings.

    Attributes:
        known: people by track number, in the order in which they were first seen.
        watched_ns: time that was watched so far.
        captured_at_ns: capture time of the last frame, None before the first.
    """

    known: dict[int, PersonState]
    watched_ns: int
    captured_at_ns: int | None


class EventDetector:
    """Tells what the people of one camera do.

    Args:
        settings: thresholds and times.
        zones: polygons by name, corners as fractions of the picture's sides.
        camera: its name.
        keypoint_threshold: keypoints below this confidence are not seen.
    """

    def __init__(self, settings: EventsConfig, zones: Mapping[str, Sequence[Point]], camera: str, keypoint_threshold: float) -> None:
        self.camera = camera
        self.configure(settings, zones, keypoint_threshold)
        self._known: dict[int, PersonMemory] = {}
        self._watched = 0  # nanoseconds
        self._captured_at: int | None = None

    def configure(self, settings: EventsConfig, zones: Mapping[str, Sequence[Point]], keypoint_threshold: float) -> None:
        """Takes other settings, for the next frame on; people stay known. A zone that is gone says nothing more."""
        self._settings = settings
        self._zones = zones
        self._threshold = keypoint_threshold

    def reset(self) -> None:
        """Forgets everybody, as at a new epoch of a source, and says nothing of it: what was not watched was not seen to happen."""
        self._known = {}
        self._captured_at = None

    def snapshot(self) -> EventDetectorState:
        """Return all that is known of people, without the settings."""
        return EventDetectorState({track: memory.snapshot() for track, memory in self._known.items()}, self._watched, self._captured_at)

    def restore(self, state: EventDetectorState) -> None:
        """Continue from a snapshot."""
        self._known = {track: PersonMemory.restored(memory) for track, memory in state.known.items()}
        self._watched, self._captured_at = state.watched_ns, state.captured_at_ns

    def update(self, people: Sequence[Person], frame: Frame) -> list[Event]:
        """What the people of one frame complete; called for every frame, also when nobody is in it.

        Args:
            people: those without a track number are passed over.
            frame: gives time and size; its picture is not looked at.
        """
        self._watch(frame)
        now, events = self._watched, []
        seen = [person for person in people if person.track is not None]
        present = {person.track for person in seen}
        for person in seen:
            assert person.track is not None
            body = Body.of(person, frame.height, self._threshold)
            memory = self._known.get(person.track)
            if memory is None:
                memory = self._welcome(person.track, body, present, frame)
            memory.body, memory.seen_at, memory.sightings = body, now, memory.sightings + 1
            events += [self._event(person.track, memory, finding, frame) for finding in self._findings(memory, body, frame)]
        for track, memory in list(self._known.items()):
            if now - memory.seen_at >= self._settings.leave_after_s * S:
                del self._known[track]
                events += [self._event(track, memory, finding, frame) for finding in self._leaving(memory, frame)]
        return [event for event in events if event.kind not in self._settings.disabled]

    def _watch(self, frame: Frame) -> None:
        """Moves the clock on."""
        passed = 0 if self._captured_at is None else max(0, frame.captured_at - self._captured_at)
        self._captured_at = frame.captured_at
        self._watched += min(passed, int(_GAP_S * S))
        if passed > _GAP_S * S:
            for memory in self._known.values():
                memory.interrupt()

    def _welcome(self, track: int, body: Body, present: set[int | None], frame: Frame) -> PersonMemory:
        """The memory of a new number: that of somebody just lost in the same place, or a new one."""
        before = heir(self._known, body, present, self._watched)
        memory = self._known.pop(before) if before is not None else PersonMemory(body, self._watched, self._watched)
        if len(self._known) >= _MOST_REMEMBERED:
            del self._known[min(self._known, key=lambda other: self._known[other].seen_at)]
        self._known[track] = memory
        return memory

    def _findings(self, memory: PersonMemory, body: Body, frame: Frame) -> list[Evidence]:
        now, settings = self._watched, self._settings
        findings = []
        present_s = (now - memory.first_at) / S
        if not memory.entered and present_s >= settings.enter_after_s:
            memory.entered = True
            score = clarity(memory.sightings / present_s, 0.0, _ENOUGH_PER_S)
            findings.append(Evidence("entered", memory.first_at, score, {"present_s": present_s, "sightings": memory.sightings}))
        found = (
            fall(memory.falling, body, now, settings),
            still(memory.stillness, body, now, memory.falling.fallen, settings),
            wave(memory.waves, body, now, settings),
            arms_up(memory.arms, body, now, settings),
        )
        for finding in found:
            if finding is not None and self._is_news(memory, finding.kind):
                findings.append(finding)
        if self._zones:
            findings += zones(memory.places, body, now, self._zones, (frame.width, frame.height), settings)
        return findings

    def _is_news(self, memory: PersonMemory, kind: str) -> bool:
        """Whether this was not said lately; what goes on and on is said once, until it was interrupted for as long."""
        if kind not in _AGAIN_KINDS:
            return True
        before = memory.found_at.get(kind)
        memory.found_at[kind] = self._watched
        return before is None or self._watched - before >= self._settings.again_after_s * S

    def _leaving(self, memory: PersonMemory, frame: Frame) -> list[Evidence]:
        left_zones = gone(memory.places, memory.seen_at, self._zones)  # entered before the person was, perhaps: nobody stays in there
        if not memory.entered:
            return left_zones
        absent_s = (self._watched - memory.seen_at) / S
        left, top, right, bottom = memory.body.box
        edge = max(0.0, min(left, top, frame.width - right, frame.height - bottom)) / memory.body.size
        # Whoever was lost far from the picture's sides may stand behind something, or lie where the network sees nobody.
        score = clarity(edge, _AMIDST, 0.0) if edge < _AMIDST else 0.5
        evidence = {"present_s": (memory.seen_at - memory.first_at) / S, "absent_s": absent_s, "edge_bodies": edge}
        return [
            *left_zones,
            Evidence("left", memory.seen_at, score, evidence),
        ]

    def _event(self, track: int, memory: PersonMemory, finding: Evidence, frame: Frame) -> Event:
        return Event(
            kind=finding.kind,
            camera=self.camera,
            epoch=frame.epoch,
            sequence=frame.sequence,
            at=frame.captured_at,
            since=frame.captured_at - (self._watched - finding.since),
            clock=frame.clock,
            track=track,
            score=finding.score,
            box=memory.body.box,
            width=frame.width,
            height=frame.height,
            zone=finding.zone,
            evidence={name: value for name, value in finding.evidence.items() if math.isfinite(value)},
        )
