"""The steps from a frame's candidates to its people and events, with the state that each camera needs."""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from edgepose.config.schema import Config
from edgepose.errors import RecordingError
from edgepose.event import Event, Occupancy
from edgepose.events.detector import EventDetector, EventDetectorState, Places
from edgepose.flight.locator_state import GroundLocatorState
from edgepose.frame import Frame
from edgepose.ground import Aircraft, WorldPlaces
from edgepose.motion import Motion
from edgepose.person import Candidates, Person
from edgepose.pipeline.stages import PreparedFrame
from edgepose.pose.carried_pose import CarriedPoses, CarriedPosesState, refined_poses
from edgepose.pose.decode import decode
from edgepose.pose.motion import CameraMotion
from edgepose.pose.plausibility import Plausibility, PlausibilityState
from edgepose.pose.refine.schedule import RefineSchedule, RefineScheduleState, without_small_poses
from edgepose.pose.smooth import Smoother, SmootherState
from edgepose.pose.suppress import without_doubles
from edgepose.pose.tiles import Visited
from edgepose.pose.track import Tracker, TrackerState
from edgepose.recorder.state_snapshot import decode_state, encode_state
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import Tile

if TYPE_CHECKING:
    from edgepose.flight.ground_locator import GroundLocator

_log = logging.getLogger(__name__)


class PersonRefiner(Protocol):
    """A refiner of people: `edgepose.pipeline.refiner.Refiner`, or its results in a recording."""

    def people(
        self, frame: Frame, people: Sequence[Person], schedule: RefineSchedule, frame_waits: Callable[[], bool] | None
    ) -> list[Person]:
        """Return the people of a frame in the same order, with those refined whose turn it is."""
        ...


class Locators(Protocol):
    """What places people: `edgepose.flight.service.FlightService`, or the telemetry of a recording."""

    @property
    def places(self) -> WorldPlaces:
        """Zones and lines on the map."""
        ...

    def locator(self, camera: str) -> "GroundLocator | None":
        """Return a locator for a camera; None where nobody is placed."""
        ...


class PostprocessorState(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshot of a `Postprocessor`, without its settings.

    Attributes:
        scene: epoch, width and height in pixels of the frames that the rest belongs to; None before the first frame.
        tracker, smoother, plausibility, locator, detector: None where the step is off.
    """

    scene: tuple[int, int, int] | None
    schedule: RefineScheduleState
    carried: CarriedPosesState
    tracker: TrackerState | None
    smoother: SmootherState | None
    plausibility: PlausibilityState | None
    detector: EventDetectorState | None
    locator: GroundLocatorState | None = None


_Step = Callable[[PreparedFrame, Candidates, list[Person]], list[Person]]  # a frame and the people of the step before: the people
_Stage = TypeVar("_Stage")


class Postprocessor:
    """The steps of one camera: decode, motion of the camera, track, refine, carry refined poses, smooth, check, place, events.

    Steps that are off are absent.

    Attributes:
        events: those that the last frame completed.
        refined: people of the last frame as the refiner returned them, None without a refiner.
        motion: of the camera before the last frame, None where it is not measured.
        aircraft: what carried the camera at the last frame, None for a camera without a mount.
    """

    def __init__(
        self,
        camera: str,
        config: Config,
        metrics: Metrics,
        refiner: PersonRefiner | None = None,
        frame_waits: Callable[[], bool] | None = None,
        *,
        tells_limit: bool = True,
        flight: Locators | None = None,
    ) -> None:
        """
        Args:
            camera: its name.
            refiner: shared by all cameras; None where nobody is refined.
            frame_waits: as in `edgepose.pipeline.refiner.Refiner.people`.
            tells_limit: whether the log says so the first time that people are left out.
            flight: places people on the ground; None where nobody is placed.
        """
        self.events: list[Event] = []
        self.refined: list[Person] | None = None
        self.motion: Motion | None = None
        self.aircraft: Aircraft | None = None
        self._camera = camera
        self._metrics = metrics
        self._frame_waits = frame_waits
        self._scene: tuple[int, int, int] | None = None
        self._tells_limit = tells_limit
        self._fresh: list[bool] = []  # whose pose is refined in this frame, for the step after refinement
        self._visited: Visited | None = None
        self._schedule = RefineSchedule(config.refine)
        self._carried = CarriedPoses(config.refine)
        self._flight = flight
        self._locator: GroundLocator | None = None
        self._camera_motion: CameraMotion | None = None
        self._tracker: Tracker | None = None
        self._smoother: Smoother | None = None
        self._plausibility: Plausibility | None = None
        self._detector: EventDetector | None = None
        self.configure(config, refiner)

    def configure(self, config: Config, refiner: PersonRefiner | None) -> None:
        """Apply other settings from the next frame on; people stay known and keep their numbers."""
        self._pose, self._refine = config.pose, config.refine
        # The tracker follows known people below the threshold for new ones, so it must get candidates with low scores too.
        self._threshold = config.track.low_score_threshold if config.track.enabled else config.pose.score_threshold
        self._schedule.configure(config.refine)
        self._carried.configure(config.refine)
        if refiner is None or not config.track.enabled:  # the frames until it is on again do not count, and numbers may start anew
            self._carried.reset()
        self._camera_motion = self._configured_motion(config)
        self._tracker = self._configured_tracker(config)
        self._smoother = self._configured_smoother(config)
        self._plausibility = self._configured_plausibility(config)
        self._detector = self._configured_detector(config)
        locator = None if self._flight is None else self._flight.locator(self._camera)
        if locator is not None:
            locator.follow(self._locator)
        self._locator = locator
        self._steps = self._build_steps(refiner)

    def people(
        self,
        prepared: PreparedFrame,
        candidates: Candidates,
        motion: Motion | None = None,
        visited: tuple[Tile, ...] | None = None,
    ) -> list[Person]:
        """Return the people of a frame.

        The first frame of an epoch or of another size starts without history: people are not where they were before.

        Args:
            prepared: the frame.
            candidates: of the network.
            motion: of the camera, as recorded; None measures it where that is on.
            visited: tiles in which the candidates were searched besides the whole frame; None where it shows all there is.
        """
        self.events, self.refined, self.motion, self.aircraft = [], None, motion, None
        self._visited = None if visited is None else Visited.of(visited, prepared.letterbox)
        frame = prepared.frame
        scene = (frame.epoch, frame.width, frame.height)
        if scene != self._scene:
            self.reset()
            self._scene = scene
        took_s: defaultdict[str, float] = defaultdict(float)  # by timing name, which several steps share
        people: list[Person] = []
        clock = self._metrics.clock
        begun_s = clock()
        for name, step in self._steps:
            people = step(prepared, candidates, people)
            ended_s = clock()
            took_s[name] += ended_s - begun_s
            begun_s = ended_s
        for name, seconds in took_s.items():
            self._metrics.took(name, seconds)
        return people

    @property
    def telemetry(self) -> bytes | None:
        """What placed the people of the last frame, for a recording; None where nobody is placed."""
        return None if self._locator is None else encode_state(self._locator.record())

    @property
    def occupancy(self) -> Mapping[str | None, Occupancy] | None:
        """People in the frame (None) and in each zone after the last frame; None where no events are detected."""
        return None if self._detector is None else self._detector.occupancy

    def reset(self) -> None:
        """Forget everybody: at a new epoch or frame size, or after a failure that may have left the state half updated."""
        self._schedule.reset()
        self._carried.reset()
        for stage in (self._camera_motion, self._tracker, self._smoother, self._plausibility, self._locator, self._detector):
            if stage is not None:
                stage.reset()

    def snapshot(self) -> bytes:
        """Return the state of all steps, for a postprocessor with the same settings to continue from."""
        return encode_state(
            PostprocessorState(
                scene=self._scene,
                schedule=self._schedule.snapshot(),
                carried=self._carried.snapshot(),
                tracker=self._tracker.snapshot() if self._tracker is not None else None,
                smoother=self._smoother.snapshot() if self._smoother is not None else None,
                plausibility=self._plausibility.snapshot() if self._plausibility is not None else None,
                detector=self._detector.snapshot() if self._detector is not None else None,
                locator=self._locator.snapshot() if self._locator is not None else None,
            )
        )

    def restore(self, data: bytes) -> None:
        """Continue from a snapshot.

        Raises:
            RecordingError: the snapshot cannot be read, or holds the state of a step that is off.
        """
        state = decode_state(data, PostprocessorState)
        self._scene = state.scene
        self._schedule.restore(state.schedule)
        self._carried.restore(state.carried)
        if state.tracker is not None:
            _running(self._tracker, "track.enabled").restore(state.tracker)
        if state.smoother is not None:
            _running(self._smoother, "smooth.enabled").restore(state.smoother)
        if state.plausibility is not None:
            _running(self._plausibility, "plausibility.enabled").restore(state.plausibility)
        if state.detector is not None:
            _running(self._detector, "events.enabled").restore(state.detector)
        if state.locator is not None:
            _running(self._locator, "flight.source").restore(state.locator)

    def _build_steps(self, refiner: PersonRefiner | None) -> list[tuple[str, _Step]]:
        """Return the steps that are on, in their order, each with the name under which it is timed."""
        steps: list[tuple[str, _Step]] = [("decode", self._decode)]
        if self._locator is not None:
            steps.append(("ground", self._flying(self._locator)))
        if refiner is not None:
            steps.append(("refine", self._hide_small_poses))
        if self._camera_motion is not None:
            steps.append(("motion", self._move))
        if self._tracker is not None:
            steps.append(("track", self._tracking(self._tracker)))
        if refiner is not None:
            steps += [("refine", self._refining(refiner)), ("refine", self._carry)]
        if self._smoother is not None:
            steps.append(("track", _updating(self._smoother)))
        if self._plausibility is not None:
            steps.append(("track", _updating(self._plausibility)))
        if self._locator is not None:
            steps.append(("ground", _locating(self._locator)))
        if self._detector is not None:
            steps.append(("events", self._detecting(self._detector)))
        return steps

    def _decode(self, prepared: PreparedFrame, candidates: Candidates, _: list[Person]) -> list[Person]:
        return decode(candidates, 0, prepared.letterbox, self._pose, score_threshold=self._threshold, over_limit=self._over_limit)

    def _over_limit(self, people: int) -> None:
        """Count people beyond the limit, and log that once."""
        self._metrics.over_limit(self._camera, people)
        if self._tells_limit:
            self._tells_limit = False
            limit = f"pose.maximum_people is {self._pose.maximum_people}"
            _log.warning("camera %s: %d more people in a frame are left out: %s", self._camera, people, limit)

    def _flying(self, locator: "GroundLocator") -> _Step:
        """Return the step that takes the pose of the aircraft, and lowers the scores of people of impossible sizes where that is on."""

        def fly(prepared: PreparedFrame, _: Candidates, people: list[Person]) -> list[Person]:
            frame = prepared.frame
            self.aircraft = locator.begin(prepared.captured_monotonic_ns, (frame.width, frame.height))
            if not locator.weighs_sizes:
                return people
            weighed = [person for person in locator.weighed(people) if person.score >= self._threshold]
            return sorted(weighed, key=lambda person: -person.score)

        return fly

    def _move(self, prepared: PreparedFrame, _: Candidates, people: list[Person]) -> list[Person]:
        """Move what is known of people with the ground."""
        if self.motion is None:
            assert self._camera_motion is not None
            self.motion = self._camera_motion.update(prepared.images[0], prepared.letterbox, people)
        if not self.motion.still:
            for stage in (self._tracker, self._carried, self._smoother, self._plausibility, self._detector):
                if stage is not None:
                    stage.move(self.motion)
        return people

    def _tracking(self, tracker: Tracker) -> _Step:
        return lambda prepared, _, people: tracker.update(people, prepared.frame.captured_at_ns, self._visited)

    def _hide_small_poses(self, _: PreparedFrame, __: Candidates, people: list[Person]) -> list[Person]:
        """Return people whose keypoints have no confidence where nobody will refine them; before tracking, which then uses the box."""
        return without_small_poses(people, self._refine)

    def _refining(self, refiner: PersonRefiner) -> _Step:
        def refine(prepared: PreparedFrame, _: Candidates, people: list[Person]) -> list[Person]:
            """Return the refined people by falling score; the new scores must pass the thresholds that the first ones passed."""
            refined = self.refined = refiner.people(prepared.frame, people, self._schedule, self._frame_waits)
            fresh = refined_poses(people, refined)
            believed = [
                index
                for index, person in enumerate(refined)
                if person.score >= (self._pose.score_threshold if person.track is None else self._threshold)
            ]
            self._metrics.dismissed(len(refined) - len(believed))
            believed.sort(key=lambda index: -refined[index].score)
            self._fresh = [fresh[index] for index in believed]
            return [refined[index] for index in believed]

        return refine

    def _carry(self, prepared: PreparedFrame, _: Candidates, people: list[Person]) -> list[Person]:
        """Return people with the poses of the refiner, new or carried, and without doubles."""
        frame = prepared.frame
        shown, from_refiner = self._carried.update(people, self._fresh, frame.width, frame.height, frame.captured_at_ns)
        # After carrying: a double that is refined in turns must not come and go.
        kept = without_doubles(shown, from_refiner)
        self._metrics.refine_doubles(len(shown) - len(kept))
        return kept

    def _detecting(self, detector: EventDetector) -> _Step:
        def detect(prepared: PreparedFrame, _: Candidates, people: list[Person]) -> list[Person]:
            self.events = detector.update(people, prepared.frame)
            for kind in detector.undecidable:
                self._metrics.undecidable(self._camera, kind)
            return people

        return detect

    def _configured_motion(self, config: Config) -> CameraMotion | None:
        if not (config.motion.enabled and config.track.enabled):
            return None
        return self._camera_motion or CameraMotion()

    def _configured_tracker(self, config: Config) -> Tracker | None:
        pose, track = config.pose, config.track
        if not track.enabled:
            return None
        if self._tracker is None:
            return Tracker(track, pose.keypoint_threshold, pose.score_threshold)
        self._tracker.configure(track, pose.keypoint_threshold, pose.score_threshold)
        return self._tracker

    def _configured_smoother(self, config: Config) -> Smoother | None:
        if not (config.smooth.enabled and config.track.enabled):
            return None
        if self._smoother is None:
            return Smoother(config.smooth)
        self._smoother.configure(config.smooth)
        return self._smoother

    def _configured_plausibility(self, config: Config) -> Plausibility | None:
        if not config.plausibility.enabled:
            return None
        if self._plausibility is None:
            return Plausibility(config.plausibility)
        self._plausibility.configure(config.plausibility)
        return self._plausibility

    def _configured_detector(self, config: Config) -> EventDetector | None:
        if not (config.events.enabled and config.track.enabled):  # events are about people with track numbers
            return None
        camera = config.cameras.get(self._camera)
        world = WorldPlaces() if self._flight is None or camera is None or camera.mount is None else self._flight.places
        places = Places() if camera is None else Places(camera.zones, camera.lines, world)
        if self._detector is None:
            return EventDetector(config.events, places, self._camera, config.pose.keypoint_threshold)
        self._detector.configure(config.events, places, config.pose.keypoint_threshold)
        return self._detector


def _locating(locator: "GroundLocator") -> _Step:
    def locate(prepared: PreparedFrame, _: Candidates, people: list[Person]) -> list[Person]:
        frame = prepared.frame
        return locator.located(people, frame.captured_at_ns, (frame.width, frame.height))

    return locate


class _Updating(Protocol):
    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]: ...


def _updating(stage: _Updating) -> _Step:
    return lambda prepared, _, people: stage.update(people, prepared.frame.captured_at_ns)


def _running(stage: _Stage | None, section: str) -> _Stage:
    if stage is None:
        raise RecordingError(f"the recorded state is of a step that is off ({section}); expected a recording of these settings")
    return stage
