"""One camera's connection with time passed in: no thread, no clock, no source."""

import pytest

from edgepose.errors import EndOfStream, SourceError
from edgepose.messages.camera_state import CameraState
from edgepose.pipeline.camera_connection import CameraConnection, Open, Pause, Wait
from edgepose.supervision.backoff import FullJitterBackoff

REFUSED = SourceError("camera a: refused", "refused")
OVER = EndOfStream("camera a: over")


class Camera:
    """A connection whose back-off waits as long as it may, and all that it publishes."""

    def __init__(self, *, loop: bool = False, retry: bool = True, epoch: int = 0) -> None:
        self.published: list[tuple[str, str | None, int]] = []
        self.connection = CameraConnection(
            "a",
            FullJitterBackoff(1.0, 8.0, random=lambda: 1.0),
            lambda before, now: self.published.append((now.state, now.cause, now.epoch)),
            settled_after_s=8.0,
            loop=loop,
            retry=retry,
            epoch=epoch,
        )

    def open(self, now_s: float) -> int:
        action = self.connection.next(now_s, paused=False)
        assert isinstance(action, Open)
        return action.epoch

    def fail(self, now_s: float, error: SourceError = REFUSED) -> None:
        self.connection.lost(error, now_s, paused=False)

    def wait_s(self, now_s: float) -> float:
        action = self.connection.next(now_s, paused=False)
        assert isinstance(action, Wait)
        return action.seconds


def test_a_stream_connects_and_gives_frames() -> None:
    camera = Camera()
    assert camera.open(0.0) == 0
    for number in range(3):
        camera.connection.received(640, 480, 1.0 + number)
    assert camera.published == [("connecting", None, 0), ("streaming", None, 0)]
    assert camera.connection.state == CameraState("a", "streaming", None, None, 0, 640, 480)
    camera.connection.received(1280, 720, 4.0)
    assert camera.published[2:] == [("streaming", None, 0)]
    assert (camera.connection.state.width, camera.connection.state.height) == (1280, 720)


def test_waits_between_attempts_grow_and_count_from_the_attempt() -> None:
    camera = Camera()
    now_s, waits_s = 0.0, []
    for _ in range(5):
        camera.open(now_s)
        camera.fail(now_s + 0.5)  # half a second of the wait is over already
        waits_s.append(camera.wait_s(now_s + 0.5))
        now_s += 0.5 + waits_s[-1]
    assert waits_s == [0.5, 1.5, 3.5, 7.5, 7.5]
    assert camera.published == [("connecting", None, 0), ("failed", "refused", 0)]  # told on change, not on every attempt


def test_an_attempt_that_takes_longer_than_its_wait_is_repeated_without_one() -> None:
    camera = Camera()
    camera.open(0.0)
    camera.fail(5.0)
    assert camera.open(5.0) == 0


def test_after_a_timeout_the_device_has_time_to_be_released() -> None:
    camera = Camera()
    camera.open(0.0)
    camera.fail(5.0, SourceError("camera a: no answer", "timeout"))
    assert camera.wait_s(5.0) == pytest.approx(0.25)


def test_a_loss_begins_an_epoch_and_the_return_counts_as_a_reconnect() -> None:
    camera = Camera()
    camera.open(0.0)
    camera.connection.received(640, 480, 0.0)
    camera.fail(3.0, SourceError("camera a: stalled", "stalled"))
    assert camera.connection.state.epoch == 0
    assert camera.wait_s(3.0) == pytest.approx(1.0)  # from the loss, not from the attempt
    assert camera.open(4.0) == 1
    camera.fail(4.0)
    assert camera.open(6.0) == 1  # nothing came: still the same epoch
    camera.connection.received(640, 480, 6.0)
    assert camera.connection.reconnects == 1
    assert camera.published == [
        ("connecting", None, 0),
        ("streaming", None, 0),
        ("stalled", "stalled", 0),
        ("failed", "refused", 1),
        ("streaming", None, 1),
    ]


@pytest.mark.parametrize(("streamed_s", "wait_s"), [(7.9, 4.0), (8.1, 1.0)])
def test_only_a_stream_that_lasts_lets_the_waits_begin_again(streamed_s: float, wait_s: float) -> None:
    camera = Camera()
    camera.open(0.0)
    camera.fail(0.0)
    camera.open(1.0)
    camera.fail(1.0)
    camera.open(3.0)
    camera.connection.received(640, 480, 3.0)
    camera.connection.received(640, 480, 3.0 + streamed_s)
    camera.fail(3.0 + streamed_s)
    assert camera.wait_s(3.0 + streamed_s) == pytest.approx(wait_s)


@pytest.mark.parametrize("cause", ["stalled", "frozen"])
def test_a_stream_that_is_open_without_frames_is_stalled(cause: str) -> None:
    camera = Camera()
    camera.open(0.0)
    camera.fail(1.0, SourceError("camera a: nothing comes", cause))
    assert camera.published[-1] == ("stalled", cause, 0)


def test_a_pause_ends_waits_and_begins_an_epoch() -> None:
    camera = Camera()
    camera.open(0.0)
    camera.connection.received(640, 480, 0.0)
    camera.connection.interrupted()
    assert isinstance(camera.connection.next(1.0, paused=True), Pause)
    assert isinstance(camera.connection.next(1.2, paused=True), Pause)
    assert camera.open(2.0) == 1
    assert camera.published == [("connecting", None, 0), ("streaming", None, 0), ("paused", "command", 1), ("connecting", None, 1)]
    camera.fail(2.0)
    assert camera.wait_s(2.0) == pytest.approx(1.0)
    assert isinstance(camera.connection.next(2.1, paused=True), Pause)
    assert camera.open(2.2) == 1
    assert camera.connection.reconnects == 0


def test_a_pause_too_short_to_be_published_is_a_new_connection() -> None:
    camera = Camera()
    camera.open(0.0)
    camera.connection.received(640, 480, 0.0)
    camera.connection.interrupted()
    assert camera.open(0.1) == 1
    assert camera.published[2:] == [("connecting", None, 1)]


def test_a_loss_amid_a_pause_is_not_published() -> None:
    camera = Camera()
    camera.open(0.0)
    camera.connection.received(640, 480, 0.0)
    camera.connection.lost(REFUSED, 1.0, paused=True)
    assert isinstance(camera.connection.next(1.0, paused=True), Pause)
    assert camera.published[2:] == [("paused", "command", 1)]
    assert camera.open(1.0) == 1
    camera.connection.received(640, 480, 1.0)
    assert camera.connection.reconnects == 0


def test_the_end_of_a_file_ends_the_connection() -> None:
    camera = Camera()
    camera.open(0.0)
    camera.connection.received(640, 480, 0.0)
    camera.fail(1.0, OVER)
    assert camera.connection.next(1.0, paused=False) is None
    assert camera.published[-1] == ("paused", "end_of_stream", 0)
    assert camera.connection.failure is None


def test_a_file_that_loops_begins_again_without_a_wait() -> None:
    camera = Camera(loop=True)
    camera.open(0.0)
    camera.connection.received(640, 480, 0.0)
    camera.fail(1.0, OVER)
    assert camera.open(1.0) == 1
    camera.connection.received(640, 480, 1.0)
    assert camera.published == [("connecting", None, 0), ("streaming", None, 0), ("streaming", None, 1)]
    assert camera.connection.reconnects == 0


def test_a_file_without_frames_does_not_loop_busily() -> None:
    camera = Camera(loop=True)
    camera.open(0.0)
    camera.fail(0.0, OVER)
    assert camera.wait_s(0.0) == pytest.approx(1.0)
    assert camera.published[-1] == ("failed", "end_of_stream", 0)


def test_a_source_for_one_run_fails_for_good() -> None:
    camera = Camera(retry=False)
    camera.open(0.0)
    camera.fail(0.0)
    assert camera.connection.next(9.0, paused=False) is None
    assert camera.connection.failure is REFUSED
    assert camera.published == [("connecting", None, 0), ("failed", "refused", 0)]


def test_a_thread_that_takes_over_continues_the_epochs() -> None:
    camera = Camera(epoch=3)
    assert camera.open(0.0) == 3
    assert camera.published == [("connecting", None, 3)]
