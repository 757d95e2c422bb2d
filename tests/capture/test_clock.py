"""Literal timestamps, in milliseconds for readability."""

import time

import pytest

from edgepose.capture.clock import FileClock, Instant, LiveClock

MS = 1_000_000
NOON = 1_795_000_000_000 * MS  # some host time


def at(elapsed_ms: float, *, stepped_ms: float = 0) -> Instant:
    """A moment so many milliseconds after the first, with the wall clock set forward meanwhile."""
    return Instant(5_000 * MS + round(elapsed_ms * MS), NOON + round((elapsed_ms + stepped_ms) * MS))


def test_without_timestamps_the_arrival_counts() -> None:
    assert LiveClock().stamp(None, None, at(0)) == (NOON, "host", 0)


def test_presentation_times_remove_the_jitter_of_arrivals() -> None:
    clock = LiveClock(drift=0)
    arrivals_ms = [5, 38, 90, 105, 139]
    stamps = [clock.stamp(pts * MS, None, at(arrival)) for pts, arrival in zip((0, 33, 66, 100, 133), arrivals_ms, strict=True)]
    assert [stamp[:2] for stamp in stamps] == [(NOON + taken * MS, "stream") for taken in (5, 38, 71, 105, 138)]
    assert [stamp.late_ns for stamp in stamps] == [late * MS for late in (0, 0, 19, 0, 1)]


def test_a_faster_frame_moves_the_anchor_for_later_frames() -> None:
    clock = LiveClock(drift=0)
    assert clock.stamp(0, None, at(40)).captured_at_ns == NOON + 40 * MS
    assert clock.stamp(100 * MS, None, at(110)).captured_at_ns == NOON + 110 * MS
    assert clock.stamp(200 * MS, None, at(240)).captured_at_ns == NOON + 210 * MS


@pytest.mark.parametrize("parts_per_million", [-100, 100])
def test_a_drifting_camera_stays_within_a_few_milliseconds_for_hours(parts_per_million: int) -> None:
    clock = LiveClock()
    for second in range(0, 4 * 3600):
        arrival = at(second * 1000 + second * 7 % 20)  # up to 19 ms of jitter
        taken, source, late_ns = clock.stamp(round(second * 1000 * MS * (1 + parts_per_million * 1e-6)), None, arrival)
        assert source == "stream"
        assert 0 <= arrival.wall_ns - taken < 25 * MS
        assert 0 <= late_ns < 25 * MS


@pytest.mark.parametrize("pts_ms", [90_000, -5_000], ids=["forward", "backward"])
def test_a_jump_of_the_presentation_times_resets_the_anchor(pts_ms: int) -> None:
    clock = LiveClock(drift=0)
    clock.stamp(1000 * MS, None, at(0))
    assert clock.stamp(pts_ms * MS, None, at(33)) == (NOON + 33 * MS, "stream", 0)
    assert clock.stamp((pts_ms + 33) * MS, None, at(80)) == (NOON + 66 * MS, "stream", 14 * MS)


def test_one_wild_presentation_time_does_no_harm() -> None:
    clock = LiveClock(drift=0)
    arrivals = [(0, 0), (33, 33), (7_000_066, 66), (100, 100), (133, 140)]
    late_ms = [clock.stamp(pts * MS, None, at(arrival)).late_ns // MS for pts, arrival in arrivals]
    assert late_ms == [0, 0, 0, 0, 7]


def test_a_backlog_is_late_for_any_duration() -> None:
    clock = LiveClock(drift=0)
    clock.stamp(0, None, at(20))
    # Three seconds of silence, then what was buffered meanwhile, ten times as fast as it was filmed.
    backlog = [clock.stamp(pts * MS, None, at(3020 + pts / 10)) for pts in range(100, 3400, 100)]
    assert [stamp.captured_at_ns for stamp in backlog] == [NOON + (pts + 20) * MS for pts in range(100, 3400, 100)]
    assert backlog[0].late_ns == 2910 * MS
    assert backlog[-1].late_ns == 30 * MS


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 700, -700])
@pytest.mark.parametrize("reports", [False, True])
def test_a_step_of_the_hosts_wall_clock_makes_no_frame_old_or_from_the_future(step_ms: int, reports: bool) -> None:
    clock = LiveClock()
    ages_ms, clocks = [], []
    for number in range(400):
        stepped_ms = step_ms if 100 <= number < 300 else 0  # set wrong, and right again
        arrival = at(number * 33 + number * 7 % 10, stepped_ms=stepped_ms)
        sender_ns = NOON + (number * 33 - 40) * MS if reports else None
        stamp = clock.stamp(number * 33 * MS, sender_ns, arrival)
        ages_ms.append((arrival.wall_ns - stamp.captured_at_ns) / MS)
        clocks.append(stamp.clock)
        assert stamp.late_ns < 11 * MS
    assert clocks[:100] == clocks[300:] == ["rtcp" if reports else "stream"] * 100
    if not reports or step_ms != 700:  # a camera's clock that may be right is believed: then pictures are 700 ms old
        assert max(ages_ms) < 60
        assert min(ages_ms) > -1
        assert set(clocks[100:300]) == {"stream"}


def test_sender_reports_take_precedence() -> None:
    clock = LiveClock()
    clock.stamp(0, None, at(0))
    assert clock.stamp(33 * MS, NOON - 60 * MS, at(35))[:2] == (NOON - 60 * MS, "rtcp")
    assert clock.stamp(None, NOON - 27 * MS, at(68))[:2] == (NOON - 27 * MS, "rtcp")


@pytest.mark.parametrize(("skew_ms", "believed"), [(2_000, True), (2_001, False), (-100, True), (-101, False), (NOON // MS, False)])
def test_a_sender_clock_that_is_not_set_is_ignored(skew_ms: int, believed: bool) -> None:
    assert LiveClock().stamp(0, NOON - skew_ms * MS, at(0))[:2] == ((NOON - skew_ms * MS, "rtcp") if believed else (NOON, "stream"))


def test_a_sender_clock_near_the_limit_is_used_despite_jitter() -> None:
    clock = LiveClock(drift=0)
    clocks = [clock.stamp(n * 33 * MS, NOON + (n * 33 - 1990) * MS, at(n * 33 + n * 13 % 50)).clock for n in range(200)]
    assert set(clocks) == {"rtcp"}


def test_an_instant_is_now() -> None:
    before, now, after = time.monotonic_ns(), Instant.now(), time.monotonic_ns()
    assert before <= now.monotonic_ns <= after
    assert abs(time.time_ns() - now.wall_ns) < 10_000 * MS


def test_a_file_counts_from_its_opening() -> None:
    clock = FileClock(NOON, 100 * MS)
    assert [clock.stamp(pts * MS) for pts in (500, 600, 725)] == [(NOON + taken * MS, "stream") for taken in (0, 100, 225)]
    assert clock.elapsed_ns == 225 * MS


def test_a_second_pass_follows_the_first() -> None:
    clock = FileClock(NOON, 100 * MS)
    stamps = []
    for _ in range(3):
        stamps += [clock.stamp(pts * MS)[0] - NOON for pts in (500, 600)]
        clock.restart()
    assert stamps == [taken * MS for taken in (0, 100, 200, 300, 400, 500)]


def test_frames_of_a_file_without_timestamps_follow_at_the_nominal_rate() -> None:
    clock = FileClock(NOON, 40 * MS)
    assert [clock.stamp(pts)[0] - NOON for pts in (None, None, 7 * MS, 60 * MS, None)] == [taken * MS for taken in (0, 40, 80, 133, 173)]


def test_a_files_time_never_goes_back() -> None:
    clock = FileClock(NOON, 40 * MS)
    assert [clock.stamp(pts * MS)[0] - NOON for pts in (0, 80, 40, 120)] == [taken * MS for taken in (0, 80, 80, 120)]
