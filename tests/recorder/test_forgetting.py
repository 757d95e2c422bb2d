"""Recordings from which a span is deleted: nothing of it is left, and the rest replays."""

import os
import shutil

import pytest

from edgepose.model.file import read_model
from edgepose.recorder.forgetting import forget_recordings, remove_before
from edgepose.recorder.format import FrameRecord, records, segments_in
from edgepose.storage.span import Span
from testing.onnx_files import write_edgepose
from testing.recording import RecordingDaemon, again, recordings


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("box")
    model = read_model(write_edgepose(tmp_path_factory.mktemp("model") / "tiny.onnx"))
    daemon = RecordingDaemon(folder, model)
    for camera in ("a", "b", "a", "b"):
        daemon.run(20, camera=camera)
        daemon.box.exchange(model)  # another segment
    assert daemon.box.persist("test", wait_s=30)
    daemon.box.close()
    return folder


@pytest.fixture
def box(recorded, tmp_path):
    return shutil.copytree(recorded, tmp_path / "box")


def frames(folder):
    return [record for segment in segments_in(folder) for record in records(segment) if isinstance(record, FrameRecord)]


def test_a_span_is_deleted_and_the_rest_replays(box):
    (recording,) = recordings(box, "test")
    before = frames(recording)
    chosen = before[len(before) // 3 : len(before) // 2]
    span = Span(chosen[0].captured_at_ns, chosen[-1].captured_at_ns)
    assert forget_recordings(box, span) >= len(chosen)
    (recording,) = (place for place in box.iterdir() if place.name.endswith("-test"))
    after = frames(recording)
    assert not [frame for frame in after if span.holds(frame.captured_at_ns)]
    assert {frame.captured_at_ns for frame in before if not span.holds(frame.captured_at_ns) and not span.holds(frame.at_ns)} == {
        frame.captured_at_ns for frame in after
    }
    content = b"".join(path.read_bytes() for path in box.rglob("*") if path.is_file())
    for frame in chosen:
        assert frame.captured_at_ns.to_bytes(8, "big") not in content
    assert again(recording)


def test_one_camera_is_deleted_from_all_of_the_time(box):
    forget_recordings(box, Span(camera="a"))
    for folder in (box / "ring", *recordings(box, "test")):
        assert {frame.camera for frame in frames(folder)} == {"b"}


def test_all_is_deleted_with_its_folders(box):
    forget_recordings(box, Span())
    assert [place.name for place in box.iterdir()] == ["ring"]
    assert segments_in(box / "ring") == []


def test_what_is_old_is_removed_by_segments(box):
    (recording,) = recordings(box, "test")
    for place in (recording, box / "ring"):
        for number, segment in enumerate(segments_in(place)):
            os.utime(segment, ns=(number * 10**9,) * 2)
    count = len(segments_in(recording))
    assert remove_before(box, 1) >= 1
    assert len(segments_in(recording)) == count - 1
    remove_before(box, 10**12)
    assert not recording.exists()
