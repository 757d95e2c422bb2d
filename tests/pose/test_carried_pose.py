"""Poses carried from refinement to refinement with the box, on boxes and keypoints with known mappings."""

from collections.abc import Sequence

import numpy as np
import pytest

from edgepose.config.schema import RefineConfig
from edgepose.person import Person
from edgepose.pose.carried_pose import BoxMove, CarriedPoses, refined_poses
from testing.bodies import moved, standing_person, without_pose

MS = 1_000_000
SIZE = (640, 480)
COARSE = 0.3  # confidence of the pose network's own keypoints here


class Camera:
    """Frames of one camera at 30 per second."""

    def __init__(self, config: RefineConfig | None = None, frame_ms: int = 33) -> None:
        self.poses = CarriedPoses(config or RefineConfig())
        self._frame_ms = frame_ms
        self._frame = 0

    def frame(self, *people: Person, refined: Sequence[int] = ()) -> tuple[list[Person], list[bool]]:
        """Return the people to show and whose pose is the refiner's; `refined` are indices."""
        self._frame += 1
        return self.poses.update(people, [index in refined for index in range(len(people))], *SIZE, self._frame * self._frame_ms * MS)


def coarse(left: float, top: float, height: float = 200.0, confidence: float = COARSE, track: int | None = 1) -> Person:
    """A person whose keypoints are far off."""
    return moved(standing_person(left, top, height, confidence=confidence, track=track), np.array((0, 40)))


def test_a_pose_moves_and_grows_with_the_box() -> None:
    camera = Camera()
    refined = standing_person(100, 50, 200, track=1)
    assert camera.frame(refined, refined=[0])[0] == [refined]
    (person,), (from_refiner,) = camera.frame(coarse(130, 60, 220))
    assert from_refiner
    np.testing.assert_allclose(person.keypoints[:, :2], standing_person(130, 60, 220).keypoints[:, :2], atol=1e-3)
    np.testing.assert_array_equal(person.box, standing_person(130, 60, 220).box)
    assert (person.track, person.score) == (1, 0.8)


def test_the_confidence_halves_in_half_a_second() -> None:
    camera = Camera(frame_ms=125)
    camera.frame(standing_person(track=1), refined=[0])
    confidences = [camera.frame(coarse(100, 50, confidence=0.1))[0][0].keypoints[0, 2] for _ in range(4)]
    np.testing.assert_allclose(confidences, 0.9 * 0.5 ** (np.arange(1, 5) / 4), rtol=1e-5)


@pytest.mark.parametrize(("own", "carried_frames"), [(0.9, 15), (1.0, 12), (0.2, 48)])
def test_the_more_certain_pose_is_shown(own: float, carried_frames: int) -> None:
    """A carried pose of 0.9 falls to half of the own confidence of 0.9 after 500 ms, which is 15 frames."""
    camera = Camera(RefineConfig(carry_frames=99))
    camera.frame(standing_person(track=1), refined=[0])
    shown = [camera.frame(coarse(100, 50, confidence=own))[1][0] for _ in range(99)]
    assert shown == [True] * carried_frames + [False] * (99 - carried_frames)


@pytest.mark.parametrize("frames", [0, 1, 10])
def test_a_pose_is_carried_for_so_many_frames(frames: int) -> None:
    camera = Camera(RefineConfig(carry_frames=frames))
    camera.frame(standing_person(track=1), refined=[0])
    assert [camera.frame(coarse(100, 50))[1][0] for _ in range(20)] == [True] * frames + [False] * (20 - frames)


def test_the_last_refined_pose_counts_and_each_track_has_its_own() -> None:
    camera = Camera()
    first, second = standing_person(100, 50, track=1), standing_person(400, 50, track=2)
    camera.frame(first, second, refined=[0, 1])
    waving = moved(first, np.array((10, -60)), keypoint=9)
    camera.frame(waving, coarse(400, 50, track=2), refined=[0])
    shown, from_refiner = camera.frame(coarse(400, 50, track=2), coarse(100, 50))
    assert from_refiner == [True, True]
    np.testing.assert_allclose(shown[0].keypoints[:, :2], second.keypoints[:, :2], atol=1e-3)
    np.testing.assert_allclose(shown[1].keypoints[:, :2], waving.keypoints[:, :2], atol=1e-3)


def test_only_people_with_a_track_number_keep_a_pose() -> None:
    camera = Camera()
    camera.frame(standing_person(), refined=[0])
    stranger = coarse(100, 50, track=None)
    assert camera.frame(stranger) == ([stranger], [False])


def test_a_person_too_small_to_be_refined_has_no_carried_pose() -> None:
    camera = Camera(RefineConfig(min_height_px=100))
    camera.frame(standing_person(100, 50, 101, track=1), refined=[0])
    small = without_pose(standing_person(100, 50, 99, track=1))
    assert camera.frame(small) == ([small], [False])
    assert camera.frame(coarse(100, 50, 101))[1] == [True]


@pytest.mark.parametrize(
    ("box", "carried"),
    [
        ((100, 50, 180, 250), True),
        ((160, 50, 240, 250), True),  # 60 px, and half a body size is 63
        ((170, 50, 250, 250), False),
        ((100, 115, 180, 315), False),
        ((82, 50, 198, 250), True),  # 1.45 times as wide
        ((78, 50, 202, 250), False),
        ((100, 80, 180, 210), False),  # crouches
    ],
)
def test_a_box_that_jumps_or_changes_its_shape_ends_the_pose(box: tuple[int, ...], carried: bool) -> None:
    camera = Camera()
    camera.frame(standing_person(100, 50, 200, track=1), refined=[0])
    there = Person(np.array(box, np.float32), 0.8, coarse(100, 50).keypoints, 1)
    assert camera.frame(there)[1] == [carried]
    if not carried:  # and the pose does not come back
        assert camera.frame(coarse(100, 50))[1] == [False]


def test_a_walk_is_not_a_jump_and_a_pause_of_the_track_allows_more() -> None:
    camera = Camera()
    camera.frame(standing_person(100, 50, track=1), refined=[0])
    assert [camera.frame(coarse(100 + 40 * step, 50))[1][0] for step in range(1, 6)] == [True] * 5
    camera.frame()
    camera.frame()
    assert camera.frame(coarse(420, 50))[1] == [True]  # 120 px in three frames


def test_time_that_goes_back_ends_the_pose() -> None:
    camera = Camera()
    person = standing_person(track=1)
    camera.poses.update([person], [True], *SIZE, 1000 * MS)
    assert camera.poses.update([coarse(100, 50)], [False], *SIZE, 999 * MS)[1] == [False]


@pytest.mark.parametrize(
    ("before", "after", "scale", "shift"),
    [
        ((100, 100, 200, 300), (120, 100, 220, 300), (1, 1), (20, 0)),
        ((100, 100, 200, 300), (100, 100, 220, 340), (1.2, 1.2), (10, 20)),
        ((20, 100, 120, 300), (0, 100, 100, 300), (1, 1), (-20, 0)),  # arrives at the edge
        ((20, 100, 120, 300), (0, 100, 60, 300), (1, 1), (-60, 0)),  # half of the person has left
        ((0, 100, 60, 300), (20, 100, 120, 300), (1, 1), (60, 0)),  # and comes back
        ((560, 100, 640, 300), (600, 100, 640, 300), (1, 1), (40, 0)),
        ((100, 100, 200, 480), (110, 140, 210, 478), (1, 1), (10, 40)),  # the feet are below the frame
        ((100, 0, 200, 300), (100, 3, 240, 280), (1.4, 1), (20, -20)),  # wider, but not taller
        ((100, 0, 200, 480), (100, 0, 200, 480), (1, 1), (0, 0)),
        ((0, 0, 640, 480), (0, 0, 640, 480), (1, 1), (0, 0)),
    ],
)
def test_boxes_cut_by_the_edge_of_the_frame_move_by_the_edges_that_are_not_cut(
    before: tuple[int, ...], after: tuple[int, ...], scale: tuple[float, float], shift: tuple[float, float]
) -> None:
    move = BoxMove.between(np.array(before, np.float32), np.array(after, np.float32), *SIZE)
    np.testing.assert_allclose(move.scale, scale, rtol=1e-6)
    np.testing.assert_allclose(move.shift, shift, atol=1e-4)


def test_keypoints_that_leave_the_frame_lose_their_confidence() -> None:
    camera = Camera()
    camera.frame(standing_person(20, 50, track=1), refined=[0])
    half = standing_person(-40, 50, track=1)
    cut = Person(np.maximum(half.box, 0), half.score, without_pose(half).keypoints, 1)
    ((person,), _) = camera.frame(cut)
    inside = half.keypoints[:, 0] >= 0
    assert 0 < inside.sum() < 17
    np.testing.assert_allclose(person.keypoints[inside, :2], half.keypoints[inside, :2], atol=1e-3)
    assert (person.keypoints[half.keypoints[:, 0] < -10, 2] == 0).all()
    assert (person.keypoints[:, 0] >= 0).all()


def test_a_snapshot_holds_everything() -> None:
    camera = Camera()
    camera.frame(standing_person(100, 50, track=1), standing_person(300, 50, track=2), refined=[0, 1])
    camera.frame(coarse(110, 50))
    state = camera.poses.snapshot()
    other = CarriedPoses(RefineConfig())
    other.restore(state)
    assert other.snapshot() == state
    later = [coarse(120, 55), coarse(310, 50, track=2)]
    for poses in (camera.poses, other):
        shown, from_refiner = poses.update(later, [False, False], *SIZE, 99 * MS)
        assert from_refiner == [True, True]
        np.testing.assert_allclose(shown[0].keypoints[:, :2], standing_person(120, 55).keypoints[:, :2], atol=1e-3)
    assert other.snapshot() == camera.poses.snapshot() != state
    other.reset()
    assert other.update(later, [False, False], *SIZE, 132 * MS)[1] == [False, False]


def test_who_is_refined_shows_in_the_keypoints() -> None:
    people = [standing_person(100, 50, track=1), standing_person(300, 50, track=2)]
    assert refined_poses(people, [people[0], moved(people[1], np.array((1, 0)))]) == [False, True]
    assert refined_poses([people[0]], [standing_person(100, 50, score=0.1)]) == [False]  # another score alone
