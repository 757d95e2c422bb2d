"""Literal times, in seconds; images of noise, like a sensor's."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.capture.frozen import FrozenDetector, fingerprint


def noise(seed: int, height: int = 480, width: int = 640) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_only_equal_images_have_equal_fingerprints() -> None:
    assert fingerprint(noise(1)) == fingerprint(noise(1).copy())
    assert len({fingerprint(noise(seed)) for seed in range(100)}) == 100
    assert fingerprint(noise(1)) == fingerprint(np.asfortranarray(noise(1)))


def test_sensor_noise_in_a_dark_room_is_motion() -> None:
    dark = np.zeros((480, 640, 3), np.uint8)
    fingerprints = {fingerprint(dark + np.random.default_rng(seed).integers(0, 2, dark.shape, dtype=np.uint8)) for seed in range(50)}
    assert len(fingerprints) == 50


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (16, 16)])
def test_small_images_have_fingerprints_too(size: tuple[int, int]) -> None:
    assert fingerprint(noise(1, *size)) != fingerprint(noise(2, *size))


def test_another_size_is_another_image() -> None:
    assert fingerprint(np.zeros((480, 640, 3), np.uint8)) != fingerprint(np.zeros((479, 640, 3), np.uint8))


def test_an_image_that_stays_too_long_is_frozen() -> None:
    detector = FrozenDetector(10)
    assert [detector.update(noise(1), now) for now in (0, 5, 9.9, 10, 10.1)] == ["moving", "moving", "moving", "frozen", "frozen"]


def test_every_different_image_restarts_the_time() -> None:
    detector = FrozenDetector(10)
    assert {detector.update(noise(int(now) // 9), now) for now in np.arange(0, 100, 0.5)} == {"moving"}


def test_a_reopened_camera_that_is_still_frozen_is_recognized_immediately() -> None:
    detector = FrozenDetector(10)
    detector.update(noise(1), 0)
    assert detector.update(noise(1), 10) == "frozen"
    detector.opened(11)
    assert [detector.update(noise(1), now) for now in (11.2, 20.9, 21)] == ["still", "still", "frozen"]
    detector.opened(22)
    assert detector.update(noise(2), 22.2) == "moving"
    assert detector.update(noise(2), 23) == "moving"


def test_a_camera_that_disconnects_often_can_be_frozen_too() -> None:
    detector = FrozenDetector(10)
    detector.update(noise(1), 0)
    assert detector.update(noise(1), 8) == "moving"
    detector.opened(9)
    assert detector.update(noise(1), 9.1) == "moving"
    assert detector.update(noise(1), 10.9) == "moving"
    assert detector.update(noise(1), 11) == "frozen"


def test_the_time_that_a_camera_was_closed_does_not_count() -> None:
    detector = FrozenDetector(10)
    detector.update(noise(1), 0)
    detector.opened(3600)
    assert detector.update(noise(1), 3600.1) == "moving"
    assert detector.update(noise(1), 3610) == "frozen"


def test_it_can_be_disabled() -> None:
    detector = FrozenDetector(0)
    assert {detector.update(noise(1), now) for now in range(100)} == {"moving"}
