"""Detection of events: what the people of one camera do, frame by frame.

Durations are measured in *observed time*: the gap between two frames counts as one second at most, and a longer gap discards incomplete
evidence. A stalled stream therefore makes nobody fall, leave or lie still. When the clock is set back, no time passes.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from edgepose.config.schema import EventsConfig
from edgepose.event import Event, EventKind, Occupancy
from edgepose.events.arms import detect_arms_up
from edgepose.events.body import Body, Point
from edgepose.events.evidence import Evidence, strength
from edgepose.events.fall import detect_fall
from edgepose.events.lines import detect_line_crossings
from edgepose.events.person_history import PersonHistory, PersonState, find_predecessor
from edgepose.events.stillness import detect_stillness
from edgepose.events.view import UNDECIDABLE_KINDS, begins_from_above
from edgepose.events.waving import detect_waving
from edgepose.events.zones import detect_zone_changes, leave_zones
from edgepose.frame import NS_PER_S, Frame
from edgepose.ground import GroundPlace, WorldPlaces
from edgepose.motion import STILL, Motion
from edgepose.person import Person

_MAXIMUM_GAP_S = 1.0  # a longer gap between frames discards incomplete evidence
_MAXIMUM_PEOPLE = 256  # beyond this, the person who was last seen longest ago is forgotten
_REPEATABLE_KINDS = ("fallen", "waving", "arms_up")  # the analyzers of the other kinds never repeat themselves
_INTERIOR_DISTANCE = 1.0  # body sizes from the edges of the frame; farther inside, people do not leave it
_CERTAIN_SIGHTINGS_PER_S = 4.0  # frames with the person per second from which the score of `entered` is 1
_LOST_INSIDE_SCORE = 0.5
_SMALLEST_M = 1.0  # the unit of distances on the map, for a person whose place is exact
_LEAST_DEPTH = 0.05  # of feet in the first frame; those beyond its horizon, or as far away as that, were not in it


@dataclass(frozen=True, slots=True)
class Places:
    """The places of one camera that events are about, by name, as fractions of the width and height of the frame.

    Attributes:
        zones: corners of polygons.
        lines: both ends.
        world: zones and lines on the map.
    """

    zones: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    lines: Mapping[str, tuple[Point, Point]] = field(default_factory=dict)
    world: WorldPlaces = field(default_factory=WorldPlaces)


class EventDetectorState(msgspec.Struct, frozen=True):
    """Snapshot of an `EventDetector`, without its settings.

    Attributes:
        people: by track number, in the order in which they were first seen.
        ground: motion of the camera since the first frame, nine numbers.
        entries, exits: zone, or None for the frame, and number since the start.
        observed_ns: observed time so far.
        captured_at_ns: capture time of the last frame, None before the first.
    """

    people: dict[int, PersonState]
    ground: tuple[float, ...]
    entries: list[tuple[str | None, int]]
    exits: list[tuple[str | None, int]]
    observed_ns: int
    captured_at_ns: int | None


class EventDetector:
    """Detector of the events of one camera.

    Args:
        settings: thresholds and times.
        places: zones and lines.
        camera: name of the camera.
        keypoint_threshold: confidence below which a keypoint is not visible.

    Attributes:
        undecidable: kinds of events that cannot be told of a person who, in the last frame, came to be seen from straight above; a kind for
            each such person.
    """

    def __init__(self, settings: EventsConfig, places: Places, camera: str, keypoint_threshold: float) -> None:
        self.camera = camera
        self.undecidable: list[EventKind] = []
        self._entries: Counter[str | None] = Counter()
        self._exits: Counter[str | None] = Counter()
        self.configure(settings, places, keypoint_threshold)
        self._people: dict[int, PersonHistory] = {}  # by track
        self._ground = STILL  # source pixels of the first frame of a stream -> those of this frame
        self._observed_ns = 0
        self._captured_at_ns: int | None = None

    def configure(self, settings: EventsConfig, places: Places, keypoint_threshold: float) -> None:
        """Apply other settings from the next frame on. People stay known; a removed zone or line produces no more events."""
        self._settings = settings
        self._zones, self._lines, self._world = places.zones, places.lines, places.world
        self._keypoint_threshold = keypoint_threshold

    def reset(self) -> None:
        """Forget all people without reporting events, for a new epoch of a stream: nothing is known of the time between epochs."""
        self._people = {}
        self._ground = STILL
        self._captured_at_ns = None

    def move(self, motion: Motion) -> None:
        """Move people, and zones that follow the ground, when the camera has moved since the last frame; before `update`."""
        self._ground = self._ground.then(motion)
        for history in self._people.values():
            history.move(motion)

    def snapshot(self) -> EventDetectorState:
        """Return all that is known of people, without the settings."""
        people = {track: history.snapshot() for track, history in self._people.items()}
        entries, exits = list(self._entries.items()), list(self._exits.items())
        return EventDetectorState(people, self._ground.values, entries, exits, self._observed_ns, self._captured_at_ns)

    def restore(self, state: EventDetectorState) -> None:
        """Continue from a snapshot."""
        self._people = {track: PersonHistory.restored(person) for track, person in state.people.items()}
        self._ground = Motion.of(state.ground)
        self._entries, self._exits = Counter(dict(state.entries)), Counter(dict(state.exits))
        self._observed_ns, self._captured_at_ns = state.observed_ns, state.captured_at_ns

    @property
    def occupancy(self) -> dict[str | None, Occupancy]:
        """People in the frame (None) and in each zone, of the frame and of the map, after the last frame."""
        counts: dict[str | None, int] = {None: sum(history.entered for history in self._people.values())}
        people = self._people.values()
        counts |= {zone: sum(history.zones.inside(zone) for history in people) for zone in self._zones}
        counts |= {zone: sum(history.world_zones.inside(zone) for history in people) for zone in self._world.zones}
        return {place: Occupancy(count, self._entries[place], self._exits[place]) for place, count in counts.items()}

    def update(self, people: Sequence[Person], frame: Frame) -> list[Event]:
        """Return the events whose evidence one frame completes. Call it for every frame, also without people.

        Args:
            people: those without a track number are ignored.
            frame: its time and size are used, its pixels are not.
        """
        self._advance(frame)
        now_ns, events = self._observed_ns, []
        self.undecidable = []
        tracked = [person for person in people if person.track is not None]
        present = {person.track for person in tracked}
        for person in tracked:
            assert person.track is not None
            body = Body.from_person(person, frame.height, self._keypoint_threshold)
            history = self._people.get(person.track)
            if history is None:
                history = self._add(person.track, body, present)
            history.body, history.last_seen_ns, history.sightings = body, now_ns, history.sightings + 1
            history.place = person.ground or history.place
            events += [
                self._event(person.track, history, evidence, frame) for evidence in self._analyze(history, body, frame, person.ground)
            ]
        for track, history in list(self._people.items()):
            if now_ns - history.last_seen_ns >= self._settings.leave_after_s * NS_PER_S:
                del self._people[track]
                events += [self._event(track, history, evidence, frame) for evidence in self._leave(history, frame)]
        self._entries.update(event.zone for event in events if event.kind in ("entered", "zone_entered"))
        self._exits.update(event.zone for event in events if event.kind in ("left", "zone_left"))
        return [event for event in events if event.kind not in self._settings.disabled]

    def _advance(self, frame: Frame) -> None:
        """Advance the observed time to a frame."""
        elapsed_ns = 0 if self._captured_at_ns is None else max(0, frame.captured_at_ns - self._captured_at_ns)
        self._captured_at_ns = frame.captured_at_ns
        self._observed_ns += min(elapsed_ns, int(_MAXIMUM_GAP_S * NS_PER_S))
        if elapsed_ns > _MAXIMUM_GAP_S * NS_PER_S:
            for history in self._people.values():
                history.interrupt()

    def _add(self, track: int, body: Body, present: set[int | None]) -> PersonHistory:
        """Return the history of a new track: that of the lost track that it continues, or a new one."""
        predecessor = find_predecessor(self._people, body, present, self._observed_ns)
        new = PersonHistory(body, self._observed_ns, self._observed_ns)
        history = new if predecessor is None else self._people.pop(predecessor)
        if len(self._people) >= _MAXIMUM_PEOPLE:
            del self._people[min(self._people, key=lambda other: self._people[other].last_seen_ns)]
        self._people[track] = history
        return history

    def _analyze(self, history: PersonHistory, body: Body, frame: Frame, place: GroundPlace | None) -> list[Evidence]:
        """Run all analyzers on one person and return the evidence to report."""
        now_ns, settings = self._observed_ns, self._settings
        result = []
        present_s = (now_ns - history.first_seen_ns) / NS_PER_S
        if not history.entered and present_s >= settings.enter_after_s:
            history.entered = True
            score = strength(history.sightings / present_s, 0.0, _CERTAIN_SIGHTINGS_PER_S)
            result.append(Evidence("entered", history.first_seen_ns, score, {"present_s": present_s, "sightings": history.sightings}))
        found = [
            detect_fall(history.fall, body, now_ns, settings),
            detect_stillness(history.stillness, body, now_ns, history.fall.fallen, settings),
        ]
        if not history.fall.lies:  # arms of people who lie may be anywhere, and their trunk may point up in the frame
            found += [detect_waving(history.waving, body, now_ns, settings), detect_arms_up(history.arms, body, now_ns, settings)]
        if begins_from_above(history.view, body, now_ns, history.fall.fallen):
            self.undecidable += [kind for kind in UNDECIDABLE_KINDS if kind not in settings.disabled]
        for evidence in found:
            if evidence is not None and self._is_new(history, evidence.kind):
                result.append(evidence)
        if self._zones or self._lines:
            grounded, size = self._in_first_frame(body) if settings.zones_follow_ground else body, (frame.width, frame.height)
            result += detect_zone_changes(history.zones, grounded, now_ns, self._zones, size, settings)
            result += detect_line_crossings(history.lines, grounded, now_ns, self._lines, size, settings)
        if place is not None and (point := self._world.point(place)) is not None:
            # In units of ten radii the margin of a border is half a radius: nothing is decided about somebody who may be on either side.
            on_map = replace(body, feet=point, size=max(_SMALLEST_M, 10 * place.radius_m))
            result += detect_zone_changes(history.world_zones, on_map, now_ns, self._world.zones, (1, 1), settings)
            result += detect_line_crossings(history.world_lines, on_map, now_ns, self._world.lines, (1, 1), settings)
        return result

    def _in_first_frame(self, body: Body) -> Body:
        """Return a body whose feet are where they would be in the first frame; none beyond its horizon."""
        if body.feet is None or self._ground.still:
            return body
        back, feet = self._ground.inverse(), np.array(body.feet, np.float32)
        if back.depth(feet) < _LEAST_DEPTH:
            return replace(body, feet=None)
        x, y = back.points(feet).tolist()
        return replace(body, feet=(x, y), size=body.size * back.scale(feet))

    def _is_new(self, history: PersonHistory, kind: str) -> bool:
        """Return whether evidence is to be reported. Continuing evidence is reported again only after a pause of `again_after_s`."""
        if kind not in _REPEATABLE_KINDS:
            return True
        last_ns = history.last_evidence_ns.get(kind)
        history.last_evidence_ns[kind] = self._observed_ns
        return last_ns is None or self._observed_ns - last_ns >= self._settings.again_after_s * NS_PER_S

    def _leave(self, history: PersonHistory, frame: Frame) -> list[Evidence]:
        """Return the evidence for a person who has left."""
        # A zone may be entered before the person counts as entered; it is left all the same.
        zones_left = leave_zones(history.zones, history.last_seen_ns, self._zones)
        zones_left += leave_zones(history.world_zones, history.last_seen_ns, self._world.zones)
        if not history.entered:
            return zones_left
        absent_s = (self._observed_ns - history.last_seen_ns) / NS_PER_S
        left, top, right, bottom = history.body.box
        edge = max(0.0, min(left, top, frame.width - right, frame.height - bottom)) / history.body.size
        # A person lost far from the edges may be occluded, or lie where the network does not find them.
        score = strength(edge, _INTERIOR_DISTANCE, 0.0) if edge < _INTERIOR_DISTANCE else _LOST_INSIDE_SCORE
        present_s = (history.last_seen_ns - history.first_seen_ns) / NS_PER_S
        measurements = {"present_s": present_s, "absent_s": absent_s, "edge_bodies": edge}
        return [*zones_left, Evidence("left", history.last_seen_ns, score, measurements)]

    def _event(self, track: int, history: PersonHistory, evidence: Evidence, frame: Frame) -> Event:
        return Event(
            kind=evidence.kind,
            camera=self.camera,
            epoch=frame.epoch,
            sequence=frame.sequence,
            at_ns=frame.captured_at_ns,
            since_ns=frame.captured_at_ns - (self._observed_ns - evidence.since_ns),
            clock=frame.clock,
            track=track,
            score=evidence.score,
            box=history.body.box,
            width=frame.width,
            height=frame.height,
            zone=evidence.zone,
            line=evidence.line,
            direction=evidence.direction,
            ground=history.place,
            evidence={name: value for name, value in evidence.measurements.items() if math.isfinite(value)},
        )
