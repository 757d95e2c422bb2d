import cv2
import numpy as np
import pytest

from edgepose.output.overlay import color, draw
from edgepose.person import Person
from edgepose.tile import Tile, TileLook
from testing.bodies import standing_person, without_pose
from testing.sample import sample_person
from testing.shared import SHARED


def lit(image):
    """Return which pixels a drawing on black has changed."""
    return image.any(axis=2)


def test_the_image_itself_does_not_change():
    image = np.full((300, 300, 3), 90, np.uint8)
    drawn = draw(image, [sample_person(track=1)], caption="front 10 fps")
    assert (image == 90).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (drawn != 90).any()


def test_without_people_and_caption_nothing_is_drawn():
    image = np.full((30, 40, 3), 90, np.uint8)
    assert (draw(image, []) == image).all()


def test_keypoints_below_the_threshold_are_not_drawn():
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[5] = 100, 200, 0.9
    keypoints[7] = 140, 200, 0.9
    keypoints[9] = 180, 200, 0.19  # below the threshold
    person = Person(np.array([10, 10, 20, 20], np.float32), 0.5, keypoints, 1)
    black = np.zeros((300, 300, 3), np.uint8)
    touched = lit(draw(black, [person], keypoint_threshold=0.2))
    assert touched[200, 100:140].all()
    assert not touched[150:250, 150:].any()
    assert not touched[:5, :5].any()  # (0, 0, 0) is not a position
    assert lit(draw(black, [person], keypoint_threshold=0.1))[200, 100:180].all()


def test_lines_are_accurate_to_a_tenth_of_a_pixel():
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[11], keypoints[13] = (50, 20, 1), (50, 180, 1)
    person = Person(np.array([1, 1, 199, 199], np.float32), 0.5, keypoints, 1)
    row = draw(np.zeros((200, 200, 3), np.uint8), [person])[100].max(axis=1).astype(float)[5:195]
    center = (row * (np.arange(5, 195) + 0.5)).sum() / row.sum()  # the center of pixel i is i + 0.5
    assert center == pytest.approx(50, abs=0.1)


def test_lines_scale_with_the_image():
    shares = []
    for scale in (1, 4):
        person = sample_person(track=1)
        keypoints = person.keypoints * np.array([scale, scale, 1], np.float32)
        scaled = Person(person.box * scale, 0.5, keypoints, 1)
        shares.append(lit(draw(np.zeros((480 * scale, 640 * scale, 3), np.uint8), [scaled])).mean())
    assert shares[1] == pytest.approx(shares[0], rel=0.35)


def test_colors_of_neighboring_tracks_differ():
    colors = np.array([color(number) for number in range(1, 9)], float)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2)
    assert distances[~np.eye(8, dtype=bool)].min() > 60
    assert color(3) == color(3)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (40, 40), (2160, 3840)])
def test_any_size_and_people_far_outside(shape):
    outside = Person(np.array([-1e6, -1e6, 1e6, 1e6], np.float32), 0.9, sample_person(x=-1e5).keypoints, 123456)
    none = Person(np.zeros(4, np.float32), 0.9, np.full((17, 3), np.nan, np.float32))
    image = np.zeros((*shape, 3), np.uint8)
    assert draw(image, [outside, none, sample_person()], caption="front  10.0 fps").shape == image.shape


@pytest.mark.skipif(SHARED is None, reason="the photographs are not part of the project")
def test_a_photograph_does_not_change_away_from_people():
    assert SHARED is not None
    path = sorted((SHARED / "data" / "coco-dev" / "images").iterdir())[0]
    photograph = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    drawn = draw(photograph, [sample_person(track=1, x=50, y=80)])
    changed = (drawn != photograph).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 80 - 20
    assert columns.min() >= 50 - 6
    assert 0.001 < changed.mean() < 0.2


def test_of_a_person_without_a_pose_only_the_box_and_the_label_are_drawn():
    black = np.zeros((300, 300, 3), np.uint8)
    touched = lit(draw(black, [without_pose(standing_person(100, 100, 150, track=1))], keypoint_threshold=0.0001))
    assert touched[175, 100]
    assert touched[175, 160]
    assert not touched[105:245, 105:155].any()


def test_tiles_are_framed_bright_where_just_visited() -> None:
    image = np.zeros((200, 400, 3), np.uint8)
    looks = [TileLook(Tile(0, 0, 200, 200), 0.0), TileLook(Tile(200, 0, 400, 200), 2.0)]
    canvas = draw(image, [], looks=looks)
    fresh, old = canvas[:, :200].max(), canvas[100:, 200:].max()
    assert fresh > 200 > old > 0
    assert canvas[25:50, 225:290].max() > old  # the age, in the corner


def test_frames_of_overlapping_tiles_do_not_cross() -> None:
    looks = [TileLook(Tile(0, 0, 200, 200), 0.0), TileLook(Tile(150, 0, 350, 200), 2.0)]
    across = draw(np.zeros((200, 400, 3), np.uint8), [], looks=looks)[120, :, 0]  # below the ages
    (bright,), (dim,) = np.nonzero(across > 150), np.nonzero((across > 15) & (across < 60))
    assert bright.min() < 40 < 160 < bright.max() < dim.min() < 190
    assert dim.max() > 300


def test_without_tiles_nothing_is_framed() -> None:
    image = np.zeros((200, 400, 3), np.uint8)
    assert not draw(image, []).any()
