"""Cameras, motion and events of clips: geometry without a body model or a renderer."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from edgepose.errors import ConfigError
from edgepose_export.synth.backgrounds import Photographs
from edgepose_export.synth.camera import Camera, look_at
from edgepose_export.synth.clips.flights import MOVEMENTS, Movement, draw_flight, ground_motion, ground_to_image
from edgepose_export.synth.clips.ground import ClipGround
from edgepose_export.synth.clips.maker import ClipPlan, combination
from edgepose_export.synth.clips.motion import Act, Actor, draw_act
from edgepose_export.synth.clips.scripts import STORIES, StoryGround, draw_actors
from edgepose_export.synth.clips.truth import crossing_events, mark_ground
from edgepose_export.synth.poses import Pose

TOP = 70  # of 320 rows 180 are shown


def flight(movement: Movement, elevation: float = 60.0):
    return draw_flight(np.random.default_rng(3), movement, elevation, 40.0, 320, 8.0)


def from_above(elevation: float = 60.0) -> Camera:
    eye, axes = look_at(np.array([0, 0, 0.9]), 12.0, np.radians(elevation), 0.0, 0.0)
    return Camera(eye, axes, 480.0, 320)


@pytest.mark.parametrize("movement", MOVEMENTS)
@pytest.mark.parametrize("elevation", [0, 30, 60, 90])
def test_the_ground_moves_from_frame_to_frame_as_the_matrices_say(movement: Movement, elevation: float) -> None:
    way = flight(movement, elevation)
    first, second = way.camera(1.0), way.camera(1.1)
    _, away = first.axes[0], first.axes[2]
    middle = first.eye[:2] + away[:2] * 12
    points = np.column_stack((middle + np.random.default_rng(0).normal(0, 1, (20, 2)), np.zeros(20)))
    before, after = (camera.pixels(points)[0] - [0, TOP] for camera in (first, second))
    here, there = ground_to_image(first, TOP), ground_to_image(second, TOP)
    projected = points[:, :2] @ here[:, :2].T + here[:, 2]
    assert projected[:, :2] / projected[:, 2:] == pytest.approx(before, abs=1e-6)
    matrix = ground_motion(here, there)
    moved = before @ matrix[:, :2].T + matrix[:, 2]
    assert moved[:, :2] / moved[:, 2:] == pytest.approx(after, abs=1e-4)


def test_a_still_camera_does_not_move_a_hovering_one_a_little_and_a_flying_one_a_lot() -> None:
    steps = {}
    for movement in MOVEMENTS:
        way = flight(movement)
        spots = np.array([way.camera(time_s).pixels(np.zeros((1, 3)))[0][0] for time_s in np.arange(0, 8, 0.1)])
        steps[movement] = np.linalg.norm(np.diff(spots, axis=0), axis=1).mean()
    assert steps["still"] == 0
    assert 0.2 < steps["hovering"] < 4
    assert steps["flying"] > 1.5 * steps["hovering"]
    assert len({flight("flying").camera(time_s).focal_px for time_s in (0.0, 2.0, 4.0)}) == 3  # it zooms


def test_the_first_72_clips_show_every_story_from_every_elevation_with_every_movement() -> None:
    plan = ClipPlan(1)
    shown = {(what.story, what.elevation, what.movement) for what in (combination(plan, index) for index in range(72))}
    assert len(shown) == 72
    first = [combination(plan, index) for index in range(12)]
    assert {what.elevation for what in first} == {0, 30, 60, 90}
    assert {what.movement for what in first} == set(MOVEMENTS)
    chosen = ClipPlan(1, stories=("crossings",), elevations=(60,), movements=("flying",), looks=("night", "fog"))
    assert [combination(chosen, index).look for index in range(4)] == ["night", "fog", "night", "fog"]
    assert {(combination(chosen, index).story, combination(chosen, index).movement) for index in range(4)} == {("crossings", "flying")}


@pytest.mark.parametrize(("width", "height"), [(640, 361), (641, 360), (360, 640)])
def test_a_size_that_no_video_has_is_refused(width: int, height: int) -> None:
    with pytest.raises(ConfigError, match=f"{width}x{height} pixels; expected even sides"):
        ClipPlan(1, width=width, height=height)


@pytest.mark.parametrize("story", STORIES)
def test_everybody_moves_smoothly_and_only_by_rotations(story) -> None:
    stage = StoryGround(0.3, 4.0, 2.0, 8.0)
    for actor in draw_actors(np.random.default_rng(5), story, stage):
        postures = [actor.posture(time_s) for time_s in np.arange(0, 8, 0.1)]
        for before, after in pairwise(postures):
            assert np.linalg.norm(after.spot - before.spot) < 0.16  # 1.6 m/s
            for bone, matrix in after.pose.bones.items():
                assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-9)
                turned = np.arccos(np.clip((np.trace(before.pose.bones.get(bone, np.eye(3)).T @ matrix) - 1) / 2, -1, 1))
                assert turned < 0.9, (bone, actor.acts)
        assert len({posture.pose.kind for posture in postures}) == 1  # the clothes do not change
        if actor.at_rest:
            assert all(np.array_equal(posture.pose.bones["head"], postures[0].pose.bones["head"]) for posture in postures)


def test_a_walker_stops_softly_and_a_fallen_person_stays_down() -> None:
    fall = draw_act(np.random.default_rng(1), "fall", 3.0, 8.0)
    actor = Actor(Pose("stand"), np.zeros(2), np.array([1.0, 0.0]), walks_until=2.8, acts=[fall])
    times_s = np.arange(0, 8, 0.1)
    spots = np.array([actor.posture(time_s).spot[0] for time_s in times_s])
    assert spots[28] == pytest.approx(2.8)
    assert spots[-1] == pytest.approx(2.8 + 0.35)
    assert (np.diff(spots) >= -1e-9).all()
    names = [actor.posture(time_s).activity for time_s in times_s]
    assert names[10] == "walk"
    assert names[33] == "fall"
    assert set(names[42:]) == {"fallen"}
    upright = [actor.posture(time_s).pose.tilt[2, 2] for time_s in times_s]
    assert upright[29] == pytest.approx(1)
    assert np.abs(upright[42:]).max() < 0.1


def test_an_arm_waves_once_a_second_and_hangs_before_and_after() -> None:
    wave = Act("wave", 1.0, 6.0, Pose("wave"), 0.5, "L")
    actor = Actor(Pose("stand"), np.zeros(2), acts=[wave])
    bones = [actor.posture(time_s).pose.bones.get("upperarm01.L", np.eye(3)) for time_s in np.arange(0, 8, 0.05)]
    assert bones[50] == pytest.approx(bones[70])  # 2.5 and 3.5 s
    assert not np.allclose(bones[50], bones[60], atol=0.1) or not np.allclose(bones[45], bones[55], atol=0.1)
    assert bones[10] == pytest.approx(np.eye(3))
    assert bones[-1] == pytest.approx(np.eye(3))


def test_events_of_the_zone_and_the_line_follow_from_the_feet() -> None:
    camera = from_above()
    marks = mark_ground(camera, TOP, 12.0)
    times_s = np.arange(0, 8, 0.1)
    pixels = np.column_stack((np.linspace(0.1, 0.9, 80) * 320, np.full(80, TOP + 90.0)))  # from left to right through the picture
    feet, _ = camera.ground(pixels)
    seen = np.ones(80, bool)
    events = crossing_events(marks, feet, seen, times_s, 8.0)
    assert [event["kind"] for event in events] == ["line_crossed", "zone_entered"]
    assert events[0]["direction"] == "right"
    assert events[0]["start"] == pytest.approx((0.36 - 0.1) / 0.8 * 7.9, abs=0.03)
    assert events[1]["start"] == pytest.approx((0.52 - 0.1) / 0.8 * 7.9, abs=0.03)
    back = crossing_events(marks, feet[::-1], seen, times_s, 8.0)
    assert [(event["kind"], event.get("direction")) for event in back] == [
        ("zone_entered", None),
        ("zone_left", None),
        ("line_crossed", "left"),
    ]
    assert back[0]["start"] == 0
    seen[70:] = False  # out of the picture, from within the zone
    gone = crossing_events(marks, feet, seen, times_s, 8.0)
    assert [(event["kind"], round(event["start"], 1)) for event in gone][-1] == ("zone_left", 6.9)
    assert crossing_events(marks, feet, np.zeros(80, bool), times_s, 8.0) == []


@pytest.mark.parametrize("elevation", [0, 30, 60, 90])
def test_zone_and_line_lie_on_the_ground_in_the_picture(elevation: float) -> None:
    camera = from_above(elevation)
    marks = mark_ground(camera, TOP, 12.0)
    for shares, ground in ((marks.zone, marks.zone_m), (marks.line, marks.line_m)):
        assert ((shares > 0) & (shares < 1)).all()
        pixels, depth = camera.pixels(np.column_stack((ground, np.zeros(len(ground)))))
        assert (depth > 0).all()
        assert (pixels - [0, TOP]) / [320, 180] == pytest.approx(shares, abs=1e-6)


def test_the_ground_stays_in_its_place_while_the_camera_moves() -> None:
    way = flight("flying")
    ground = ClipGround(np.random.default_rng(2), Photographs([], "train"), 1 / 40, 320, steep=True)
    (first, far), (second, _) = (ground.seen(way.camera(time_s), TOP) for time_s in (1.0, 1.2))
    matrix = ground_motion(ground_to_image(way.camera(1.0), TOP), ground_to_image(way.camera(1.2), TOP))
    moved = cv2.warpPerspective(first, matrix, (320, 180), borderValue=(-1, -1, -1))
    inside = moved.min(2) >= 0
    assert inside.mean() > 0.5
    assert np.isfinite(far).all()
    fixed = np.abs(moved - second).mean(2)[inside].mean()
    assert fixed < 0.5 * np.abs(first - second).mean(2)[inside].mean()
