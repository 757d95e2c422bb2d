import io

import msgspec
import numpy as np
from rich.console import Console

from edgepose.cli.board import Board
from edgepose.frame import Frame
from edgepose.output.composing import poses_message
from edgepose.output.messages import CameraStatusMessage, StatusMessage, encode
from edgepose.person import Person
from tests.output.sample import sample_event_message


def poses(sequence: int, people: int) -> bytes:
    frame = Frame(np.zeros((480, 640, 3), np.uint8), 0, "host", sequence, "front")
    box, keypoints = np.array((10, 20, 30, 120), np.float32), np.full((17, 3), 0.5, np.float32)
    return encode(poses_message(frame, [Person(box, 0.8, keypoints, track) for track in range(people)], 40_000_000))


def heard() -> Board:
    board = Board("edgepose")
    at = "2026-11-22T10:00:00.000000Z"
    board.take("edgepose/drone/status", encode(StatusMessage(state="online", reason="connected", session="1", at=at)), 0.0)
    camera = CameraStatusMessage(camera="front", state="streaming", epoch=0, at=at)
    board.take("edgepose/drone/cameras/front/status", encode(camera), 0.0)
    for sequence in range(11):
        board.take("edgepose/drone/cameras/front/poses", poses(sequence, sequence % 3), sequence * 0.1)
    return board


def test_the_board_shows_the_last_frame_and_its_rate() -> None:
    board = heard()
    assert board.lines() == ["drone/front: streaming, 1 people, 10.0 frames/s, frame 10"]
    assert (board.messages, board.most_people, len(board.tracks)) == (11, 2, 2)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(board.table())
    text = console.export_text()
    assert "drone: online" in text
    assert "drone/front: streaming" in text
    assert "1 people; frame 10, 640x480, 10.0/s, age 40 ms" in text
    assert "20, 70" in text


def test_messagepack_is_understood_and_nonsense_passed_over() -> None:
    board = heard()
    board.take("edgepose/drone/cameras/front/poses", msgspec.msgpack.encode(msgspec.json.decode(poses(11, 2))), 1.1)
    assert board.lines() == ["drone/front: streaming, 2 people, 10.0 frames/s, frame 11"]
    for payload in (b"", b"{", b"\xff\xff", b"{}"):
        board.take("edgepose/drone/cameras/front/poses", payload, 1.2)
        board.take("edgepose/drone/elsewhere", payload, 1.2)
    assert board.messages == 12


def test_events_are_shown_and_written_once() -> None:
    board = heard()
    payload = encode(sample_event_message())
    board.take("edgepose/drone/cameras/front/events", payload, 1.2)
    assert [line.partition(" (")[0] for line in board.new_events()] == [f"drone/front: {sample_event_message().at[11:19]} person 7 fallen"]
    assert board.new_events() == []
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(board.table())
    assert "person 7 fallen (0.83: down_s 0.612, lying_s 0.8, aspect 2)" in console.export_text()
