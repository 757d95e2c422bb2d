"""Motion of the camera: known similarities of a textured picture are measured, and what cannot be measured is the identity and said so."""

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.config.schema import SmoothConfig, TrackConfig
from edgepose.motion import STILL, Motion
from edgepose.person import Person
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.motion import CameraMotion
from edgepose.pose.smooth import Smoother
from edgepose.pose.track import Tracker

WIDTH, HEIGHT = 1280, 720


def ground(seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture with texture at many scales, larger than a frame."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT + 400, WIDTH + 400, 3), np.float32)
    for size in (16, 64, 256):
        noise = rng.uniform(0, 255, (picture.shape[0] // size + 2, picture.shape[1] // size + 2, 3)).astype(np.float32)
        picture += cv2.resize(noise, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_CUBIC) / 3
    return np.clip(picture, 0, 255).astype(np.uint8)


GROUND = ground()


def similarity(dx: float = 0.0, dy: float = 0.0, degrees: float = 0.0, scale: float = 1.0) -> NDArray[np.float64]:
    """Return a similarity (3, 3) about the middle of the frame."""
    cosine, sine = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    x, y = WIDTH / 2, HEIGHT / 2
    return np.array(((cosine, -sine, x - cosine * x + sine * y + dx), (sine, cosine, y - sine * x - cosine * y + dy), (0, 0, 1.0)))


def frame(camera: NDArray[np.float64], picture: NDArray[np.uint8] = GROUND) -> NDArray[np.uint8]:
    """Return what a camera sees whose frame is the middle of the ground, mapped by `camera`."""
    to_frame = camera @ np.array(((1, 0, -200), (0, 1, -200), (0, 0, 1.0)))
    return np.asarray(cv2.warpPerspective(picture, to_frame, (WIDTH, HEIGHT), flags=cv2.INTER_AREA), np.uint8)


LETTERBOX = Letterbox.fit(HEIGHT, WIDTH, 384, 640)


def see(motion: CameraMotion, image: NDArray[np.uint8], people: list[Person] | None = None) -> Motion:
    return motion.update(LETTERBOX.apply(image), LETTERBOX, people or [])


def person(left: float, top: float, right: float, bottom: float) -> Person:
    return Person(np.array((left, top, right, bottom), np.float32), 0.9, np.zeros((17, 3), np.float32), None)


CORNERS = np.array(((0, 0), (WIDTH, 0), (0, HEIGHT), (WIDTH, HEIGHT)), np.float32)


@pytest.mark.parametrize(
    "step",
    [
        similarity(dx=12, dy=-7),
        similarity(degrees=2),
        similarity(scale=1.04),
        similarity(dx=-40, dy=25, degrees=-3, scale=0.97),
    ],
    ids=["shift", "yaw", "zoom", "all"],
)
def test_a_moving_camera_is_measured_in_source_pixels(step: NDArray[np.float64]) -> None:
    motion, camera = CameraMotion(), np.eye(3)
    assert see(motion, frame(camera)).unknown == "first"
    for _ in range(4):
        camera = step @ camera
        measured = see(motion, frame(camera))
        assert measured.unknown is None
        expected = CORNERS @ step[:2, :2].T + step[:2, 2]
        assert np.abs(measured.points(CORNERS) - expected).max() < 3
        assert measured.scale(CORNERS.mean(0)) == pytest.approx(math.hypot(step[0, 0], step[1, 0]), abs=0.002)


def test_a_fixed_camera_is_exactly_still_also_with_noise() -> None:
    motion, rng = CameraMotion(), np.random.default_rng(1)
    image = frame(np.eye(3)).astype(np.int16)
    for index in range(40):
        seen = see(motion, np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8))
        assert seen.still
        assert seen.unknown == ("first" if index == 0 else None)


def test_a_slow_drift_adds_up() -> None:
    motion, camera, total = CameraMotion(), np.eye(3), np.zeros(2)
    see(motion, frame(camera))
    for _ in range(60):
        camera = similarity(dx=0.3) @ camera
        total += see(motion, frame(camera)).matrix[:2, 2]
    assert total[0] == pytest.approx(60 * 0.3, abs=2.0)
    assert abs(total[1]) < 1.0


def test_ground_that_turns_in_perspective_does_not_drift() -> None:
    """A camera pans, tilts and zooms over the ground for 120 frames: places stay where they are, though each step is off by a pixel."""
    motion, total, to_first = CameraMotion(), STILL, None
    places = np.array([(x, y) for x in (400, 640, 880) for y in (250, 360, 470)], np.float32)
    for index in range(121):
        phase = 2 * math.pi * index / 40
        tilt = np.array(((1, 0, 0), (0, 1, 0), (1.5e-4 * math.sin(phase), 1.5e-4 * math.sin(phase / 2), 1)))
        camera = tilt @ similarity(dx=110 * math.sin(phase), dy=70 * math.sin(phase / 3), degrees=8 * math.sin(phase), scale=1.15)
        seen = see(motion, frame(camera))
        to_first = np.linalg.inv(camera) if to_first is None else to_first
        assert seen.unknown == ("first" if index == 0 else None)
        total = total.then(seen)
        since_first = Motion(camera @ to_first).points(places)
        assert np.abs(total.points(places) - since_first).max() < 6


def test_people_who_move_do_not_count() -> None:
    motion = CameraMotion()
    crowd = GROUND[200:700, 100:700]
    for step in range(5):
        image = frame(np.eye(3)).copy()
        left = 60 + 30 * step
        image[100:600, left : left + 600] = crowd
        assert see(motion, image, [person(left, 100, left + 600, 600)]).still


def test_what_cannot_be_measured_is_the_identity_and_says_so() -> None:
    motion = CameraMotion()
    see(motion, frame(np.eye(3)))
    cut = see(motion, frame(np.eye(3), ground(7)))
    assert (cut.unknown, cut.still) == ("cut", True)
    blank = see(motion, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    assert (blank.unknown, blank.still) == ("blank", True)
    assert see(motion, np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).unknown == "blank"
    everywhere = [person(0, 0, WIDTH, HEIGHT)]
    see(motion, frame(np.eye(3)), everywhere)
    crowded = see(motion, frame(similarity(dx=10)), everywhere)
    assert (crowded.unknown, crowded.still) == ("people", True)


def test_a_jump_that_no_camera_makes_is_refused() -> None:
    motion = CameraMotion()
    see(motion, frame(np.eye(3)))
    wild = see(motion, frame(similarity(degrees=40)))
    assert wild.unknown in ("cut", "implausible")
    assert wild.still


def test_frozen_frames_are_still_and_another_size_starts_anew() -> None:
    motion = CameraMotion()
    image = frame(np.eye(3))
    see(motion, image)
    assert see(motion, image).still
    other = Letterbox.fit(480, 640, 480, 640)
    assert motion.update(other.apply(np.ascontiguousarray(image[:480, :640])), other, []).unknown == "first"


def test_vectors_turn_and_scale() -> None:
    turned = Motion(similarity(degrees=90, scale=2))
    np.testing.assert_allclose(turned.vectors(np.array((1, 0), np.float32), CORNERS[0]), (0, 2), atol=1e-6)
    assert STILL.still


def test_perspective_moves_points_vectors_and_boxes_by_where_they_are() -> None:
    step = np.array(((1.02, 0.01, 5), (-0.01, 0.98, -3), (1e-4, -2e-4, 1)))
    motion, at = Motion(step), np.array(((100, 200), (900, 600)), np.float32)
    mapped = np.hstack([at, np.ones((2, 1))]) @ step.T
    np.testing.assert_allclose(motion.points(at), mapped[:, :2] / mapped[:, 2:], rtol=1e-5)
    little = np.array(((0.1, 0), (0, 0.1)), np.float32)
    np.testing.assert_allclose(motion.vectors(little, at), motion.points(at + little) - motion.points(at), atol=2e-3)
    box = motion.box(np.array((880, 580, 920, 620), np.float32))
    np.testing.assert_allclose((box[:2] + box[2:]) / 2, motion.points(at[1]), atol=1e-3)
    edges = motion.points(np.array(((880, 600), (920, 600), (900, 580), (900, 620)), np.float32))
    sides = np.linalg.norm(edges[1] - edges[0]), np.linalg.norm(edges[3] - edges[2])
    assert box[2] - box[0] == pytest.approx(math.sqrt(sides[0] * sides[1]), rel=0.02)
    np.testing.assert_allclose(motion.then(motion.inverse()).matrix, np.eye(3), atol=1e-9)


def test_tracks_and_filters_move_with_the_ground() -> None:
    """A person who stands on ground that turns and shifts below the camera keeps the number and is where the ground is."""
    step = similarity(dx=45, dy=-30, degrees=4, scale=1.05)
    motion = Motion(step)
    keypoints = np.array([(500 + 3 * index, 300 + 8 * index, 0.9) for index in range(17)], np.float32)
    someone = Person(np.array((480, 280, 560, 450), np.float32), 0.9, keypoints, None)
    tracker, smoother = Tracker(TrackConfig(min_hits=1), 0.2, 0.3), Smoother(SmoothConfig())
    numbers = []
    for index in range(12):
        at_ns = index * 40_000_000
        if index:
            tracker.move(motion)
            smoother.move(motion)
        tracked = tracker.update([someone], at_ns)
        shown = smoother.update(tracked, at_ns)[0]
        numbers.append(tracked[0].track)
        np.testing.assert_allclose(shown.keypoints[:, :2], someone.keypoints[:, :2], atol=0.02)
        someone = Person(motion.box(someone.box), 0.9, np.hstack([motion.points(someone.keypoints[:, :2]), keypoints[:, 2:]]), None)
    assert numbers == [1] * 12


def test_without_compensation_the_same_person_gets_other_numbers() -> None:
    motion = Motion(similarity(dx=130, dy=-90))
    box, numbers = np.array((480, 280, 520, 380), np.float32), []
    tracker = Tracker(TrackConfig(min_hits=1), 0.2, 0.3)
    for index in range(4):
        numbers.append(tracker.update([Person(box, 0.9, np.zeros((17, 3), np.float32), None)], index * 40_000_000)[0].track)
        box = motion.box(box)
    assert len(set(numbers)) > 1


def test_what_is_beyond_the_horizon_stays_where_it_was_however_often_the_camera_moves() -> None:
    motion = Motion(np.array(((1.05, 0.0, 4.0), (0.0, 1.05, 2.0), (0.0, 1e-3, 1.0))))
    point, speed, box = np.array((300, -1500), np.float32), np.array((5, 5), np.float32), np.array((280, -1600, 320, -1400), np.float32)
    assert motion.depth(point) < 0
    assert motion.scale(point) == 1.0
    for place in (point, np.array((300, -400), np.float32), np.array((300, 900), np.float32)):
        moved, across, side = place, speed, box + np.concatenate([place - point, place - point])
        for _ in range(300):
            moved, across, side = motion.points(moved), motion.vectors(across, moved), motion.box(side)
        assert max(np.abs(moved).max(), np.abs(across).max(), np.abs(side).max()) < 1e6
    np.testing.assert_array_equal(motion.points(point), point)
