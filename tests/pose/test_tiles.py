"""Tiles: they cover every frame, the schedule keeps its period, and people at seams are found once."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.frame import NS_PER_S
from edgepose.person import Candidates, Person
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.tiles import TileSchedule, TileVisit, cover, merge, tile_needs
from edgepose.tile import Tile

FULL_HD = Letterbox.fit(1080, 1920, 288, 512)


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(1080, 1920, 288, 512), (1920, 1080, 512, 288), (900, 1000, 480, 512)])
def test_every_pixel_lies_in_a_tile_and_neighbors_overlap(height: int, width: int, rows: int, columns: int, scale: float) -> None:
    tiles = cover(Letterbox.fit(height, width, rows, columns), scale)
    seen = np.zeros((height, width), np.uint8)
    for tile in tiles:
        assert 0 <= tile.left < tile.right <= width
        assert 0 <= tile.top < tile.bottom <= height
        assert (tile.right - tile.left, tile.bottom - tile.top) == (min(width, round(columns / scale)), min(height, round(rows / scale)))
        seen[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert seen.min() == 1
    starts = sorted({tile.left for tile in tiles})
    assert all(after - before <= 0.81 * columns / scale for before, after in itertools.pairwise(starts))


def test_a_frame_that_the_network_sees_at_nearly_full_size_has_no_tiles() -> None:
    assert cover(Letterbox.fit(480, 640, 384, 512), 1.0) == []
    assert len(cover(Letterbox.fit(480, 640, 384, 512), 2.0)) > 1


def person(left: float, top: float, right: float, bottom: float) -> Person:
    return Person(np.array((left, top, right, bottom), np.float32), 0.9, np.zeros((17, 3), np.float32))


def visits_of(schedule: TileSchedule, frames: int, crowd: list[Person], most: int = 1000) -> list[int]:
    """Return how often each tile is visited in a stream of 25 frames/s, and check that each is visited within the period."""
    visits = [0] * len(schedule.tiles)
    for number in range(frames):
        now_ns = number * NS_PER_S // 25
        for index in schedule.due(now_ns, crowd)[:most]:
            schedule.visited(index, now_ns)
            visits[index] += 1
        if most == 1000 and now_ns > 2 * NS_PER_S:
            assert schedule.coverage(now_ns).oldest_s <= 2.0
            assert schedule.coverage(now_ns).share == 1.0
    return visits


@pytest.mark.parametrize("frame", [FULL_HD, Letterbox.fit(480, 640, 256, 320), Letterbox.fit(2160, 3840, 192, 320)])
def test_everything_is_visited_within_the_period_and_hardly_sooner(frame: Letterbox) -> None:
    schedule = TileSchedule(frame, 1.0, period_s=2.0)
    assert schedule.coverage(0).oldest_s == math.inf
    visits = visits_of(schedule, 500, [])
    assert sum(visits) <= 2.0 * len(visits) * 10  # twenty seconds are ten periods


def test_a_tile_with_small_people_is_visited_in_every_frame() -> None:
    schedule = TileSchedule(FULL_HD, 1.0, period_s=2.0)
    visits = visits_of(schedule, 500, [person(950, 500, 970, 540)])
    (busy,) = (index for index, count in enumerate(visits) if count > 400)
    tile = schedule.tiles[busy]
    assert tile.left < 950 < 970 < tile.right
    assert tile.top < 500 < 540 < tile.bottom


def test_where_time_lacks_people_and_old_looks_take_turns() -> None:
    schedule = TileSchedule(FULL_HD, 1.0, period_s=2.0)
    visits = visits_of(schedule, 500, [person(950, 500, 970, 540)], most=1)
    assert min(visits) >= 1
    assert max(visits) >= 10 * sorted(visits)[-2]


def test_people_who_are_large_in_the_whole_frame_need_no_closer_look() -> None:
    schedule, other = (TileSchedule(FULL_HD, 1.0, period_s=10.0) for _ in range(2))
    assert schedule.due(0, [person(800, 200, 1100, 900)]) == other.due(0, [])


def test_tiles_that_help_less_come_later_and_those_without_ground_never() -> None:
    schedule = TileSchedule(FULL_HD, 1.0, period_s=2.0)
    sizes = np.array([(0.0, 0.0), (90.0, 200.0), (12.0, 300.0)] * 100)[: len(schedule.tiles)]
    needs = tile_needs(sizes, FULL_HD, 1.0)
    sky, seldom, needed = 0.0, 0.25, 1.0
    # A person of 90 px in the frame has 24 px in the network's input, of 200 px 53: one is small, and the other is not.
    assert needs[:3] == [sky, needed, needed]
    assert tile_needs(np.array([(160.0, 300.0), (0.0, 7.9), (0.0, 8.0)]), FULL_HD, 1.0) == [seldom, sky, needed]
    assert tile_needs(np.array([(0.0, 7.9)]), FULL_HD, 2.0) == [needed]
    shares = [(sky, seldom, needed)[index % 3] for index in range(len(schedule.tiles))]
    visits = [0] * len(schedule.tiles)
    for number in range(1000):
        now_ns = number * NS_PER_S // 25
        for index in schedule.due(now_ns, [], shares):
            schedule.visited(index, now_ns)
            visits[index] += 1
        if number > 50:
            assert schedule.coverage(now_ns).oldest_s <= 2.0
    often = [count for count, share in zip(visits, shares, strict=True) if share == needed]
    rare = [count for count, share in zip(visits, shares, strict=True) if share == seldom]
    assert sum(visits[::3]) == 0
    assert min(rare) >= 4  # forty seconds are five of their periods
    assert min(often) >= 2.5 * max(rare) / 1.5
    schedule.due(41 * NS_PER_S, [])
    assert schedule.coverage(41 * NS_PER_S).share < 1  # without telemetry all count again


def test_what_is_needed_comes_first_where_time_lacks() -> None:
    schedule = TileSchedule(FULL_HD, 1.0, period_s=2.0)
    shares = [1.0 if index in (5, 9) else 0.25 for index in range(len(schedule.tiles))]
    assert set(schedule.due(0, [], shares)[:2]) == {5, 9}
    assert schedule.due(0, [], [0.0] * len(shares)) == []
    assert schedule.coverage(0).share == 1.0


def found(*boxes: tuple[float, float, float, float, float]) -> Candidates:
    """Return candidates from x1 y1 x2 y2 score; all keypoints in the middle of the box."""
    values: NDArray[np.float32] = np.array(boxes, np.float32).reshape(-1, 5)
    keypoints = np.zeros((len(values), 17, 3), np.float32)
    keypoints[..., :2] = ((values[:, :2] + values[:, 2:4]) / 2)[:, None]
    keypoints[..., 2] = 0.8
    return Candidates(values[None, :, :4], values[None, :, 4], keypoints[None])


TILE = Tile(400, 200, 912, 488)
IN_TILE = Letterbox.fit(288, 512, 288, 512)


def test_a_find_in_a_tile_lies_where_it_is_in_the_frame() -> None:
    visit = TileVisit(TILE, IN_TILE, found((100, 50, 120, 90, 0.8)))
    merged = merge(found(), FULL_HD, [visit], 0.1)
    expected = FULL_HD.to_input(np.array(((500, 250), (520, 290)), np.float32)).reshape(-1)
    np.testing.assert_allclose(merged.boxes[0, 0], expected, atol=1e-3)
    np.testing.assert_allclose(merged.keypoints[0, 0, 0, :2], FULL_HD.to_input(np.array((510, 270), np.float32)), atol=1e-3)


def whole_box(left: float, top: float, right: float, bottom: float, score: float) -> tuple[float, float, float, float, float]:
    """Return a candidate of the whole frame from source pixels."""
    corners = FULL_HD.to_input(np.array(((left, top), (right, bottom)), np.float32)).reshape(-1)
    return (float(corners[0]), float(corners[1]), float(corners[2]), float(corners[3]), score)


def test_one_person_in_the_whole_frame_and_in_a_tile_is_one() -> None:
    merged = merge(found(whole_box(500, 250, 560, 400, 0.4)), FULL_HD, [TileVisit(TILE, IN_TILE, found((102, 52, 158, 198, 0.8)))], 0.1)
    (score,) = merged.scores[0].tolist()
    assert 0.6 < score < 0.8  # the closer look counts, and the whole frame doubts it a little


def test_a_person_cut_by_a_seam_is_the_whole_one_of_the_other_look() -> None:
    cut = TileVisit(TILE, IN_TILE, found((480, 50, 512, 150, 0.9)))  # ends at the right edge of the tile
    complete = TileVisit(Tile(800, 200, 1312, 488), IN_TILE, found((78, 50, 140, 150, 0.6)))
    merged = merge(found(), FULL_HD, [cut, complete], 0.1)
    assert merged.scores.shape == (1, 1)
    assert 0.4 < merged.scores[0, 0] < 0.6
    alone = merge(found(), FULL_HD, [cut], 0.1)  # nobody else has seen this person
    assert 0.7 < alone.scores[0, 0] < 0.9


def test_parts_of_a_person_larger_than_a_tile_belong_to_the_whole_one() -> None:
    parts = [
        TileVisit(TILE, IN_TILE, found((5, 2, 500, 286, 0.95))),
        TileVisit(Tile(400, 430, 912, 718), IN_TILE, found((5, 2, 500, 286, 0.9))),
    ]
    merged = merge(found(whole_box(395, 195, 920, 730, 0.7)), FULL_HD, parts, 0.1)
    assert merged.scores[0].tolist() == pytest.approx([0.7])


def test_neighbors_in_one_look_are_two_people_and_low_scores_are_left_out() -> None:
    visit = TileVisit(TILE, IN_TILE, found((100, 50, 120, 90, 0.8), (104, 50, 124, 90, 0.7), (300, 50, 320, 90, 0.05)))
    assert merge(found(), FULL_HD, [visit], 0.1).scores[0].tolist() == pytest.approx([0.8, 0.7])
    whole = found(whole_box(500, 250, 560, 400, 0.4))
    assert merge(whole, FULL_HD, [], 0.1) is whole


def test_somebody_whom_the_whole_frame_should_show_and_does_not_loses_score() -> None:
    small, large = TileVisit(TILE, IN_TILE, found((102, 52, 122, 92, 0.8))), TileVisit(TILE, IN_TILE, found((102, 12, 302, 282, 0.8)))
    assert merge(found(), FULL_HD, [small], 0.1).scores[0].tolist() == pytest.approx([0.8])
    assert merge(found(), FULL_HD, [large], 0.1).scores[0][0] < 0.4
    seen = found(whole_box(502, 212, 702, 482, 0.6))
    assert 0.6 < merge(seen, FULL_HD, [large], 0.1).scores[0][0] < 0.8


def test_somebody_whom_a_tile_should_show_and_does_not_loses_score() -> None:
    whole = found(whole_box(500, 250, 560, 400, 0.6))
    empty, seen = TileVisit(TILE, IN_TILE, found()), TileVisit(TILE, IN_TILE, found((102, 52, 158, 198, 0.6)))
    beside, cutting = TileVisit(Tile(1000, 200, 1512, 488), IN_TILE, found()), TileVisit(Tile(530, 200, 1042, 488), IN_TILE, found())
    assert merge(whole, FULL_HD, [empty], 0.1).scores[0][0] < 0.3
    for visit in (seen, beside, cutting):
        assert merge(whole, FULL_HD, [visit], 0.1).scores[0].tolist() == pytest.approx([0.6])
    assert merge(whole, FULL_HD, [seen, empty], 0.1).scores[0][0] < 0.3  # two tiles that overlap disagree
