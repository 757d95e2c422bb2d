"""The steps of one camera: which of them run, and that a snapshot holds all of their state."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from edgepose.config.schema import (
    CameraConfig,
    Config,
    EventsConfig,
    MotionConfig,
    PlausibilityConfig,
    RefineConfig,
    SmoothConfig,
    TrackConfig,
)
from edgepose.errors import RecordingError
from edgepose.event import Occupancy
from edgepose.frame import Frame
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.structs import encode
from edgepose.motion import STILL, Motion
from edgepose.person import Candidates, Person
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.stages import PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.refine.schedule import RefineSchedule
from edgepose.telemetry.metrics import Metrics
from testing.bodies import standing_person

IMAGE = np.zeros((480, 640, 3), np.uint8)
LETTERBOX = Letterbox.fit(480, 640, 256, 320)
ZONE = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
CONFIG = Config(
    cameras={"a": CameraConfig(source="x", zones={"all": ZONE})},
    track=TrackConfig(min_hits=1),
    events=EventsConfig(enter_after_s=0.3, zone_after_s=0.2),
    refine=RefineConfig(people=2),
)


class Halving:
    """A refiner that chooses by the schedule and halves the score of those it refines."""

    def people(
        self, frame: Frame, people: Sequence[Person], schedule: RefineSchedule, frame_waits: Callable[[], bool] | None
    ) -> list[Person]:
        chosen = set(schedule.choose(people, 1.0))
        return [replace_score(person, person.score / 2) if index in chosen else person for index, person in enumerate(people)]


def replace_score(person: Person, score: float) -> Person:
    return Person(person.box, score, person.keypoints, person.track)


def prepared(number: int) -> PreparedFrame:
    return PreparedFrame(Frame(IMAGE, 10**18 + number * 100_000_000, "stream", number, "a"), LETTERBOX, IMAGE[None])


def candidates(random: np.random.Generator) -> Candidates:
    """Three figures that wander, one of them too weak to be published at first."""
    places = random.normal(0, 0.5, (1, 3, 19, 2)) + np.arange(19)[:, None] * (1.0, 5.0) + np.arange(3)[None, :, None, None] * (80, 0) + 20
    boxes = np.concatenate((places.min(2), places.max(2)), 2)
    scores = np.array([[0.9, 0.7, random.uniform(0, 0.4)]])
    keypoints = np.concatenate((places[:, :, :17], random.uniform(0, 1, (1, 3, 17, 1))), 3)
    return Candidates(*(array.astype(np.float32) for array in (boxes, scores, keypoints)))


def messages(postprocessor: Postprocessor, number: int, found: Candidates) -> list[bytes]:
    frame = prepared(number)
    people = postprocessor.people(frame, found)
    return [encode(poses_message(frame.frame, people, 0)), *(encode(event_message(event)) for event in postprocessor.events)]


@pytest.mark.parametrize(("frames", "events"), [(2, 4), (40, 0)])
def test_a_snapshot_holds_all_state_and_later_frames_do_not_change_it(frames: int, events: int) -> None:
    random = np.random.default_rng(0)
    first = Postprocessor("a", CONFIG, Metrics(), Halving())
    for number in range(frames):
        first.people(prepared(number), candidates(random))
    snapshot = first.snapshot()
    second = Postprocessor("a", CONFIG, Metrics(), Halving())
    second.restore(snapshot)
    assert second.snapshot() == snapshot
    said = 0
    for number in range(frames, frames + 40):
        found = candidates(random)
        expected = messages(first, number, found)
        assert messages(second, number, found) == expected
        said += len(expected)
    assert said >= 40 + events
    assert second.snapshot() == first.snapshot() != snapshot


def test_a_snapshot_of_a_step_that_is_off_is_refused() -> None:
    snapshot = Postprocessor("a", CONFIG, Metrics()).snapshot()
    off = replace(CONFIG, plausibility=PlausibilityConfig(enabled=False))
    with pytest.raises(RecordingError, match=r"of a step that is off \(plausibility.enabled\); expected a recording of these settings"):
        Postprocessor("a", off, Metrics()).restore(snapshot)


@pytest.mark.parametrize(
    ("config", "refiner", "timed"),
    [
        (CONFIG, Halving(), {"decode", "motion", "track", "refine", "events"}),
        (CONFIG, None, {"decode", "motion", "track", "events"}),
        (replace(CONFIG, motion=MotionConfig(enabled=False)), None, {"decode", "track", "events"}),
        (replace(CONFIG, events=EventsConfig(enabled=False)), None, {"decode", "motion", "track"}),
        (replace(CONFIG, track=TrackConfig(enabled=False)), None, {"decode", "track"}),  # the time of the plausibility checks
    ],
)
def test_only_steps_that_are_on_run(config: Config, refiner: Halving | None, timed: set[str]) -> None:
    metrics = Metrics()
    postprocessor = Postprocessor("a", config, metrics, refiner)
    postprocessor.people(prepared(0), candidates(np.random.default_rng(0)))
    assert set(metrics.latencies()) == timed
    assert (postprocessor.refined is not None) == (refiner is not None)


def test_a_recorded_motion_gives_the_same_people_without_pixels() -> None:
    ground = cv2.resize(np.random.default_rng(3).integers(0, 255, (40, 60, 3), np.uint8), (1200, 800), interpolation=cv2.INTER_CUBIC)
    live, again = Postprocessor("a", CONFIG, Metrics()), Postprocessor("a", CONFIG, Metrics())
    moved = []
    for number in range(6):
        image = np.ascontiguousarray(ground[20 * number : 20 * number + 480, 30 * number : 30 * number + 640])
        frame = Frame(image, 10**18 + number * 100_000_000, "stream", number, "a")
        found = candidates(np.random.default_rng(number))
        shown = live.people(PreparedFrame(frame, LETTERBOX, LETTERBOX.apply(image)[None]), found)
        assert live.motion is not None
        moved.append(live.motion.matrix[:2, 2].round().tolist())
        recorded = Motion.of(live.motion.values)
        replayed = again.people(PreparedFrame(frame, LETTERBOX, np.zeros((0, 0, 0, 0), np.uint8)), found, recorded)
        assert [person.keypoints.tobytes() for person in replayed] == [person.keypoints.tobytes() for person in shown]
        assert again.snapshot() == live.snapshot()
    assert moved[0] == [0, 0]
    np.testing.assert_allclose(moved[1:], [[-30, -20]] * 5, atol=1)


def test_zones_follow_the_ground_only_where_they_are_told_to() -> None:
    """A person stands beside a zone; the drone flies on until the person is where the zone was in the first frame."""
    zone = {"left": [(0.0, 0.0), (0.3, 0.0), (0.3, 1.0), (0.0, 1.0)]}
    step = Motion.of((1, 0, -20, 0, 1, 0, 0, 0, 1))
    entered = {}
    for follow in (False, True):
        events = EventsConfig(zones_follow_ground=follow, zone_after_s=0.2)
        config = replace(CONFIG, cameras={"a": CameraConfig(source="x", zones=zone)}, events=events)
        stage = Postprocessor("a", config, Metrics())
        kinds = []
        for number in range(15):
            stage.people(prepared(number), small_candidates_at(300 / 2 - 10 * number), STILL if not number else step)
            kinds += [event.kind for event in stage.events]
        entered[follow] = "zone_entered" in kinds
    assert entered == {False: True, True: False}


def small_candidates_at(x: float) -> Candidates:
    """One upright person at an x in input pixels."""
    boxes = np.array([[[x - 8, 100, x + 8, 150]]], np.float32)
    keypoints = np.zeros((1, 1, 17, 3), np.float32)
    keypoints[..., 0], keypoints[..., 1] = x, np.linspace(102, 148, 17)
    keypoints[..., 2] = 0.9
    return Candidates(boxes, np.array([[0.9]], np.float32), keypoints)


def small_candidates(height_px: float, x: float) -> Candidates:
    """One person whose keypoints are scattered."""
    places = np.random.default_rng(int(x)).uniform(0, 200, (1, 1, 17, 2))
    boxes = np.array([[[x, 50, x + 8, 50 + height_px / 2]]])  # the input is half as large as the frame
    keypoints = np.concatenate((places, np.full((1, 1, 17, 1), 0.9)), 3)
    return Candidates(*(array.astype(np.float32) for array in (boxes, np.array([[0.9]]), keypoints)))


@pytest.mark.parametrize(("height_px", "refiner", "known"), [(20, Halving(), False), (40, Halving(), True), (20, None, True)])
def test_of_people_who_are_too_small_only_the_box_is_used(height_px: int, refiner: Halving | None, known: bool) -> None:
    postprocessor = Postprocessor("a", CONFIG, Metrics(), refiner)
    events = []
    for number in range(12):
        (person,) = postprocessor.people(prepared(number), small_candidates(height_px, 50 + number))
        events += [event.kind for event in postprocessor.events]
        assert person.track == 1
        assert person.has_pose == known
        assert person.score == pytest.approx(0.45 if known and refiner is not None else 0.9)
    assert {"entered", "zone_entered"} <= set(events)


def test_a_step_can_be_switched_on_and_off_while_people_keep_their_numbers() -> None:
    random = np.random.default_rng(0)
    postprocessor = Postprocessor("a", CONFIG, Metrics())
    steps = ((CONFIG, None), (replace(CONFIG, plausibility=PlausibilityConfig(enabled=False)), Halving()), (CONFIG, None))
    for number, (config, refiner) in enumerate(steps):
        postprocessor.configure(config, refiner)
        assert {1, 2} <= {person.track for person in postprocessor.people(prepared(number), candidates(random))}


class InTurns:
    """A refiner that moves the people of given indices to given places, in frames that the test chooses."""

    def __init__(self) -> None:
        self.places: dict[int, tuple[float, float]] = {}

    def people(
        self, frame: Frame, people: Sequence[Person], schedule: RefineSchedule, frame_waits: Callable[[], bool] | None
    ) -> list[Person]:
        return [replace_pose(person, self.places[index]) if index in self.places else person for index, person in enumerate(people)]


def replace_pose(person: Person, place: tuple[float, float]) -> Person:
    return Person(person.box, person.score, standing_person(*place, confidence=0.9).keypoints, person.track)


def at_rest(count: int) -> Candidates:
    """People who stand beside each other, with coarse poses in the left part of each box; the input is half as large as the frame."""
    people = [standing_person(30 + 20 * index, 20, 100, score=0.9 - 0.1 * index, confidence=0.3) for index in range(count)]
    boxes, scores, keypoints = zip(*((person.box, person.score, person.keypoints) for person in people), strict=True)
    return Candidates(*(np.array(values, np.float32)[None] for values in (boxes, scores, keypoints)))


STEADY = replace(CONFIG, smooth=SmoothConfig(enabled=False), plausibility=PlausibilityConfig(enabled=False))


def test_a_person_keeps_the_refined_pose_between_two_refinements() -> None:
    refiner = InTurns()
    postprocessor = Postprocessor("a", STEADY, Metrics(), refiner)
    shown = []
    for number in range(15):
        refiner.places = {0: (64.0, 44.0)} if number == 1 else {}
        (person,) = postprocessor.people(prepared(number), at_rest(1))
        shown.append(float(person.keypoints[0, 2]))
    # Refined in frame 1, then carried for ten frames of 100 ms; a carried pose of 0.15 would be less certain than 0.3 times a half.
    np.testing.assert_allclose(shown, [0.3, *(0.9 * 0.5 ** (np.arange(11) / 5)), 0.3, 0.3, 0.3], rtol=1e-5)


def test_no_pose_is_carried_over_a_time_without_refiner_or_tracks() -> None:
    for off in ((STEADY, None), (replace(STEADY, track=TrackConfig(enabled=False)), InTurns())):
        refiner = InTurns()
        refiner.places = {0: (64.0, 44.0)}
        postprocessor = Postprocessor("a", STEADY, Metrics(), refiner)
        postprocessor.people(prepared(0), at_rest(1))
        refiner.places = {}
        postprocessor.configure(*off)
        postprocessor.configure(STEADY, refiner)
        (person,) = postprocessor.people(prepared(1), at_rest(1))
        assert person.keypoints[0, 2] == pytest.approx(0.3)


def test_a_new_epoch_ends_all_carried_poses() -> None:
    refiner = InTurns()
    refiner.places = {0: (64.0, 44.0)}
    postprocessor = Postprocessor("a", STEADY, Metrics(), refiner)
    postprocessor.people(prepared(0), at_rest(1))
    postprocessor.reset()
    refiner.places = {}
    (person,) = postprocessor.people(prepared(1), at_rest(1))
    assert person.keypoints[0, 2] == pytest.approx(0.3)


@pytest.mark.parametrize("tracked", [True, False])
def test_people_with_one_refined_pose_are_published_once(tracked: bool) -> None:
    metrics, refiner = Metrics(), InTurns()
    metrics.refine_cost(1.0)
    config = STEADY if tracked else replace(STEADY, track=TrackConfig(enabled=False))
    postprocessor = Postprocessor("a", config, metrics, refiner)
    counts = []
    for number in range(20):
        # Both are one person, refined in every other frame, then two again.
        refiner.places = {} if number in (0, 2, 4) else {0: (70.0, 44.0), 1: (70.0, 44.0) if number < 6 else (170.0, 44.0)}
        people = postprocessor.people(prepared(number), at_rest(2))
        counts.append(len(people))
        if tracked:
            assert [person.track for person in people] == [1, 2][: len(people)]
    between = 1 if tracked else 2  # the pose of a track is carried
    assert counts == [2, 1, between, 1, between, 1, *[2] * 14]
    refinement = metrics.refinement()
    assert refinement is not None
    assert refinement.doubles == (5 if tracked else 3)


def test_occupancy_of_the_frame_and_its_zones_comes_with_every_frame_where_events_are_on() -> None:
    zone = {"left": [(0.0, 0.0), (0.3, 0.0), (0.3, 1.0), (0.0, 1.0)]}
    config = replace(CONFIG, cameras={"a": CameraConfig(source="x", zones=zone)}, events=EventsConfig(zone_after_s=0.2, enter_after_s=0.2))
    stage = Postprocessor("a", config, Metrics())
    for number in range(15):
        stage.people(prepared(number), small_candidates_at(50 / 2))
    assert stage.occupancy == {None: Occupancy(1, 1, 0), "left": Occupancy(1, 1, 0)}
    stage.configure(replace(config, events=EventsConfig(enabled=False)), None)
    stage.people(prepared(15), small_candidates_at(50 / 2))
    assert stage.occupancy is None


def test_people_from_straight_above_are_counted_in_the_metrics() -> None:
    metrics = Metrics()
    stage = Postprocessor("a", replace(CONFIG, smooth=SmoothConfig(enabled=False)), metrics)
    standing = standing_person(20, 20, 100)
    keypoints = standing.keypoints.copy()
    keypoints[:, 1] = 70 + 0.1 * (keypoints[:, 1] - 70)
    box = np.array((20, 50, 60, 90), np.float32)
    for number in range(40):
        stage.people(prepared(number), Candidates(box[None, None], np.full((1, 1), 0.9, np.float32), keypoints[None, None]))
    assert metrics.camera("a").undecidable == {"fallen": 1, "waving": 1, "arms_up": 1}
