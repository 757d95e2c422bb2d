import io
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from msgspec import UNSET, UnsetType
from rich.console import Console

from edgepose.cli.live_table import camera_line, device_line, event_line, event_row_line, rendered
from edgepose.event import EventKind
from edgepose.frame import Frame
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.live_table import LiveTable
from edgepose.messages.structs import BackendMessage, CameraMessage, CameraStatusMessage, InfoMessage, ModelMessage, StatusMessage, encode
from edgepose.person import Person
from testing.sample import sample_event, sample_event_message


def poses(sequence: int, people: int) -> bytes:
    frame = Frame(np.zeros((480, 640, 3), np.uint8), 0, "host", sequence, "front")
    box, keypoints = np.array((10, 20, 30, 120), np.float32), np.full((17, 3), 0.5, np.float32)
    return encode(poses_message(frame, [Person(box, 0.8, keypoints, track) for track in range(people)], 40_000_000))


AT = "2026-11-22T10:00:00.000000Z"


def status(state: Any, reason: str) -> bytes:
    return encode(StatusMessage(state=state, reason=reason, session="1", at=AT))


def camera_status(state: Any, cause: str | UnsetType = UNSET) -> bytes:
    return encode(CameraStatusMessage(camera="front", state=state, cause=cause, epoch=0, at=AT))


def info(*cameras: str) -> bytes:
    return encode(
        InfoMessage(
            device="drone",
            started_at=AT,
            versions={},
            model=ModelMessage(name="m", sha256=""),
            backend=BackendMessage(name="", device="", precision="", reason=""),
            cameras=[CameraMessage(name=name, source="x") for name in cameras],
        )
    )


def shown(live_table: LiveTable) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(rendered(live_table))
    return console.export_text()


def camera_lines(live_table: LiveTable) -> list[str]:
    return [camera_line(camera) for camera in live_table.cameras()]


def new_states(live_table: LiveTable) -> list[str]:
    return [device_line(device) for device in live_table.new_states()]


def new_events(live_table: LiveTable, *, video_time: bool = False) -> list[str]:
    return [event_row_line(row, video_time=video_time) for row in live_table.new_events()]


def heard() -> LiveTable:
    live_table = LiveTable("edgepose")
    live_table.take("edgepose/drone/status", status("online", "connected"), 0.0)
    live_table.take("edgepose/drone/cameras/front/status", camera_status("streaming"), 0.0)
    for sequence in range(11):
        live_table.take("edgepose/drone/cameras/front/poses", poses(sequence, sequence % 3), sequence * 0.1)
    return live_table


def test_the_table_shows_the_last_frame_and_its_rate() -> None:
    live_table = heard()
    assert camera_lines(live_table) == ["drone/front: streaming, 1 people, 10.0 frames/s, frame 10"]
    assert (live_table.messages, live_table.most_people, len(live_table.tracks)) == (11, 2, 2)
    text = shown(live_table)
    assert "drone: online" in text
    assert "drone/front: streaming" in text
    assert "1 people; frame 10, 640x480, 10.0/s, age 40 ms" in text
    assert "20, 70" in text


def test_nobody_is_shown_for_a_camera_that_gives_no_frames() -> None:
    live_table = heard()
    for state, cause in (("failed", "refused"), ("paused", "command"), ("connecting", UNSET)):
        live_table.take("edgepose/drone/cameras/front/status", camera_status(state, cause), 2.0)
        assert camera_lines(live_table) == [f"drone/front: {state}" + (f" ({cause})" if cause else "")]
        assert "frame" not in shown(live_table)
    live_table = heard()
    live_table.take("edgepose/drone/cameras/front/status", camera_status("paused", "end_of_stream"), 2.0)
    assert camera_lines(live_table) == ["drone/front: paused (end_of_stream), 1 people, 10.0 frames/s, frame 10"]


def test_retained_messages_of_a_device_that_is_gone_are_not_shown_as_live() -> None:
    live_table = heard()
    assert new_states(live_table) == ["drone: online"]
    live_table.take("edgepose/drone/status", status("online", "connected"), 2.0)
    assert new_states(live_table) == []
    live_table.take("edgepose/drone/status", status("stopped", "stopped on request"), 2.0)
    assert new_states(live_table) == ["drone: stopped (stopped on request)"]
    assert camera_lines(live_table) == []
    assert shown(live_table).strip() == "drone: stopped (stopped on request)"
    live_table.take("edgepose/drone/status", status("online", "connected"), 3.0)
    assert len(camera_lines(live_table)) == 1


def test_cameras_of_an_earlier_configuration_are_not_shown() -> None:
    live_table = heard()
    live_table.take("edgepose/drone/cameras/rear/status", camera_status("streaming"), 2.0)
    assert len(camera_lines(live_table)) == 2
    live_table.take("edgepose/drone/info", info("front"), 2.0)
    assert [line.partition(":")[0] for line in camera_lines(live_table)] == ["drone/front"]
    assert "rear" not in shown(live_table)
    live_table.take("edgepose/drone/info", info("front", "rear"), 3.0)
    assert len(camera_lines(live_table)) == 2
    live_table.take("edgepose/drone/cameras/rear/status", b"", 3.0)
    assert len(camera_lines(live_table)) == 1


def test_messagepack_is_understood_and_nonsense_passed_over() -> None:
    live_table = heard()
    live_table.take("edgepose/drone/cameras/front/poses", msgspec.msgpack.encode(msgspec.json.decode(poses(11, 2))), 1.1)
    assert camera_lines(live_table) == ["drone/front: streaming, 2 people, 10.0 frames/s, frame 11"]
    for payload in (b"", b"{", b"\xff\xff", b"{}"):
        live_table.take("edgepose/drone/cameras/front/poses", payload, 1.2)
        live_table.take("edgepose/drone/elsewhere", payload, 1.2)
    assert live_table.messages == 12


def test_events_are_shown_and_written_once() -> None:
    live_table = heard()
    payload = encode(sample_event_message())
    live_table.take("edgepose/drone/cameras/front/events", payload, 1.2)
    assert [line.partition(",")[0] for line in new_events(live_table)] == [f"drone/front: {sample_event_message().at[11:19]} person 7 fell"]
    assert new_events(live_table) == []
    assert "person 7 fell, down within 0.6 s, lying for 0.8 s, score 0.83" in shown(live_table)


def test_a_person_who_vanishes_amid_the_frame_is_called_lost() -> None:
    live_table = heard()
    for edge_bodies in (5.2, 0.1):
        message = event_message(sample_event(kind="left", evidence={"absent_s": 3.0, "edge_bodies": edge_bodies}))
        live_table.take("edgepose/drone/cameras/front/events", encode(message), 1.2)
    at = sample_event_message().at[11:19]
    assert new_events(live_table) == [
        f"drone/front: {at} person 7 lost from sight, not seen for 3.0 s, score 0.83",
        f"drone/front: {at} person 7 left, not seen for 3.0 s, score 0.83",
    ]


def test_events_of_a_video_are_told_by_their_seconds_into_it() -> None:
    live_table = LiveTable("edgepose")
    for sequence in range(3):
        live_table.take("edgepose/drone/cameras/front/poses", poses(sequence, 1), 0.0)
    message = event_message(sample_event(at_ns=12_300_000_000))  # the frames were captured at 0
    live_table.take("edgepose/drone/cameras/front/events", encode(message), 1.2)
    assert new_events(live_table, video_time=True) == ["front: person 7 fell at 12.3 s, down within 0.6 s, lying for 0.8 s, score 0.83"]


def test_events_are_listed_newest_first_each_on_one_line_of_any_terminal() -> None:
    live_table = heard()
    for number in range(3):
        message = event_message(sample_event(at_ns=number * 1_000_000_000, track=number))
        live_table.take("edgepose/drone/cameras/front/events", encode(message), 1.2)
    for width in (40, 80, 160):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(rendered(live_table))
        lines = console.export_text().splitlines()
        listed = lines[lines.index("events, the newest first:") + 1 :]
        assert [line.partition("person ")[2][:1] for line in listed] == ["2", "1", "0"]


@pytest.mark.parametrize("kind", get_args(EventKind))
def test_every_kind_of_event_is_told_in_words(kind: EventKind) -> None:
    zone = "door" if kind.startswith("zone") else None
    line = event_line(event_message(sample_event(kind=kind, zone=zone, evidence={"edge_bodies": 0.1, "tilt_deg": 88.0})))
    assert "_" not in line
    assert "edge" not in line
    assert (zone is None) or line.endswith("zone door, score 0.83")
