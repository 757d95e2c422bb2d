"""What is said, when, how often, and what is not: single people with positions of our own, without noise."""

from dataclasses import replace

import numpy as np
import pytest

from edgepose.config.schema import EventsConfig
from edgepose.events.detector import EventDetector
from edgepose.events.zones import depth_px
from edgepose.frame import Frame
from edgepose.person import Person
from testing.events.figure import Arm, Pose, View, joints, seen

IMAGE = np.zeros((480, 640, 3), np.uint8)
RIGHT_HALF = {"right": [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]}
STANDING, LYING = Pose(), Pose(tip=88.0, towards=90.0)


def person(track: int | None = 1, x: float = 200.0, pose: Pose = STANDING, *, confidence: float = 0.9) -> Person:
    points = seen(joints(pose), View(height_px=200), (x, 400))
    box = np.array((*(points.min(0) - 8), *(points.max(0) + 8)), np.float32)
    return Person(box, 0.9, np.concatenate((points, np.full((17, 1), confidence)), 1).astype(np.float32), track)


class Watch:
    """A detector that is shown people at ten frames a second."""

    def __init__(self, zones: dict | None = None, **settings: object) -> None:
        self.detector = EventDetector(EventsConfig(**settings), zones or {}, "front", 0.2)
        self.now_ns = 1_800_000_000_000_000_000
        self.number = 0
        self.events = []

    def show(self, *people: Person, for_s: float = 0.1, step_s: float = 0.1) -> list[str]:
        """Kinds of what is said meanwhile."""
        said = []
        for _ in range(round(for_s / step_s)):
            frame = Frame(IMAGE, self.now_ns, "stream", self.number, "front")
            said += self.detector.update(people, frame)
            self.now_ns += round(step_s * 1e9)
            self.number += 1
        self.events += said
        return [event.kind for event in said]


def test_entering_and_leaving_are_said_once_with_their_times() -> None:
    watch = Watch()
    assert watch.show(person(), for_s=1.0) == []
    assert watch.show(person(), for_s=5.0) == ["entered"]
    assert watch.show(for_s=2.9) == []
    assert watch.show(for_s=10.0) == ["left"]
    entered, left = watch.events
    assert (entered.camera, entered.track, entered.clock, entered.zone) == ("front", 1, "stream", None)
    assert entered.at_ns - entered.since_ns == 1_000_000_000
    assert left.at_ns - left.since_ns == 3_000_000_000
    assert left.evidence["present_s"] == pytest.approx(5.9)
    assert left.box == pytest.approx(tuple(person().box.tolist()))


def test_whoever_is_seen_for_a_moment_never_entered_and_never_left() -> None:
    watch = Watch()
    assert watch.show(person(), for_s=0.9) + watch.show(for_s=9) == []


def test_people_without_a_number_are_passed_over() -> None:
    assert Watch().show(person(track=None), for_s=3) == []


def test_drop_outs_are_survived_and_another_number_in_the_same_place_is_the_same_person() -> None:
    watch = Watch()
    watch.show(person(), for_s=2)
    assert watch.show(for_s=2) + watch.show(person(), for_s=2) == []
    assert watch.show(for_s=2) + watch.show(person(track=2, x=230), for_s=5) == []
    assert watch.show(for_s=4) == ["left"]
    assert watch.events[-1].track == 2


def test_another_number_elsewhere_is_somebody_else() -> None:
    watch = Watch()
    watch.show(person(), for_s=2)
    assert watch.show(person(track=2, x=500), for_s=5) == ["entered", "left"]


def test_two_people_side_by_side_stay_two() -> None:
    watch = Watch()
    watch.show(person(), for_s=2)
    assert watch.show(person(), person(track=2, x=230), for_s=2) == ["entered"]


def test_a_stream_that_stalls_makes_nobody_leave_or_fall() -> None:
    watch = Watch()
    watch.show(person(), for_s=2)
    watch.now_ns += 60_000_000_000
    assert watch.show(for_s=1.5) == []
    assert watch.show(person(), for_s=2) == []
    watch.now_ns += 1_100_000_000
    assert watch.show(person(pose=LYING), for_s=20) == []


def test_a_clock_that_is_set_back_makes_nobody_leave() -> None:
    watch = Watch()
    watch.show(person(), for_s=2)
    watch.now_ns -= 3600_000_000_000
    assert watch.show(person(), for_s=1) == []
    assert watch.show(for_s=4) == ["left"]


def test_a_new_epoch_forgets_without_a_word() -> None:
    watch = Watch(RIGHT_HALF)
    watch.show(person(x=500), for_s=2)
    watch.detector.reset()
    assert watch.show(for_s=10) == []
    assert watch.show(person(x=500), for_s=2) == ["zone_entered", "entered"]


def fall(watch: Watch, lasts_s: float, *, stands_s: float = 2.0, lies_s: float = 3.0) -> list[str]:
    said = watch.show(person(), for_s=stands_s)
    steps = round(lasts_s / 0.1)
    for step in range(1, steps):
        said += watch.show(person(pose=replace(LYING, tip=88.0 * step / steps)))
    return said + watch.show(person(pose=LYING), for_s=lies_s)


def test_a_fall_is_said_once_and_again_after_standing_up() -> None:
    watch = Watch()
    assert fall(watch, 0.7, lies_s=9) == ["entered", "fallen"]
    assert watch.show(person(), for_s=8) == []
    assert fall(watch, 0.7) == ["fallen"]
    event = watch.events[1]
    assert event.evidence["down_s"] == pytest.approx(0.6, abs=0.2)
    assert event.evidence["tilt_deg"] == pytest.approx(88, abs=5)
    assert event.evidence["speed_bodies_per_s"] > 1
    assert event.score > 0.5


def test_lying_down_slowly_or_all_the_time_is_no_fall() -> None:
    assert fall(Watch(), 2.5) == ["entered"]
    assert Watch().show(person(pose=LYING), for_s=10) == ["entered"]


def test_a_camera_that_sinks_makes_nobody_fall() -> None:
    watch = Watch()
    watch.show(person(), for_s=2)
    low = person()
    for drop in np.linspace(0, 70, 6):
        keypoints = low.keypoints + np.array((0, drop, 0), np.float32)
        watch.show(Person(low.box + np.array((0, drop, 0, drop), np.float32), 0.9, keypoints, 1))
    assert [event.kind for event in watch.events] == ["entered"]


def test_stillness_follows_a_fall_and_movement_begins_it_anew() -> None:
    watch = Watch()
    assert fall(watch, 0.7, lies_s=5) == ["entered", "fallen"]
    for turn in range(10):
        watch.show(person(pose=replace(LYING, towards=90.0 + 180 * (turn % 2))), for_s=1)  # rolls over
    assert [event.kind for event in watch.events] == ["entered", "fallen"]
    assert watch.show(person(pose=LYING), for_s=30) == ["still"]
    assert watch.events[-1].evidence["still_s"] == pytest.approx(10, abs=0.3)


def test_stillness_without_a_fall_is_none() -> None:
    assert Watch().show(person(), for_s=30) == ["entered"]


def wave(watch: Watch, hz: float, for_s: float, *, swing: float = 40.0, arms: int = 1, step_s: float = 0.1) -> list[str]:
    said = []
    for number in range(round(for_s / step_s)):
        out = swing * np.sin(2 * np.pi * hz * number * step_s)
        up = Arm(150 + 0.6 * out, 165 + out)
        said += watch.show(person(pose=Pose(arms=(up, up if arms == 2 else Arm()))), step_s=step_s, for_s=step_s)
    return said


@pytest.mark.parametrize("arms", [1, 2])
@pytest.mark.parametrize("hz", [0.6, 1.0, 2.0])
def test_waving_is_said_with_its_rhythm(hz: float, arms: int) -> None:
    watch = Watch(disabled=["arms_up"])
    watch.show(person(), for_s=2)
    assert wave(watch, hz, 9, arms=arms) == ["waving"]
    evidence = watch.events[-1].evidence
    assert evidence["wave_hz"] == pytest.approx(hz, rel=0.25)
    assert evidence["arms"] == arms


def test_waving_without_a_rhythm_is_none() -> None:
    watch = Watch(disabled=["arms_up", "entered"])
    assert wave(watch, 0.2, 12) == []  # too slow
    assert wave(Watch(disabled=["arms_up", "entered"]), 4.0, 8, step_s=0.04) == []  # too fast: it trembles
    assert wave(Watch(disabled=["arms_up", "entered"]), 1.0, 8, swing=2.0) == []  # too small
    assert wave(Watch(disabled=["arms_up", "entered"]), 1.0, 1.4) == []  # too short


def test_what_goes_on_is_said_again_only_after_a_rest() -> None:
    watch = Watch(disabled=["arms_up", "entered"])
    assert wave(watch, 1.0, 40) == ["waving"]
    watch.show(person(), for_s=5)
    assert wave(watch, 1.0, 5) == []
    watch.show(person(), for_s=12)
    assert wave(watch, 1.0, 5) == ["waving"]


def test_arms_up() -> None:
    up = Pose(arms=(Arm(165, 172), Arm(165, 172)))
    watch = Watch()
    watch.show(person(), for_s=2)
    assert watch.show(person(pose=up), for_s=0.9) == []
    assert watch.show(person(pose=up), for_s=5) == ["arms_up"]
    assert watch.events[-1].evidence["above_head_bodies"] > 0
    one = Watch(disabled=["entered"])
    assert one.show(person(pose=replace(up, arms=(up.arms[0], Arm()))), for_s=5) == []
    unseen = Watch(disabled=["entered"])
    assert unseen.show(person(pose=up, confidence=0.1), for_s=5) == []


def test_a_zone_is_entered_and_left_once_each() -> None:
    watch = Watch(RIGHT_HALF)
    watch.show(person(x=200), for_s=2)
    assert watch.show(person(x=400), for_s=0.3) + watch.show(person(x=200), for_s=1) == []  # too short
    assert watch.show(person(x=400), for_s=2) == ["zone_entered"]
    assert watch.events[-1].zone == "right"
    for side in (-3, 3) * 20:  # within the noise at the border
        assert watch.show(person(x=320 + side)) == []
    assert watch.show(person(x=200), for_s=2) == ["zone_left"]
    assert watch.events[-1].evidence["inside_s"] == pytest.approx(6, abs=0.5)


def test_whoever_leaves_the_picture_leaves_the_zone() -> None:
    watch = Watch(RIGHT_HALF)
    assert watch.show(person(x=500), for_s=2) == ["zone_entered", "entered"]
    assert watch.show(for_s=4) == ["zone_left", "left"]


def test_a_zone_is_left_in_silence_by_whoever_is_forgotten() -> None:
    watch = Watch(RIGHT_HALF)
    assert watch.show(person(x=500), for_s=2) == ["zone_entered", "entered"]  # in this order by default
    watch.detector.reset()
    assert watch.show(for_s=5) == []


def test_nobody_stays_in_a_zone_who_was_lost_before_they_had_entered_the_picture() -> None:
    watch = Watch(RIGHT_HALF)
    assert watch.show(person(x=500), for_s=0.8) == ["zone_entered"]
    assert watch.show(for_s=5) == ["zone_left"]


def test_feet_that_are_not_seen_are_in_no_zone() -> None:
    cut = person(x=500)
    keypoints = cut.keypoints.copy()
    keypoints[15:, 2] = 0
    box = cut.box.copy()
    box[3] = 480
    assert Watch(RIGHT_HALF).show(Person(box, 0.9, keypoints, 1), for_s=3) == ["entered"]


def test_other_zones_from_the_next_frame_on() -> None:
    watch = Watch(RIGHT_HALF)
    watch.show(person(x=500), for_s=2)
    watch.detector.configure(EventsConfig(), {"left": [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]}, 0.2)
    assert watch.show(person(x=500), for_s=2) == []
    assert watch.show(person(x=200), for_s=2) == ["zone_entered"]
    assert watch.show(for_s=5) == ["zone_left", "left"]


def test_silent_kinds_are_not_said() -> None:
    watch = Watch(disabled=["entered", "left", "fallen"])
    assert fall(watch, 0.7, lies_s=15) == ["still"]


def test_memory_is_bounded() -> None:
    watch = Watch(leave_after_s=1000.0)
    for track in range(1000):
        watch.show(person(track=track, x=20 + 600 * (track % 2)))
    assert len(watch.detector._people) <= 256


@pytest.mark.parametrize(("point", "depth"), [((50, 50), 50), ((10, 50), 10), ((-30, 50), -30), ((103, 104), -5), ((50, 0), 0)])
def test_depth_in_a_square(point: tuple[float, float], depth: float) -> None:
    square = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5)]
    assert depth_px(point, square, (200, 200)) == pytest.approx(depth)
