"""What the commands write, and what they must leave alone."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from testing.onnx_files import write_edgepose
from testing.videos import write_video
from testing.waiting import wait_for

EDGEPOSE = [sys.executable, "-m", "edgepose"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_edgepose(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return Path(write_video(tmp_path / "v.mp4", pictures=8, index=12))


def edgepose(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EDGEPOSE, *arguments], capture_output=True, text=True, timeout=120, cwd=folder)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["infer", "v.mp4", "-o", "v.mp4"],
            "v.mp4 is the source of camera v and would be overwritten by the JSON lines; expected a different path",
        ),
        (["infer", "v.mp4", "--video", "./v.mp4"], "v.mp4 is the source of camera v and would be overwritten by the annotated video"),
        (["infer", "v.mp4", "-o", "x", "--csv", "./x"], "x would hold both the JSON lines and the CSV table; expected a different path"),
        (["run", "--set", "cameras.f.source=v.mp4", "--set", "files.jsonl=v.mp4"], "v.mp4 is the source of camera f"),
        (["check", "--set", "cameras.f.source=v.mp4", "--set", "files.jsonl=v.mp4"], "v.mp4 is the source of camera f"),
        (["demo", "demo-output/annotated.mp4"], "annotated.mp4 is the source of camera video"),
    ],
)
def test_no_command_destroys_its_input(arguments: list[str], sentence: str, model: str, video: Path, tmp_path: Path) -> None:
    (tmp_path / "demo-output").mkdir()
    (tmp_path / "demo-output" / "annotated.mp4").write_bytes(video.read_bytes())
    (tmp_path / "demo-output" / "poses.jsonl").write_text("of the last demo\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    which = ["--model", model] if arguments[0] in ("infer", "demo") else ["--set", f"model.path={model}"]
    done = edgepose(*arguments, *which, folder=tmp_path)
    assert done.returncode == 78, done.stderr
    assert sentence in done.stdout + done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "nope.mp4"],
        ["demo", "bad.png"],
        ["infer", "bad.png", "-o", "demo-output/poses.jsonl", "--video", "demo-output/annotated.mp4", "--csv", "demo-output/people.csv"],
    ],
)
@pytest.mark.parametrize("kept", [True, False], ids=["with earlier results", "without"])
def test_a_call_that_fails_leaves_earlier_results_alone(arguments: list[str], kept: bool, model: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    folder = tmp_path / "demo-output"
    folder.mkdir()
    if kept:
        for name in ("annotated.mp4", "poses.jsonl", "people.csv"):
            (folder / name).write_text("of the last time\n")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert edgepose(*arguments, "--model", model, folder=tmp_path).returncode == 66
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("place", ["/dev/stdout", "-", ">(head -n 1)"])
def test_a_reader_that_stops_early_is_no_error(place: str, model: str, video: Path, tmp_path: Path) -> None:
    # More frames than a pipe holds: a writer that does not notice that the reader has gone would block.
    command = f"{shlex.join([*EDGEPOSE, 'infer', 'pictures', '-q', '--model', model])} -o {place}"
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "0.png"), np.full((64, 64, 3), 255, np.uint8))
    for number in range(1, 200):
        os.link(tmp_path / "pictures" / "0.png", tmp_path / "pictures" / f"{number}.png")
    pipe = command if ">" in place else f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


@pytest.mark.parametrize("arguments", [["schema", "asyncapi"], ["doctor"]])
def test_a_reader_that_reads_nothing_makes_no_command_fail(arguments: list[str], tmp_path: Path) -> None:
    pipe = f"{{ sleep 0.2; {shlex.join([*EDGEPOSE, *arguments])}; echo $? >code; }} | true"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.stderr, (tmp_path / "code").read_text()) == ("", "0\n")


def test_standard_output_takes_poses_and_keeps_what_the_shell_kept(model: str, video: Path, tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_text("before\n")
    infer = shlex.join([*EDGEPOSE, "infer", "v.mp4", "-q", "--model", model, "-o"])
    subprocess.run(["bash", "-c", f"{infer} - >> all.jsonl; {infer} /dev/stdout >> all.jsonl"], timeout=120, cwd=tmp_path, check=True)
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert lines[0] == "before"
    assert [json.loads(line)["sequence"] for line in lines[1:]] == [*range(8), *range(8)]
    assert not (tmp_path / "-").exists()
    done = edgepose("infer", "v.mp4", "--model", model, "-o", "-", "--json", folder=tmp_path)
    assert (done.returncode, done.stdout) == (64, "")
    assert "--json and poses would both go to standard output" in done.stderr


def test_pictures_that_cannot_be_decoded_are_reported(model: str, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        cv2.imwrite(str(pictures / f"{number}.png"), np.full((64, 64, 3), 255, np.uint8))
    (pictures / "torn.jpg").write_bytes(b"no picture")
    command = ["infer", "pictures", "-o", "p.jsonl", "--model", model]
    done = edgepose(*command, folder=tmp_path)
    assert done.returncode == 0
    assert "torn.jpg cannot be decoded and is skipped" in done.stderr
    assert "3 frames, 1 could not be decoded, " in done.stderr
    summary = json.loads(edgepose(*command, "--json", folder=tmp_path).stdout)
    assert (summary["frames"], summary["corrupt"]) == (3, 1)


def test_work_that_is_abandoned_does_not_abort_the_process(tmp_path: Path) -> None:
    """At 4096 pixels, the shipped network takes longer than a stopping daemon waits."""
    write_video(tmp_path / "v.mp4", pictures=8, index=12)
    settings = ["cameras.f.source=v.mp4", "cameras.f.loop=true", "model.input_size=4096", "model.threads=4", "mqtt.enabled=false"]
    command = [*EDGEPOSE, "run", *(word for setting in settings for word in ("--set", setting))]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=tmp_path)
    try:
        wait_for(lambda: "streaming" in log.read_text(), within_s=30)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    finally:
        process.kill()
        process.wait(60)
    if "was abandoned" not in log.read_text():
        pytest.skip("this machine is too fast for work to be abandoned")
    assert code == 0
    assert "terminate called" not in log.read_text()
