"""An archive: each frame once, with the bytes of `edgepose infer`, whatever the videos are cut into."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgepose.config.schema import Config, EventsConfig
from edgepose.errors import SourceError
from testing.requirements import missing

if reason := missing("duckdb"):
    pytest.skip(reason, allow_module_level=True)

import pyarrow.parquet as pq

from edgepose_export.archive.chunks import key_frame_times
from edgepose_export.archive.run import ArchiveSummary, Progress, run_here
from edgepose_export.archive.videos import find_videos
from edgepose_export.archive.worker import AnnotateSettings, Worker
from testing.killed_cluster import START_NS, infer
from testing.videos import write_flights

PICTURE = Path(__file__).parents[3] / "edgepose" / "assets" / "golden.jpg"
FRAMES = 9
CONFIG = Config(events=EventsConfig(enter_after_s=0.3))  # within a short clip; poses do not depend on it


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_flights(tmp_path_factory.mktemp("clips"), PICTURE, 2, FRAMES, key_frames_every=3)


@pytest.fixture(scope="module")
def expected(clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return infer(clips[0], tmp_path_factory.mktemp("infer") / "poses.jsonl")


def run(sources: list[Path], output: Path, stop_after: int | None = None, **settings: object) -> tuple[ArchiveSummary, int]:
    videos, _ = find_videos([str(source) for source in sources])
    frames = 0

    def advance() -> None:
        nonlocal frames
        frames += 1

    values = AnnotateSettings(**{"config": CONFIG, "output": str(output), "start_ns": START_NS} | settings)  # type: ignore[arg-type]
    progress = Progress(lambda label, total: None, advance, lambda: stop_after is not None and frames >= stop_after)
    return run_here(videos, values.with_networks(), progress), frames


def poses_of(output: Path, clip: Path) -> bytes:
    (found,) = (output / "poses").glob(f"{clip.stem}-*.jsonl")
    return found.read_bytes()


def test_results_are_those_of_infer_and_a_second_run_reads_nothing(clips: list[Path], expected: bytes, tmp_path: Path) -> None:
    summary, frames = run([clips[0].parent], tmp_path)
    assert (summary.videos, summary.frames, frames, summary.failed) == (2, 2 * FRAMES, 2 * FRAMES, {})
    assert poses_of(tmp_path, clips[0]) == expected
    lines = [json.loads(line) for line in expected.splitlines()]
    assert [line["sequence"] for line in lines] == list(range(FRAMES))
    assert summary.people > FRAMES
    (found,) = (tmp_path / "parquet").glob(f"{clips[0].stem}-*.parquet")
    table = pq.read_table(found).to_pylist()
    assert [row["sequence"] for row in table] == list(range(FRAMES))
    assert [len(row["people"]) for row in table] == [len(line["people"]) for line in lines]
    assert table[3]["people"][0]["keypoints"][0]["x"] == pytest.approx(lines[3]["people"][0]["keypoints"][0][0])
    assert table[3]["captured_at"].isoformat()[:19] == lines[3]["captured_at"][:19]
    events = [json.loads(line) for path in (tmp_path / "events").iterdir() for line in path.read_bytes().splitlines()]
    assert len(events) == summary.events > 0
    again, frames = run([clips[0].parent], tmp_path)
    assert (again.videos, again.before, frames) == (2, 2, 0)
    other, frames = run([clips[0]], tmp_path, start_ns=START_NS + 1_000_000_000)
    assert (other.before, frames) == (0, FRAMES)


def test_a_run_that_is_stopped_leaves_whole_results_only_and_goes_on(clips: list[Path], expected: bytes, tmp_path: Path) -> None:
    summary, _ = run(clips, tmp_path, stop_after=FRAMES + 3)
    assert (summary.videos, summary.interrupted) == (1, True)
    assert [path.stem[:7] for path in (tmp_path / "poses").iterdir()] == [clips[0].stem]
    summary, frames = run(clips, tmp_path)
    assert (summary.before, summary.videos, frames) == (1, 2, FRAMES)
    assert poses_of(tmp_path, clips[0]) == expected


def test_chunks_go_through_the_network_apart_and_give_the_same_bytes(clips: list[Path], expected: bytes, tmp_path: Path) -> None:
    assert [time_ns // 100_000_000 for time_ns in key_frame_times(clips[0])] == [0, 3, 6]
    settings = AnnotateSettings(config=Config(), output=str(tmp_path), start_ns=START_NS, chunk_s=0.2).with_networks()
    (video,), _ = find_videos([str(clips[0])])
    worker = Worker(settings)
    chunks = worker.plan(video)
    assert [worker.run_chunk(chunk) for chunk in reversed(chunks)] == [3, 3, 3]
    assert worker.run_chunk(chunks[1]) == 0  # its results are there
    mark = worker.annotate(video)
    worker.close()
    assert mark is not None
    assert (mark.frames, mark.recomputed) == (FRAMES, 0)
    assert poses_of(tmp_path, clips[0]) == expected
    assert not (tmp_path / "work" / video.name).exists()


def test_a_chunk_that_is_missing_is_computed_where_it_is_needed(clips: list[Path], expected: bytes, tmp_path: Path) -> None:
    settings = AnnotateSettings(config=Config(), output=str(tmp_path), start_ns=START_NS, chunk_s=0.2).with_networks()
    (video,), _ = find_videos([str(clips[0])])
    worker = Worker(settings)
    assert worker.run_chunk(worker.plan(video)[1]) == 3
    mark = worker.annotate(video)
    worker.close()
    assert mark is not None
    assert mark.recomputed == FRAMES - 3
    assert poses_of(tmp_path, clips[0]) == expected


def test_a_video_that_cannot_be_read_is_told_and_the_others_go_on(clips: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clips[0].read_bytes()[:500])
    summary, _ = run([broken, clips[0]], tmp_path / "out")
    assert summary.videos == 1
    assert "broken.mp4" in summary.failed[str(broken)]


def test_folders_are_searched_and_what_is_no_video_is_counted(clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/one.mp4", "a/b/one.MP4", "a/notes.md", "a/still.jpg"):
        (tmp_path / name).write_bytes(b"x")
    videos, skipped = find_videos([str(tmp_path), str(tmp_path / "a" / "one.mp4")])
    assert [Path(video.source).name for video in videos] == ["one.MP4", "one.mp4"]
    assert len({video.name for video in videos}) == 2
    assert skipped == {"no_video": 2}
    with pytest.raises(SourceError, match="names no video"):
        find_videos([str(tmp_path / "a" / "still.jpg")])


def test_sources_and_results_on_an_object_store(clips: list[Path], expected: bytes, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.put_file(str(clips[0]), "/archive/2026/clip.mp4")
    videos, _ = find_videos(["memory:///archive"])
    values = AnnotateSettings(config=Config(), output="memory:///results", start_ns=START_NS).with_networks()
    summary = run_here(videos, values, Progress(lambda label, total: None, lambda: None, lambda: False))
    assert (summary.videos, summary.failed) == (1, {})
    (name,) = store.ls("/results/poses", detail=False)
    lines = store.cat_file(name)
    assert lines == expected.replace(b'"clip-00"', b'"clip"').replace(str(clips[0]).encode(), b"memory:///archive/2026/clip.mp4")


def test_the_manifest_of_the_page_lets_nobody_else_in() -> None:
    page = (Path(__file__).parents[3] / "docs" / "archives.md").read_text(encoding="utf-8")
    cluster, policy = yaml.safe_load_all(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    assert (cluster["kind"], policy["kind"]) == ("RayCluster", "NetworkPolicy")
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        assert group["template"]["metadata"]["labels"] == chosen
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["include-dashboard"] == "false"
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {"matchLabels": chosen}}]}]


def test_it_needs_no_torch_and_no_ray() -> None:
    names = "edgepose_export.cli.annotate, edgepose_export.archive.run, edgepose_export.archive.worker"
    code = f"import sys, {names}; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False False\n", done.stderr
