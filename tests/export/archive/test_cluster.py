"""An archive on a Ray cluster of two nodes, one of which is killed (`make archive`)."""

from pathlib import Path

import pytest

from testing.requirements import missing

if reason := missing("ray", "duckdb"):
    pytest.skip(reason, allow_module_level=True)

from testing.killed_cluster import annotate_with_a_killed_node, infer
from testing.videos import write_flights

PICTURE = Path(__file__).parents[3] / "edgepose" / "assets" / "golden.jpg"


@pytest.mark.filterwarnings("ignore")  # Ray's own, in many versions of it
def test_every_frame_is_there_once_when_a_node_is_killed(tmp_path: Path) -> None:
    clips = write_flights(tmp_path / "clips", PICTURE, 4, 12, key_frames_every=4)
    summary = annotate_with_a_killed_node(clips, tmp_path / "out", chunk_s=0.3, kill_after=1)
    assert (summary.videos, summary.frames, summary.failed) == (4, 48, {})
    for clip in clips:
        (found,) = (tmp_path / "out" / "poses").glob(f"{clip.stem}-*.jsonl")
        assert found.read_bytes() == infer(clip, tmp_path / "infer.jsonl")
