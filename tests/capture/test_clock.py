"""Literal time-stamps, in milliseconds for the reader's sake."""

import pytest

from edgepose.capture.clock import FileClock, LiveClock

MS = 1_000_000
NOON = 1_795_000_000_000 * MS  # some host time


def test_without_any_time_stamp_the_arrival_counts() -> None:
    assert LiveClock().stamp(None, None, NOON) == (NOON, "host")


def test_presentation_times_take_the_jitter_out_of_arrivals() -> None:
    clock = LiveClock(drift=0)
    arrivals_ms = [5, 38, 90, 105, 139]
    stamps = [clock.stamp(pts * MS, None, NOON + arrival * MS) for pts, arrival in zip((0, 33, 66, 100, 133), arrivals_ms, strict=True)]
    assert stamps == [(NOON + at * MS, "stream") for at in (5, 38, 71, 105, 138)]


def test_a_faster_picture_moves_the_anchor_for_those_after_it() -> None:
    clock = LiveClock(drift=0)
    assert clock.stamp(0, None, NOON + 40 * MS)[0] == NOON + 40 * MS
    assert clock.stamp(100 * MS, None, NOON + 110 * MS)[0] == NOON + 110 * MS
    assert clock.stamp(200 * MS, None, NOON + 240 * MS)[0] == NOON + 210 * MS


@pytest.mark.parametrize("parts_per_million", [-100, 100])
def test_a_drifting_camera_stays_within_a_few_milliseconds_for_hours(parts_per_million: int) -> None:
    clock = LiveClock()
    for second in range(0, 4 * 3600):
        arrival = NOON + second * 1000 * MS + (second * 7 % 20) * MS  # up to 19 ms of jitter
        taken, source = clock.stamp(round(second * 1000 * MS * (1 + parts_per_million * 1e-6)), None, arrival)
        assert source == "stream"
        assert 0 <= arrival - taken < 25 * MS


@pytest.mark.parametrize("pts_ms", [90_000, -5_000], ids=["forward", "backward"])
def test_a_jump_of_the_presentation_times_anchors_anew(pts_ms: int) -> None:
    clock = LiveClock(drift=0)
    clock.stamp(1000 * MS, None, NOON)
    assert clock.stamp(pts_ms * MS, None, NOON + 33 * MS) == (NOON + 33 * MS, "stream")
    assert clock.stamp((pts_ms + 33) * MS, None, NOON + 80 * MS) == (NOON + 66 * MS, "stream")


def test_a_step_of_the_hosts_clock_anchors_anew() -> None:
    clock = LiveClock(drift=0)
    clock.stamp(0, None, NOON)
    assert clock.stamp(33 * MS, None, NOON + 3_600_033 * MS) == (NOON + 3_600_033 * MS, "stream")


def test_sender_reports_are_believed_over_everything_else() -> None:
    clock = LiveClock()
    clock.stamp(0, None, NOON)
    assert clock.stamp(33 * MS, NOON - 60 * MS, NOON + 35 * MS) == (NOON - 60 * MS, "rtcp")
    assert clock.stamp(None, NOON - 27 * MS, NOON + 68 * MS) == (NOON - 27 * MS, "rtcp")


@pytest.mark.parametrize(("skew_ms", "believed"), [(10_000, True), (10_001, False), (-10_001, False), (NOON // MS, False)])
def test_a_sender_whose_clock_is_not_set_is_not_believed(skew_ms: int, believed: bool) -> None:
    assert LiveClock().stamp(0, NOON - skew_ms * MS, NOON) == ((NOON - skew_ms * MS, "rtcp") if believed else (NOON, "stream"))


def test_a_file_counts_from_its_opening() -> None:
    clock = FileClock(NOON, 100 * MS)
    assert [clock.stamp(pts * MS) for pts in (500, 600, 725)] == [(NOON + at * MS, "stream") for at in (0, 100, 225)]
    assert clock.elapsed_ns == 225 * MS


def test_a_second_pass_follows_the_first() -> None:
    clock = FileClock(NOON, 100 * MS)
    stamps = []
    for _ in range(3):
        stamps += [clock.stamp(pts * MS)[0] - NOON for pts in (500, 600)]
        clock.restart()
    assert stamps == [at * MS for at in (0, 100, 200, 300, 400, 500)]


def test_pictures_of_a_file_without_a_time_follow_at_the_nominal_rate() -> None:
    clock = FileClock(NOON, 40 * MS)
    assert [clock.stamp(pts)[0] - NOON for pts in (None, None, 7 * MS, 60 * MS, None)] == [at * MS for at in (0, 40, 80, 133, 173)]


def test_a_files_time_never_goes_back() -> None:
    clock = FileClock(NOON, 40 * MS)
    assert [clock.stamp(pts * MS)[0] - NOON for pts in (0, 80, 40, 120)] == [at * MS for at in (0, 80, 80, 120)]
