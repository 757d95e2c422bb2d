import threading

import numpy as np

from edgepose.frame import Frame
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.stages import PreparedFrame
from edgepose.pose.letterbox import Letterbox


def frame(camera: str, sequence: int) -> PreparedFrame:
    image_frame = Frame(np.zeros((2, 2, 3), np.uint8), 0, "host", sequence, camera)
    return PreparedFrame(image_frame, Letterbox.fit(2, 2, 32, 32), np.zeros((1, 32, 32, 3), np.uint8))


def slots(stale_after_s: float = 60.0) -> tuple[LatestFrameSlots, list[tuple[str, str]]]:
    drops: list[tuple[str, str]] = []
    return LatestFrameSlots(stale_after_s, lambda camera, cause: drops.append((camera, cause))), drops


def taken(slots: LatestFrameSlots) -> tuple[str, int] | None:
    queued = slots.take(0)
    return None if queued is None else (queued.prepared.frame.camera, queued.prepared.frame.sequence)


def test_the_newest_frame_wins_and_the_loss_is_counted() -> None:
    many, drops = slots()
    for sequence in range(3):
        many.put(frame("a", sequence))
    assert taken(many) == ("a", 2)
    assert taken(many) is None
    assert drops == [("a", "superseded")] * 2


def test_cameras_take_turns_however_fast_they_are() -> None:
    many, _ = slots()
    many.put(frame("fast", 0))
    many.put(frame("slow", 0))
    many.put(frame("fast", 1))
    many.put(frame("fast", 2))
    assert [taken(many), taken(many), taken(many)] == [("fast", 2), ("slow", 0), None]


def test_only_live_frames_wait_for_their_loss() -> None:
    many, _ = slots()
    assert not many.live_frame_waits()
    assert many.put_when_free(frame("file", 0), 0)
    assert not many.live_frame_waits()
    many.put(frame("a", 0))
    assert many.live_frame_waits()
    assert [taken(many), taken(many)] == [("file", 0), ("a", 0)]
    assert not many.live_frame_waits()


def test_a_live_frame_that_waited_too_long_is_dropped() -> None:
    many, drops = slots(stale_after_s=-1.0)  # everything has waited too long
    many.put(frame("a", 0))
    assert taken(many) is None
    assert drops == [("a", "stale")]


def test_frames_of_files_are_never_lost() -> None:
    many, drops = slots(stale_after_s=-1.0)
    assert many.put_when_free(frame("file", 0), timeout_s=0)
    assert not many.put_when_free(frame("file", 1), timeout_s=0.01)
    assert taken(many) == ("file", 0)
    assert many.put_when_free(frame("file", 1), timeout_s=0)
    assert drops == []


def test_a_file_goes_on_as_soon_as_its_frame_is_taken() -> None:
    many, _ = slots()
    many.put_when_free(frame("file", 0), timeout_s=0)
    accepted: list[bool] = []
    queued = threading.Thread(target=lambda: accepted.append(many.put_when_free(frame("file", 1), timeout_s=10)))
    queued.start()
    assert taken(many) == ("file", 0)
    queued.join(5)
    assert accepted == [True]
    assert taken(many) == ("file", 1)


def shares(slots: LatestFrameSlots, turns: int, cameras: str = "abc") -> str:
    """Return whose frames are taken where all cameras always have one."""
    order = ""
    for number in range(turns):
        for camera in cameras:
            slots.put(frame(camera, number))
        turn = taken(slots)
        assert turn is not None
        order += turn[0]
    return order


def test_turns_follow_priorities_and_nobody_starves() -> None:
    many = LatestFrameSlots(60.0, lambda camera, cause: None, {"a": 3, "b": 1, "c": 2})
    order = shares(many, 60)
    assert [order.count(camera) for camera in "abc"] == [30, 10, 20]
    assert all(set(order[start : start + 6]) == set("abc") for start in range(0, 60, 6))
    many.configure(60.0, {})
    order = shares(many, 30)
    assert [order.count(camera) for camera in "abc"] == [10, 10, 10]


def test_a_camera_that_comes_back_has_saved_no_turns() -> None:
    many, _ = slots()
    shares(many, 50, "ab")
    order = shares(many, 12, "abc")
    assert [order.count(camera) for camera in "abc"] == [4, 4, 4]
    assert set(order[:4]) == set("abc")
