"""Which events are reported, when and how often: single people at given positions, without noise."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from edgepose.config.schema import EventsConfig
from edgepose.event import Event, Occupancy
from edgepose.events.detector import Places
from edgepose.events.zones import depth_px
from edgepose.person import Person
from edgepose.simulation.figure import Arm, Pose, View, joints, project
from testing.bodies import moved
from testing.events.scene import LYING, STANDING, Scene, fall, person

RIGHT_HALF = {"right": [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]}


def test_entering_and_leaving_are_reported_once_with_their_times() -> None:
    scene = Scene()
    assert scene.show(person(), for_s=1.0) == []
    assert scene.show(person(), for_s=5.0) == ["entered"]
    assert scene.show(for_s=2.9) == []
    assert scene.show(for_s=10.0) == ["left"]
    entered, left = scene.events
    assert (entered.camera, entered.track, entered.clock, entered.zone) == ("front", 1, "stream", None)
    assert entered.at_ns - entered.since_ns == 1_000_000_000
    assert left.at_ns - left.since_ns == 3_000_000_000
    assert left.evidence["present_s"] == pytest.approx(5.9)
    assert left.box == pytest.approx(tuple(person().box.tolist()))


def test_a_person_seen_for_a_moment_neither_enters_nor_leaves() -> None:
    scene = Scene()
    assert scene.show(person(), for_s=0.9) + scene.show(for_s=9) == []


def test_people_without_a_track_number_are_ignored() -> None:
    assert Scene().show(person(track=None), for_s=3) == []


def test_a_new_track_in_the_place_of_a_lost_one_is_the_same_person() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    assert scene.show(for_s=2) + scene.show(person(), for_s=2) == []
    assert scene.show(for_s=2) + scene.show(person(track=2, x=230), for_s=5) == []
    assert scene.show(for_s=4) == ["left"]
    assert scene.events[-1].track == 2


def test_a_new_track_elsewhere_is_another_person() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    assert scene.show(person(track=2, x=500), for_s=5) == ["entered", "left"]


def test_two_people_side_by_side_stay_two() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    assert scene.show(person(), person(track=2, x=230), for_s=2) == ["entered"]


def test_a_stream_that_stalls_makes_nobody_leave_or_fall() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    scene.now_ns += 60_000_000_000
    assert scene.show(for_s=1.5) == []
    assert scene.show(person(), for_s=2) == []
    scene.now_ns += 1_100_000_000
    assert scene.show(person(pose=LYING), for_s=20) == []


def test_a_clock_that_is_set_back_makes_nobody_leave() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    scene.now_ns -= 3600_000_000_000
    assert scene.show(person(), for_s=1) == []
    assert scene.show(for_s=4) == ["left"]


def test_a_new_epoch_forgets_people_without_events() -> None:
    scene = Scene(RIGHT_HALF)
    scene.show(person(x=500), for_s=2)
    scene.detector.reset()
    assert scene.show(for_s=10) == []
    assert scene.show(person(x=500), for_s=2) == ["zone_entered", "entered"]


def wave(scene: Scene, hz: float, for_s: float, *, swing: float = 40.0, arms: int = 1, step_s: float = 0.1) -> list[str]:
    reported = []
    for number in range(round(for_s / step_s)):
        out = swing * np.sin(2 * np.pi * hz * number * step_s)
        up = Arm(150 + 0.6 * out, 165 + out)
        reported += scene.show(person(pose=Pose(arms=(up, up if arms == 2 else Arm()))), step_s=step_s, for_s=step_s)
    return reported


@pytest.mark.parametrize("arms", [1, 2])
@pytest.mark.parametrize("hz", [0.6, 1.0, 2.0])
def test_waving_is_reported_with_its_frequency(hz: float, arms: int) -> None:
    scene = Scene(settings=EventsConfig(disabled=["arms_up"]))
    scene.show(person(), for_s=2)
    assert wave(scene, hz, 9, arms=arms) == ["waving"]
    evidence = scene.events[-1].evidence
    assert evidence["wave_hz"] == pytest.approx(hz, rel=0.25)
    assert evidence["arms"] == arms


def test_movement_without_a_rhythm_is_not_waving() -> None:
    scene = Scene(settings=EventsConfig(disabled=["arms_up", "entered"]))
    assert wave(scene, 0.2, 12) == []  # too slow
    assert wave(Scene(settings=EventsConfig(disabled=["arms_up", "entered"])), 4.0, 8, step_s=0.04) == []  # too fast: a tremor
    assert wave(Scene(settings=EventsConfig(disabled=["arms_up", "entered"])), 1.0, 8, swing=2.0) == []  # too small
    assert wave(Scene(settings=EventsConfig(disabled=["arms_up", "entered"])), 1.0, 1.4) == []  # too short


def raised(across: float, above: float) -> Person:
    """A standing person with one wrist at a place relative to the shoulders, in pixels."""
    standing = person()
    keypoints = standing.keypoints.copy()
    keypoints[9, :2] = keypoints[5:7, :2].mean(0) + np.array((across, -above))
    return Person(standing.box, 0.9, keypoints, 1)


def test_a_wave_may_end_below_the_shoulder_at_one_end_of_each_swing() -> None:
    quiet = EventsConfig(disabled=["entered"])
    scene, low, talk, jacks = (Scene(settings=quiet) for _ in range(4))
    swings = np.sin(2 * np.pi * np.arange(0, 6, 0.1))
    kinds = [kind for swing in swings for kind in scene.show(raised(40 + 15 * swing, 20 * swing))]
    assert kinds == ["waving"]
    assert [kind for swing in swings for kind in low.show(raised(40 + 15 * swing, 20 * swing - 35))] == []  # never above it
    assert [kind for swing in swings for kind in talk.show(raised(40 + 15 * swing, 20 * swing - 18))] == []  # above it for a moment
    assert [kind for swing in swings for kind in jacks.show(raised(40, 10 + 60 * swing))] == []


@pytest.mark.parametrize("step_s", [0.04, 0.125])
def test_a_wrist_that_jumps_between_two_places_does_not_wave(step_s: float) -> None:
    scene = Scene(settings=EventsConfig(disabled=["entered"]))
    for time_s in np.arange(0, 8, step_s):
        across = 25 if time_s % 1.2 < 0.6 else -15
        assert scene.show(raised(across, 40), for_s=step_s, step_s=step_s) == []


def test_a_continuing_event_is_reported_again_only_after_a_pause() -> None:
    scene = Scene(settings=EventsConfig(disabled=["arms_up", "entered"]))
    assert wave(scene, 1.0, 40) == ["waving"]
    scene.show(person(), for_s=5)
    assert wave(scene, 1.0, 5) == []
    scene.show(person(), for_s=12)
    assert wave(scene, 1.0, 5) == ["waving"]


def test_arms_up() -> None:
    up = Pose(arms=(Arm(165, 172), Arm(165, 172)))
    scene = Scene()
    scene.show(person(), for_s=2)
    assert scene.show(person(pose=up), for_s=0.9) == []
    assert scene.show(person(pose=up), for_s=5) == ["arms_up"]
    assert scene.events[-1].evidence["above_head_bodies"] > 0
    one = Scene(settings=EventsConfig(disabled=["entered"]))
    assert one.show(person(pose=replace(up, arms=(up.arms[0], Arm()))), for_s=5) == []
    unseen = Scene(settings=EventsConfig(disabled=["entered"]))
    assert unseen.show(person(pose=up, confidence=0.1), for_s=5) == []


def test_a_zone_is_entered_and_left_once_each() -> None:
    scene = Scene(RIGHT_HALF)
    scene.show(person(x=200), for_s=2)
    assert scene.show(person(x=400), for_s=0.3) + scene.show(person(x=200), for_s=1) == []  # too short
    assert scene.show(person(x=400), for_s=2) == ["zone_entered"]
    assert scene.events[-1].zone == "right"
    for side in (-3, 3) * 20:  # within the noise of the border
        assert scene.show(person(x=320 + side)) == []
    assert scene.show(person(x=200), for_s=2) == ["zone_left"]
    assert scene.events[-1].evidence["inside_s"] == pytest.approx(6, abs=0.5)


def test_a_person_who_leaves_the_frame_leaves_the_zone() -> None:
    scene = Scene(RIGHT_HALF)
    assert scene.show(person(x=500), for_s=2) == ["zone_entered", "entered"]
    assert scene.show(for_s=4) == ["zone_left", "left"]


def test_a_reset_leaves_zones_without_events() -> None:
    scene = Scene(RIGHT_HALF)
    assert scene.show(person(x=500), for_s=2) == ["zone_entered", "entered"]  # in this order by default
    scene.detector.reset()
    assert scene.show(for_s=5) == []


def test_a_person_lost_before_entered_is_reported_still_leaves_the_zone() -> None:
    scene = Scene(RIGHT_HALF)
    assert scene.show(person(x=500), for_s=0.8) == ["zone_entered"]
    assert scene.show(for_s=5) == ["zone_left"]


def test_invisible_feet_are_in_no_zone() -> None:
    cut = person(x=500)
    keypoints = cut.keypoints.copy()
    keypoints[15:, 2] = 0
    box = cut.box.copy()
    box[3] = 480
    assert Scene(RIGHT_HALF).show(Person(box, 0.9, keypoints, 1), for_s=3) == ["entered"]


def small(x: float, y: float = 200.0) -> Person:
    """A person of 20 pixels of whom only the box is known; the feet are at (x, y + 10)."""
    keypoints = np.concatenate((np.random.default_rng(0).uniform(0, 400, (17, 2)), np.zeros((17, 1))), 1).astype(np.float32)
    return Person(np.array((x - 4, y - 10, x + 4, y + 10), np.float32), 0.9, keypoints, 1)


def test_presence_and_zones_of_a_person_without_a_pose_follow_the_box() -> None:
    scene = Scene(RIGHT_HALF)
    assert scene.show(small(200), for_s=2) == ["entered"]
    assert scene.show(small(400), for_s=2) == ["zone_entered"]
    assert scene.show(small(200), for_s=2) == ["zone_left"]
    assert scene.show(for_s=4) == ["left"]


def test_the_lower_edge_of_the_frame_hides_no_person_without_a_pose_from_a_zone() -> None:
    scene = Scene(RIGHT_HALF)
    assert scene.show(small(400, 470), for_s=2) == ["zone_entered", "entered"]


def test_without_a_pose_nobody_falls_waves_or_is_still() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    for _ in range(20):
        lying = replace(small(200, 395), box=np.array((190, 392, 212, 400), np.float32))
        assert scene.show(lying, for_s=1) == []


def test_new_zones_apply_from_the_next_frame() -> None:
    scene = Scene(RIGHT_HALF)
    scene.show(person(x=500), for_s=2)
    scene.detector.configure(EventsConfig(), Places({"left": [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]}), 0.2)
    assert scene.show(person(x=500), for_s=2) == []
    assert scene.show(person(x=200), for_s=2) == ["zone_entered"]
    assert scene.show(for_s=5) == ["zone_left", "left"]


def test_disabled_kinds_are_not_reported() -> None:
    scene = Scene(settings=EventsConfig(disabled=["entered", "left", "fallen"]))
    assert fall(scene, 0.7, lies_s=15) == ["still"]


def test_memory_is_bounded() -> None:
    scene = Scene(settings=EventsConfig(leave_after_s=1000.0))
    for track in range(1000):
        scene.show(person(track=track, x=20 + 600 * (track % 2)))
    assert len(scene.detector._people) <= 256


@pytest.mark.parametrize(("point", "depth"), [((50, 50), 50), ((10, 50), 10), ((-30, 50), -30), ((103, 104), -5), ((50, 0), 0)])
def test_depth_in_a_square(point: tuple[float, float], depth: float) -> None:
    square = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5)]
    assert depth_px(point, square, (200, 200)) == pytest.approx(depth)


def test_a_long_stay_in_a_zone_is_loitering_once_a_stay() -> None:
    zone = {"yard": [(0.2, 0.5), (0.8, 0.5), (0.8, 1.0), (0.2, 1.0)]}
    scene = Scene(zone, EventsConfig(loiter_after_s=5.0, disabled=["entered", "left"]))
    assert scene.show(person(x=320), for_s=4.9) == ["zone_entered"]
    assert scene.show(person(x=320), for_s=20) == ["loitering"]
    loitering = scene.events[-1]
    assert (loitering.zone, loitering.line) == ("yard", None)
    assert loitering.evidence["inside_s"] == pytest.approx(5.0, abs=0.11)
    assert scene.show(person(x=20), for_s=2) == ["zone_left"]
    assert scene.show(person(x=320), for_s=7) == ["zone_entered", "loitering"]


def walk(scene: Scene, places: Iterable[float]) -> list[Event]:
    before = len(scene.events)
    for x in places:
        scene.show(person(x=x), for_s=0.1)
    return [event for event in scene.events[before:] if event.kind == "line_crossed"]


def test_a_crossed_line_has_a_direction() -> None:
    scene = Scene(lines={"gate": ((0.5, 0.0), (0.5, 1.0))})  # from top to bottom: its left is the right side of the frame
    there = walk(scene, np.linspace(200, 440, 13))
    assert [(event.line, event.direction, event.zone) for event in there] == [("gate", "to_left", None)]
    back = walk(scene, np.linspace(440, 200, 13))
    assert [event.direction for event in back] == ["to_right"]
    assert back[0].at_ns - back[0].since_ns == pytest.approx(200_000_000)


def test_noise_at_a_line_and_a_way_around_its_end_are_no_crossings() -> None:
    scene = Scene(lines={"gate": ((0.5, 0.0), (0.5, 1.0))})
    assert walk(scene, [314, 326] * 10) == []
    assert walk(scene, [250, *[330, 310] * 10]) == []
    short = Scene(lines={"gate": ((0.5, 0.0), (0.5, 0.3))})  # its lower end is above the feet
    assert walk(short, np.linspace(200, 440, 13)) == []


def test_everybody_crosses_for_themselves() -> None:
    scene = Scene(lines={"gate": ((0.5, 0.0), (0.5, 1.0))})
    for x in np.linspace(100, 540, 23):
        scene.show(person(1, x=x), person(2, x=640 - x), for_s=0.1)
    crossed = [(event.track, event.direction) for event in scene.events if event.kind == "line_crossed"]
    assert sorted(crossed) == [(1, "to_left"), (2, "to_right")]


def squashed(share: float, track: int = 1, x: float = 320.0) -> Person:
    """A standing person whose height is seen at a share of its length, as from above, in a box of half a meter."""
    standing = person(track, x)
    keypoints = standing.keypoints.copy()
    keypoints[:, 1] = 300 + (keypoints[:, 1] - 300) * share
    low, high = keypoints[:, :2].min(0) - 12, keypoints[:, :2].max(0) + 12
    return Person(np.array((*low, *high), np.float32), 0.9, keypoints, track)


def test_from_straight_above_nothing_is_guessed_and_each_person_is_counted_once() -> None:
    scene = Scene(settings=EventsConfig(disabled=["entered", "arms_up"]))
    undecidable = []
    for step in range(60):
        swing = moved(squashed(0.08), np.array((30 * np.sin(step), -40), np.float32), 9)
        fallen = person(2, 120, LYING) if step > 40 else squashed(0.08, 2, 120)  # what looks like a fall is not one, either
        assert scene.show(swing, fallen) == []
        undecidable += scene.detector.undecidable
    assert Counter(undecidable) == {"fallen": 2, "waving": 2}


def test_from_the_side_and_after_a_fall_along_the_view_nothing_is_undecidable() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    for tip in (20, 45, 70, 88):
        scene.show(person(pose=replace(LYING, tip=tip, towards=0.0)))
    undecidable = []
    for _ in range(50):
        scene.show(person(pose=replace(LYING, towards=0.0)))
        undecidable += scene.detector.undecidable
    assert [event.kind for event in scene.events] == ["entered", "fallen"]
    assert undecidable == []


def test_who_walks_under_the_camera_twice_is_counted_twice_and_does_not_fall() -> None:
    scene, undecidable = Scene(), []
    approach, stay = np.linspace(1.0, 0.08, 40), np.full(20, 0.08)
    for share in (*approach, *stay, *approach[::-1], *approach, *stay):
        scene.show(squashed(share))
        undecidable += scene.detector.undecidable
    assert Counter(undecidable) == {"fallen": 2, "waving": 2, "arms_up": 2}
    assert [event.kind for event in scene.events] == ["entered"]


def test_occupancy_counts_people_entries_and_exits() -> None:
    scene = Scene(RIGHT_HALF, EventsConfig(disabled=["zone_entered", "zone_left", "entered", "left"]))
    scene.show(person(x=500), person(2, x=100), for_s=2)
    assert scene.detector.occupancy == {None: Occupancy(2, 2, 0), "right": Occupancy(1, 1, 0)}
    for side in (-3, 3) * 10:  # within the noise of the border
        scene.show(person(x=500), person(2, x=320 + side))
    assert scene.detector.occupancy["right"] == Occupancy(1, 1, 0)
    scene.show(person(x=500), person(2, x=450), for_s=0.5)  # not for long enough
    assert scene.detector.occupancy["right"].count == 1
    scene.show(person(x=500), person(2, x=450), for_s=0.5)
    assert scene.detector.occupancy["right"] == Occupancy(2, 2, 0)
    scene.show(person(2, x=450), for_s=2)  # lost for a moment
    assert scene.detector.occupancy == {None: Occupancy(2, 2, 0), "right": Occupancy(2, 2, 0)}
    scene.show(person(2, x=450), for_s=2)
    assert scene.detector.occupancy == {None: Occupancy(1, 2, 1), "right": Occupancy(1, 2, 1)}


def test_occupancy_after_a_new_epoch_and_of_a_removed_zone() -> None:
    scene = Scene(RIGHT_HALF)
    scene.show(person(x=500), for_s=2)
    scene.detector.reset()
    assert scene.detector.occupancy == {None: Occupancy(0, 1, 0), "right": Occupancy(0, 1, 0)}
    state = scene.detector.snapshot()
    scene.detector.configure(EventsConfig(), Places(), 0.2)
    assert set(scene.detector.occupancy) == {None}
    again = Scene(RIGHT_HALF)
    again.detector.restore(state)
    assert again.detector.occupancy == {None: Occupancy(0, 1, 0), "right": Occupancy(0, 1, 0)}


def from_above(pitch: float, pose: Pose, x: float = 320.0) -> Person:
    points = project(joints(pose), View(pitch=pitch, height_px=200), (x, 300))
    box = np.array((*(points.min(0) - 8), *(points.max(0) + 8)), np.float32)
    return Person(box, 0.9, np.concatenate((points, np.full((17, 1), 0.9)), 1).astype(np.float32), 1)


def test_arms_raised_a_little_to_the_front_are_seen_from_60_degrees_above() -> None:
    up = Pose(arms=(Arm(155, 165), Arm(155, 165)))
    scene = Scene(settings=EventsConfig(disabled=["entered"]))
    scene.show(from_above(60, STANDING), for_s=2)
    assert scene.show(from_above(60, up), for_s=3) == ["arms_up"]
