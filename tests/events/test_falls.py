"""Which falls are reported, and the stillness that follows them: single people at given positions, without noise."""

from dataclasses import replace

import numpy as np
import pytest

from edgepose.person import Person
from testing.events.scene import LYING, Scene, fall, person


def test_a_fall_is_reported_once_and_again_after_standing_up() -> None:
    scene = Scene()
    assert fall(scene, 0.7, lies_s=9) == ["entered", "fallen"]
    assert scene.show(person(), for_s=8) == []
    assert fall(scene, 0.7) == ["fallen"]
    event = scene.events[1]
    assert event.evidence["down_s"] == pytest.approx(0.6, abs=0.2)
    assert event.evidence["tilt_deg"] == pytest.approx(88, abs=5)
    assert event.evidence["speed_bodies_per_s"] > 1
    assert event.score > 0.5


def box_alone(left: float, top: float, right: float, bottom: float) -> Person:
    """A person whose keypoints the network doubts."""
    return Person(np.array((left, top, right, bottom), np.float32), 0.9, np.zeros((17, 3), np.float32), 1)


def test_a_low_and_wide_box_is_a_person_who_lies_and_a_low_one_is_a_person_who_is_hidden() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    left, top, right, bottom = (float(value) for value in person().box)
    width, height = right - left, bottom - top
    assert scene.show(box_alone(left, top, right, top + 0.5 * height), for_s=3) == []  # behind a car
    assert scene.show(person(), for_s=1) == []
    assert scene.show(box_alone(left, bottom - 0.4 * height, left + 2 * width, bottom), for_s=3) == ["fallen"]


def test_a_person_who_is_not_seen_while_falling_has_fallen_and_one_who_lies_down_meanwhile_has_not() -> None:
    for unseen_s, expected in ((1.1, ["entered", "fallen"]), (2.5, ["entered"])):
        scene = Scene()
        scene.show(person(), for_s=2)
        scene.show(for_s=unseen_s)
        scene.show(person(pose=LYING), for_s=3)
        assert [event.kind for event in scene.events] == expected


def test_who_falls_away_and_aside_before_a_camera_at_half_height_lies() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    lying = person()
    middle = lying.keypoints[15:17, :2].mean(0)
    across, up = lying.keypoints[:, 0] - middle[0], middle[1] - lying.keypoints[:, 1]
    lying.keypoints[:, 0] = middle[0] + across + 0.85 * up
    lying.keypoints[:, 1] = middle[1] - 0.5 * up
    points = lying.keypoints[:, :2]
    lying.box[:] = (*(points.min(0) - 8), *(points.max(0) + 8))
    assert scene.show(lying, for_s=3) == ["fallen"]
    assert scene.events[-1].evidence["height_ratio"] > 0.45


def test_lying_down_slowly_or_always_lying_is_not_a_fall() -> None:
    assert fall(Scene(), 2.5) == ["entered"]
    assert Scene().show(person(pose=LYING), for_s=10) == ["entered"]


def test_a_camera_that_sinks_makes_nobody_fall() -> None:
    scene = Scene()
    scene.show(person(), for_s=2)
    low = person()
    for drop in np.linspace(0, 70, 6):
        keypoints = low.keypoints + np.array((0, drop, 0), np.float32)
        scene.show(Person(low.box + np.array((0, drop, 0, drop), np.float32), 0.9, keypoints, 1))
    assert [event.kind for event in scene.events] == ["entered"]


def test_stillness_follows_a_fall_and_movement_restarts_it() -> None:
    scene = Scene()
    assert fall(scene, 0.7, lies_s=5) == ["entered", "fallen"]
    for turn in range(10):
        scene.show(person(pose=replace(LYING, towards=90.0 + 180 * (turn % 2))), for_s=1)  # rolls over
    assert [event.kind for event in scene.events] == ["entered", "fallen"]
    assert scene.show(person(pose=LYING), for_s=30) == ["still"]
    assert scene.events[-1].evidence["still_s"] == pytest.approx(10, abs=0.3)


def test_stillness_without_a_fall_is_not_reported() -> None:
    assert Scene().show(person(), for_s=30) == ["entered"]
