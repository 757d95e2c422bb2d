"""Fewer poses by choice, and never a silence of more than a second while frames come."""

import itertools

import pytest
from msgspec.structs import replace

from edgepose.config.schema import PosesConfig
from edgepose.messages.pose_thinning import PoseThinning
from edgepose.messages.structs import PosesMessage
from testing.sample import sample_message


def moved(by_px: float) -> PosesMessage:
    message = sample_message()
    first = message.people[0]
    keypoints = [(x + by_px, y, confidence) for x, y, confidence in first.keypoints]
    return replace(message, people=[replace(first, keypoints=keypoints), *message.people[1:]])


def passed_s(thinning: PoseThinning, message: PosesMessage, fps: float, seconds: float = 10.0) -> list[float]:
    times_s = [number / fps for number in range(int(seconds * fps))]
    return [now_s for now_s in times_s if thinning.passes(message, now_s)]


def test_by_default_every_frame_passes() -> None:
    assert len(passed_s(PoseThinning(PosesConfig()), sample_message(), 25)) == 250


@pytest.mark.parametrize(
    ("fps", "rate_hz", "expected"), [(25, 10, 100), (30, 5, 50), (25, 25, 250), (10, 25, 100), (29.97, 1, 10), (7, 3, 30)]
)
def test_the_rate_is_kept_on_average(fps: float, rate_hz: float, expected: int) -> None:
    assert len(passed_s(PoseThinning(PosesConfig(rate_hz=rate_hz)), sample_message(), fps)) == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("fps", [0.7, 1.5, 3, 25])
@pytest.mark.parametrize("config", [PosesConfig(only_changes=True), PosesConfig(rate_hz=1), PosesConfig(rate_hz=1, only_changes=True)])
def test_while_video_flows_a_message_follows_within_a_second(fps: float, config: PosesConfig) -> None:
    times_s = passed_s(PoseThinning(config), sample_message(), fps, 20)
    assert max(after - before for before, after in itertools.pairwise(times_s)) <= max(1.0, 1 / fps) + 1e-9


def test_only_changes_leaves_out_people_who_stand_still() -> None:
    thinning = PoseThinning(PosesConfig(only_changes=True))
    assert thinning.passes(moved(0), 0.0)
    assert not thinning.passes(moved(1), 0.1)  # the body size is 101 px
    assert thinning.passes(moved(4), 0.2)
    assert not thinning.passes(moved(4), 0.3)
    assert thinning.passes(replace(moved(4), people=moved(4).people[:1]), 0.4)
    assert thinning.passes(replace(moved(4), epoch=1), 0.5)


def test_a_slow_movement_adds_up() -> None:
    thinning = PoseThinning(PosesConfig(only_changes=True))
    assert [number for number in range(9) if thinning.passes(moved(number), number / 10)] == [0, 4, 8]


def test_each_camera_is_on_its_own() -> None:
    thinning = PoseThinning(PosesConfig(rate_hz=1))
    assert thinning.passes(sample_message(), 0.0)
    assert thinning.passes(replace(sample_message(), camera="back"), 0.0)
    assert not thinning.passes(sample_message(), 0.1)
