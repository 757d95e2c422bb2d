"""`edgepose infer` as people use it who come from other tools: many sources, no output, names in every result, COCO, a fixed clock."""

import csv
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from edgepose.messages.structs import PosesMessage
from testing.onnx_files import write_edgepose
from testing.requirements import require
from testing.servers.mosquitto import free_port
from testing.videos import write_video
from testing.waiting import PATIENCE

EDGEPOSE = [sys.executable, "-m", "edgepose", "infer"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_edgepose(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def infer(model: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs `edgepose infer` in `tmp_path`, without a refiner."""

    def run(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        command = [*EDGEPOSE, *arguments, "--model", model, "--refine-people", "0"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, **settings)

    return run


def picture(path: Path, gray: int = 255) -> Path:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), np.full((64, 96, 3), gray, np.uint8))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Sources


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["a.png", "b.png"], ["a.png", "b.png"]),
        (["b.png", "a.png"], ["b.png", "a.png"]),
        (["*.png"], ["a.png", "b.png"]),
        (["f/frame_%04d.png"], ["f/frame_0001.png", "f/frame_0002.png", "f/frame_0010.png"]),
        (["f"], ["f/frame_0001.png", "f/frame_0002.png", "f/frame_0010.png"]),
        (["f", "a.png"], ["f/frame_0001.png", "f/frame_0002.png", "f/frame_0010.png", "a.png"]),
        (["list.txt"], ["b.png", "f/frame_0010.png"]),
        (["v.mp4", "a.png", "w.mp4"], ["v.mp4"] * 3 + ["a.png"] + ["w.mp4"] * 2),
        (["?.mp4"], ["v.mp4"] * 3 + ["w.mp4"] * 2),
    ],
)
def test_every_result_names_its_file(infer: Any, tmp_path: Path, sources: list[str], expected: list[str]) -> None:
    for name in ("a.png", "b.png", "f/frame_0001.png", "f/frame_0002.png", "f/frame_0010.png"):
        picture(tmp_path / name)
    (tmp_path / "list.txt").write_text("# mine\nb.png\n\nf/frame_0010.png\n")
    write_video(tmp_path / "v.mp4", 3, index=12)
    write_video(tmp_path / "w.mp4", 2, index=12)
    done = infer(*sources, "-o", "o.jsonl", "--csv", "o.csv")
    assert done.returncode == 0, done.stderr
    assert [line["source"] for line in lines(tmp_path / "o.jsonl")] == expected
    with (tmp_path / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    people = [(line["source"], line["sequence"]) for line in lines(tmp_path / "o.jsonl") for _ in line["people"]]
    assert [(row["source"], int(row["sequence"])) for row in rows] == people


def test_messages_on_mqtt_name_no_file() -> None:
    assert "source" not in PosesMessage.__struct_fields__


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("0", 66, "v4l2:///dev/video0"),
        ("nothing.mp4", 66, "nothing.mp4 does not exist"),
        ("*.jpg", 66, "*.jpg matches no file"),
        ("letter.txt", 66, "letter.txt is a text file, line 1 of which names no file"),
        ("text.mp4", 66, "is a text file"),
        ("empty.mp4", 66, "is empty (0 bytes)"),
    ],
)
def test_a_source_that_cannot_be_read_has_one_line(infer: Any, tmp_path: Path, source: str, code: int, words: str) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader,\n")
    (tmp_path / "text.mp4").write_text("Dear reader,\n")
    (tmp_path / "empty.mp4").touch()
    done = infer(source, "-o", "o.jsonl")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (code, "", 1), done.stderr
    assert words in done.stderr
    assert not done.stderr.startswith("edgepose: camera ")  # nobody named one
    assert not (tmp_path / "o.jsonl").exists()


def test_one_of_several_that_cannot_be_read_is_listed(infer: Any, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 2, index=12)
    (tmp_path / "b.mp4").touch()
    write_video(tmp_path / "c.mp4", 2, index=12)
    done = infer("a.mp4", "b.mp4", "c.mp4", "-o", "o.jsonl", "--json")
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    assert summary["skipped"] == {"failed": ["b.mp4"]}
    assert summary["notes"][0].startswith("b.mp4 is empty (0 bytes)")
    assert [line["source"] for line in lines(tmp_path / "o.jsonl")] == ["a.mp4"] * 2 + ["c.mp4"] * 2


def test_a_folder_lists_what_it_skips(infer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    picture(folder / "1.png")
    picture(folder / "4.png")
    (folder / "2.png").write_bytes(b"\x89PNG torn")
    (folder / "3.jpg").touch()
    (folder / "5.heic").write_bytes(b"x")
    (folder / "6.mov").write_bytes(b"x")
    (folder / "below").mkdir()
    done = infer("f", "-o", "o.jsonl")
    assert done.returncode == 0
    assert [(line["source"], line["sequence"]) for line in lines(tmp_path / "o.jsonl")] == [("f/1.png", 0), ("f/4.png", 3)]
    for words in (
        "2 could not be decoded",
        "1 in HEIC or AVIF (f/5.heic)",
        "1 videos (f/6.mov)",
        "1 folders (f/below)",
        "1 empty (f/3.jpg)",
    ):
        assert words in done.stderr
    assert "skipped: 1 damaged (f/2.png)" in done.stderr


# Outputs


def test_without_an_output_a_video_is_annotated(infer: Any, tmp_path: Path) -> None:
    write_video(tmp_path / "walk.mp4", 5, index=12)
    done = infer("walk.mp4")
    assert done.returncode == 0
    assert "5 frames" in done.stderr
    assert "written: walk.annotated.mp4" in done.stderr
    with av.open(str(tmp_path / "walk.annotated.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.frames, float(stream.duration * stream.time_base)) == (5, pytest.approx(0.5, abs=1e-3))


def test_without_an_output_pictures_are_annotated(infer: Any, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    write_video(tmp_path / "v.mp4", 2, index=12)
    assert infer("a.png", "b.png", "v.mp4").returncode == 0
    assert sorted(path.name for path in (tmp_path / "annotated").iterdir()) == ["a.jpg", "b.jpg"]
    assert (tmp_path / "v.annotated.mp4").exists()


def test_annotated_pictures_are_named_after_theirs_and_never_overwrite(infer: Any, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "sub/a.jpg"):
        picture(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*g")}
    assert infer("a.jpg", "a.png", "sub/a.jpg", "--images", ".").returncode == 0
    assert {path: path.read_bytes() for path in before} == before
    made = sorted(path.name for path in tmp_path.glob("*.jpg") if path not in before)
    assert made == ["a.annotated.jpg", "a.png.jpg", "sub-a.jpg"]
    write_video(tmp_path / "v.mp4", 2, index=12)
    assert infer("v.mp4", "--images", "frames").returncode == 0
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["v-000000.jpg", "v-000001.jpg"]


@pytest.mark.parametrize("arguments", [["--coco", "a.png"], ["-o", "a.png"], ["--coco", "r.json", "-o", "r.images.json"]])
def test_no_output_destroys_a_source_or_another_output(infer: Any, tmp_path: Path, arguments: list[str]) -> None:
    before = [picture(tmp_path / name).read_bytes() for name in ("a.png", "b.png")]
    assert infer("a.png", "b.png", *arguments).returncode == 78
    assert [(tmp_path / name).read_bytes() for name in ("a.png", "b.png")] == before


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000397133.png", "000000000139.png"], [397133, 139]),
        (["cam2_frame_10.png", "cam2_frame_2.png"], [10, 2]),
        (["a.png", "b7.png"], [1, 2]),
        (["a/1.png", "b/1.png"], [1, 2]),
    ],
)
def test_coco_results_are_what_pycocotools_reads(infer: Any, tmp_path: Path, names: list[str], ids: list[int]) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is missing: pip install pycocotools")
    for name in names:
        picture(tmp_path / name)
    assert infer(*names, "--coco", "results.json", "-o", "o.jsonl").returncode == 0
    table = json.loads((tmp_path / "results.images.json").read_text())
    assert [(image["id"], image["source"]) for image in table["images"]] == list(zip(ids, names, strict=True))
    assert {(image["width"], image["height"]) for image in table["images"]} == {(96, 64)}
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(table | {"annotations": [], "info": {}}))
    found = coco.COCO(str(truth)).loadRes(str(tmp_path / "results.json"))
    written = lines(tmp_path / "o.jsonl")
    assert len(found.anns) == sum(len(line["people"]) for line in written) > 0
    first = written[0]["people"][0]
    result = found.anns[1]
    assert (result["image_id"], result["bbox"], result["score"]) == (ids[0], first["box"], first["score"])
    assert result["keypoints"] == [value for keypoint in first["keypoints"] for value in keypoint]


@pytest.mark.parametrize("name", ["=SUM(A1).png", "+1.png", "-1.png", "@x.png", "\tx.png"])
def test_no_cell_is_a_formula(infer: Any, tmp_path: Path, name: str) -> None:
    picture(tmp_path / "p.png").rename(tmp_path / name)
    assert infer(f"./{name}" if name.startswith("-") else name, "--csv", "o.csv").returncode == 0
    with (tmp_path / "o.csv").open(newline="") as file:
        (row, *_) = csv.DictReader(file)
    for cell in (row["camera"], row["source"]):
        assert cell.startswith("'") == cell.lstrip("'").startswith(("=", "+", "-", "@", "\t"))
        assert cell.lstrip("'").rpartition(".png")[0] in ("", Path(name).stem)
    assert row["camera"] == f"'{Path(name).stem}"
    float(row["box_x"])


# The clock


@pytest.mark.parametrize("source", ["v.mp4", "f"])
def test_the_same_start_gives_the_same_bytes(infer: Any, tmp_path: Path, source: str) -> None:
    write_video(tmp_path / "v.mp4", 4, index=12)
    for number in range(3):
        picture(tmp_path / "f" / f"{number}.png")
    written = []
    for run in ("1", "2"):
        arguments = ["-o", f"{run}.jsonl", "--csv", f"{run}.csv", "--coco", f"{run}.json", "--video", f"{run}.mp4"]
        assert infer(source, "--start", "2026-11-29T12:00:00+02:00", *arguments).returncode == 0
        written.append([(tmp_path / f"{run}.{suffix}").read_bytes() for suffix in ("jsonl", "csv", "json", "mp4")])
    assert written[0] == written[1]
    first = lines(tmp_path / "1.jsonl")
    assert first[0]["captured_at"] == "2026-11-29T10:00:00.000000Z"
    assert {line["age_ms"] for line in first} == {0}


@pytest.mark.parametrize("start", ["yesterday", "2026-11-29T10:00:00", ""])
def test_a_start_without_a_zone_is_refused(infer: Any, tmp_path: Path, start: str) -> None:
    write_video(tmp_path / "v.mp4", 2)
    done = infer("v.mp4", "--start", start)
    assert done.returncode == 64
    assert "expected a time with its zone, such as 2026-11-29T10:00:00Z" in done.stderr


def test_a_rate_sets_the_clock_of_pictures(infer: Any, tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "f" / f"{number}.png")
    assert infer("f", "--rate", "2", "--start", "2026-01-01T00:00:00Z", "-o", "o.jsonl", "--video", "o.mp4").returncode == 0
    assert [line["captured_at"][17:] for line in lines(tmp_path / "o.jsonl")] == ["00.000000Z", "00.500000Z", "01.000000Z"]
    with av.open(str(tmp_path / "o.mp4")) as video:
        assert video.duration == pytest.approx(1_500_000, abs=1000)


# Shape


def test_boxes_are_in_square_pixels_and_the_message_says_what_a_pixel_is(infer: Any, tmp_path: Path) -> None:
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 255, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert infer("wide.mkv", "-o", "o.jsonl", "--video", "o.mp4").returncode == 0
    line = lines(tmp_path / "o.jsonl")[0]
    assert (line["width"], line["height"], line["pixel_aspect"]) == (192, 64, 2)
    with av.open(str(tmp_path / "o.mp4")) as video:
        context = video.streams.video[0].codec_context
        assert (context.width, context.height, context.sample_aspect_ratio or 1) == (192, 64, 1)


def test_a_picture_that_is_read_at_a_fraction_has_positions_in_the_whole(infer: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "big.jpg"), np.full((5000, 8000, 3), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "small.jpg"), np.full((2500, 4000, 3), 255, np.uint8))
    assert infer("big.jpg", "small.jpg", "-o", "o.jsonl").returncode == 0
    big, small = lines(tmp_path / "o.jsonl")
    assert (big["width"], big["height"]) == (8000, 5000)
    assert len(big["people"]) == len(small["people"]) > 0
    for one, other in zip(big["people"], small["people"], strict=True):
        assert one["box"] == pytest.approx([2 * value for value in other["box"]], abs=0.2)
        assert one["keypoints"][5][:2] == pytest.approx([2 * value for value in other["keypoints"][5][:2]], abs=0.2)


# Ends, pipes, settings


def test_a_cut_video_says_so(infer: Any, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 255, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2])
    done = infer("v.mp4", "-o", "o.jsonl", "--json")
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    assert f"{summary['frames']} of 20 frames could be read; the last" in summary["missing"]["v.mp4"]
    assert 8 <= summary["frames"] <= 10


@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_standard_input_is_a_file(infer: Any, tmp_path: Path, source: str) -> None:
    video = write_video(tmp_path / "v.ts", 30, codec="libx264")
    with video.open("rb") as file:
        done = infer(source, "-o", "o.jsonl", "-q", stdin=file)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line["sequence"] for line in lines(tmp_path / "o.jsonl")] == list(range(30))
    with subprocess.Popen(["sh", "-c", f"sleep 1; cat {video}"], stdout=subprocess.PIPE) as pipe:
        done = infer(source, "-o", "o.jsonl", "-q", stdin=pipe.stdout)
    assert (pipe.returncode, done.returncode, done.stderr) == (0, 0, "")
    assert [line["sequence"] for line in lines(tmp_path / "o.jsonl")] == list(range(30))


def test_a_stream_that_ends_after_frames_is_an_end(infer: Any, tmp_path: Path) -> None:
    require("ffmpeg")
    port = free_port()
    sender = subprocess.Popen(
        f"ffmpeg -v error -re -f lavfi -i testsrc=size=96x64:rate=20 -t 4 -c:v mpeg4 -f mpegts tcp://127.0.0.1:{port}?listen=1".split()
    )
    try:
        time.sleep(1)
        done = infer(f"tcp://127.0.0.1:{port}", "-o", "o.jsonl", "--set", f"cameras.stream.open_timeout_s={10 * PATIENCE}")
    finally:
        sender.kill()
        sender.wait(20)
    assert done.returncode == 0, done.stderr
    frames = len(lines(tmp_path / "o.jsonl"))
    assert frames > 5
    assert f"{frames} frames, " in done.stderr
    assert f"after {frames} frames" in done.stderr


def test_camera_settings_apply(infer: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("cameras: {front: {source: 'rtsps://127.0.0.1:9/a', ca_file: nothing.pem}}\n")
    done = infer("rtsps://127.0.0.1:9/b", "-o", "o", "-c", "c.yaml")
    assert done.returncode == 66
    assert "nothing.pem" in done.stderr
    done = infer("rtsps://127.0.0.1:9/b", "-o", "o", "--set", "cameras.stream.ca_file=other.pem")
    assert done.returncode == 66
    assert "other.pem" in done.stderr
    done = infer("rtsp://127.0.0.1:9/b", "-o", "o", "--set", "cameras.stream.rtsp_transport=carrier-pigeon")
    assert done.returncode == 78
    assert "rtsp_transport" in done.stderr


def test_a_terminal_sees_percent_and_time_left(model: str, tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", 400, size=(320, 256))
    master, slave = pty.openpty()
    os.environ.setdefault("TERM", "xterm")
    command = [*EDGEPOSE, "v.mp4", "--model", model, "--refine-people", "0", "-o", "o.jsonl"]
    process = subprocess.Popen(command, stderr=slave, cwd=tmp_path, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:  # the terminal's other end is closed
        pass
    finally:
        os.close(master)
    assert process.wait(60) == 0
    assert b"%" in shown
    assert b"left" in shown
