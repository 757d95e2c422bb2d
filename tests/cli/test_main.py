"""The program as a user meets it: exit codes, one-line errors, machine-readable answers."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edgepose.cli.main import COMMANDS
from testing.onnx_files import write_edgepose, write_refiner
from testing.waiting import wait_for

ASSETS = Path(__file__).parents[2] / "edgepose" / "assets"


def edgepose(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgepose", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_edgepose(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refiner(tmp_path_factory.mktemp("refiner") / "again.onnx")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve white frames: the tiny model sees six people in each."""
    path = tmp_path_factory.mktemp("video") / "white.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 256, "yuv420p"
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((256, 320, 3), 255, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nonsense"], 64, "No such command 'nonsense'"),
        (["infer"], 64, "Missing argument 'SOURCE...'"),
        (["infer", "x.mp4"], 66, "x.mp4 does not exist"),
        (["infer", "x.mp4", "-o", "x.jsonl", "--model", "MODEL"], 66, "x.mp4 does not exist"),
        (["infer", "", "-o", "x.jsonl"], 64, "SOURCE is empty; expected a video file"),
        (["infer", "rtsp://", "-o", "x.jsonl", "--model", "MODEL"], 66, "rtsp:// names no host; expected a URL such as rtsp://"),
        (["infer", "rtsp://h:99999/x", "-o", "x.jsonl", "--model", "MODEL"], 66, "expected a port from 1 to 65535"),
        (["infer", "x.mp4", "--video", "x.avi"], 64, "--video is x.avi; expected the name of a file that ends in .mp4"),
        (["infer", "x.mp4", "-o", "x.jsonl", "--set", "files.csv=a"], 64, "--set files.csv has no effect here; expected SOURCE"),
        (["infer", "x.mp4", "-o", "x.jsonl", "--set", "cameras.a.source=b"], 64, "--set cameras.a.source has no effect here"),
        (["infer", "VIDEO", "-o", "/nowhere/x.jsonl", "--model", "MODEL"], 74, "/nowhere/x.jsonl"),
        (["infer", "VIDEO", "-o", "x.jsonl", "--model", "nosuchmodel"], 78, "nosuchmodel"),
        (["infer", "VIDEO", "-o", "x.jsonl", "--model", "REFINER"], 78, "again.onnx is a refiner (task 'refine'); expected a pose"),
        (["infer", "VIDEO", "-o", "x.jsonl", "--model", "MODEL", "--refiner", "MODEL"], 78, "tiny.onnx is a pose network (task 'pose')"),
        (["run", "--set", "mqtt.prot=1"], 78, "did you mean port?"),
        (["run"], 78, "no cameras are configured"),
        (["run", "--config", "nosuchfile.yaml"], 78, "No such file"),
        (["check", "--set", "cameras.a.source=rtsp://"], 78, "rtsp:// names no host"),
        (["check", "--set", "cameras.a.source=rtsp://h:99999/x"], 78, "expected a port from 1 to 65535"),
        (["check", "--set", "mqtt.tls.ca_file=a"], 78, "mqtt.tls.ca_file is set while mqtt.tls.enabled is false"),
        (["run", "--set", "mqtt.tls.ca_file=a"], 78, "mqtt.tls.ca_file is set while mqtt.tls.enabled is false"),
        (["watch", "--device", "a/b#"], 64, "--device is 'a/b#'; expected a name of up to 64 letters"),
        (["watch", "--set", "mqtt.port=1"], 74, "127.0.0.1:1: unreachable: connection refused"),
        (["demo", "x.mp4", "--model", "MODEL"], 66, "x.mp4 does not exist"),
        (["schema", "nonsense"], 64, "'nonsense' is not one of"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    arguments: list[str], code: int, sentence: str, model: Path, refiner: Path, video: Path, tmp_path: Path
) -> None:
    places = {"MODEL": str(model), "REFINER": str(refiner), "VIDEO": str(video)}
    extra = ["--set", "mqtt.host=127.0.0.1"] if arguments[0] in ("run", "watch") else []
    done = edgepose(*(places.get(each, each) for each in arguments), *extra, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, tmp_path: Path) -> None:
    done = edgepose(command, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert f"Example: edgepose {command}" in done.stdout


def test_infer_writes_a_message_for_every_frame(model: Path, video: Path, tmp_path: Path) -> None:
    (tmp_path / "poses.jsonl").write_text("left over\n")
    outputs = ["-o", "poses.jsonl", "--csv", "people.csv", "--video", "video.mp4", "--images", "pictures"]
    done = edgepose("infer", video, "--model", model, "--refine-people", "0", *outputs, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    messages = [json.loads(line) for line in (tmp_path / "poses.jsonl").read_text().splitlines()]
    assert [message["sequence"] for message in messages] == list(range(12))
    assert summary["frames"] == 12
    assert summary["people"] == sum(len(message["people"]) for message in messages) > 12
    assert all("track" in person for person in messages[-1]["people"])
    assert len((tmp_path / "people.csv").read_text().splitlines()) == summary["people"] + 1
    assert len(list((tmp_path / "pictures").iterdir())) == 12
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


@pytest.mark.parametrize(
    ("options", "refined"),
    [(["--refine-people", "2"], 24), (["--refine-people", "0"], None), (["--no-track"], 12 * 6)],
    ids=["two a frame", "off", "everybody, without tracking"],
)
def test_infer_refines(model: Path, refiner: Path, video: Path, tmp_path: Path, options: list[str], refined: int | None) -> None:
    done = edgepose("infer", video, "--model", model, "-o", "poses.jsonl", "--refiner", refiner, *options, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "poses.jsonl").read_text().splitlines()) == 12
    summary = json.loads(done.stdout)
    assert summary.get("refined") == refined
    assert summary.get("refiner") == (None if refined is None else "again.onnx")


def test_infer_without_tracking(model: Path, video: Path, tmp_path: Path) -> None:
    done = edgepose("infer", video, "--model", model, "-o", "poses.jsonl", "--no-track", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in (tmp_path / "poses.jsonl").read_text().splitlines():
        assert not any("track" in person for person in json.loads(line)["people"])


def test_run_ends_by_itself_with_its_files(model: Path, video: Path, tmp_path: Path) -> None:
    cameras = f"cameras: {{a: {{source: {video}}}, b: {{source: {video}}}}}\n"
    rest = f"model: {{path: {model}}}\nmqtt: {{enabled: false}}\nfiles: {{jsonl: poses.jsonl}}\n"
    (tmp_path / "config.yaml").write_text(cameras + rest)
    done = edgepose("run", "--config", "config.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ended: all sources have ended" in done.stderr
    messages = [json.loads(line) for line in (tmp_path / "poses.jsonl").read_text().splitlines()]
    for camera in ("a", "b"):
        assert [message["sequence"] for message in messages if message["camera"] == camera] == list(range(12))


@pytest.mark.needs("amqtt")
def test_demo_needs_nothing_but_a_video(model: Path, video: Path, tmp_path: Path) -> None:
    done = edgepose("demo", video, "--model", model, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 frames in" in done.stdout
    # On the topic the newest message wins, so of a burst of twelve some may be missing; in the file none is.
    messages = re.search(r"(\d+) messages over MQTT", done.stdout)
    assert messages is not None
    assert int(messages[1]) > 0
    assert len((tmp_path / "demo-output" / "poses.jsonl").read_text().splitlines()) == 12
    with av.open(str(tmp_path / "demo-output" / "annotated.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


@pytest.mark.needs("amqtt")
@pytest.mark.skipif((ASSETS / "demo.mp4").exists(), reason="this package has a video of its own")
def test_demo_without_a_video_says_what_to_do(model: Path, tmp_path: Path) -> None:
    done = edgepose("demo", "--model", model, folder=tmp_path)
    assert done.returncode == 64
    assert "expected one as SOURCE" in done.stderr


def test_check_looks_at_all_that_is_named(model: Path, video: Path, tmp_path: Path) -> None:
    good = ["--set", f"model.path={model}", "--set", f"cameras.a.source={video}"]
    assert edgepose("check", *good, folder=tmp_path).returncode == 0
    bad = [
        "--set",
        "mqtt.username=u",
        "--set",
        "mqtt.password_file=absent",
        "--set",
        "files.csv=/nowhere/a.csv",
        "--set",
        "cameras.b.source=c.mp4",
    ]
    done = edgepose("check", *good, *bad, "--json", folder=tmp_path)
    assert done.returncode == 66
    found = {each["what"]: each["good"] for each in json.loads(done.stdout)["findings"]}
    assert found == {"model": True, "refiner": True, "camera a": True, "camera b": False, "mqtt": False, "files.csv": False}


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (["cameras.a.source=absent.mp4"], 66, "absent.mp4 does not exist; expected a video file"),
        (["cameras.a.source=rtsp:///x"], 78, "names no host"),
        (["black_box.path=box"], 74, "box"),
        (["files.csv=table.csv"], 74, "begins with another header"),
        (
            ["commands.enabled=true", "commands.audit=video.mp4"],
            78,
            "video.mp4 is the source of camera a and would be overwritten by the command log",
        ),
        (["events.store=secret"], 78, "secret is the password file of the broker and would be overwritten by the event store"),
        (["files.jsonl=config.yaml"], 78, "files.jsonl is the configuration file itself"),
    ],
)
def test_check_refuses_what_run_refuses(settings: list[str], code: int, said: str, model: Path, video: Path, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(video.read_bytes())
    for name in ("box", "table.csv", "secret"):
        (tmp_path / name).write_text("mine\n")
    mqtt = "mqtt: {host: 127.0.0.1, port: 1, username: me, password_file: secret}\n"
    (tmp_path / "config.yaml").write_text(f"cameras: {{a: {{source: video.mp4}}}}\nmodel: {{path: {model}}}\n{mqtt}")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    options = [option for setting in settings for option in ("--set", setting)]
    for command in ("check", "run"):
        done = edgepose(command, "--config", "config.yaml", *options, folder=tmp_path)
        assert done.returncode == code, done.stderr
        assert said in done.stdout + done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_device_that_is_not_there_yet_is_a_note(model: Path, tmp_path: Path) -> None:
    settings = ["--set", f"model.path={model}", "--set", "cameras.a.source=v4l2:///dev/video99", "--set", "mqtt.enabled=false"]
    done = edgepose("check", *settings, folder=tmp_path)
    if "apt-get install" in done.stdout:
        pytest.skip("there is no GStreamer here")
    assert done.returncode == 0
    assert re.search(r"^note +camera a .*does not exist; .*the daemon starts without it and tries again$", done.stdout, re.M)


def test_infer_does_not_write_over_its_configuration(model: Path, video: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"model: {{path: {model}}}\n")
    done = edgepose("infer", video, "--config", "config.yaml", "-o", "config.yaml", folder=tmp_path)
    assert done.returncode == 78
    assert (tmp_path / "config.yaml").read_text() == f"model: {{path: {model}}}\n"


def test_check_and_doctor_look_at_the_refiner_where_there_is_one(model: Path, refiner: Path, video: Path, tmp_path: Path) -> None:
    good = ["--set", f"model.path={model}", "--set", f"cameras.a.source={video}", "--set", "mqtt.enabled=false"]
    on: list[str | Path] = ["--set", f"refine.path={refiner}", "--set", "refine.people=4", "--set", "refine.budget_ms=20"]
    done = edgepose("check", *good, *on, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^ok +refiner .*again.onnx \(int8, 64x64 px, sha256 \w{12}\), up to 4 people per frame, within 20 ms$", done.stdout, re.M
    )
    done = edgepose("doctor", *good, *on, folder=tmp_path)
    assert re.search(r"^ok +refine +onnxruntime-cpu on cpu, .*, int8, \d+\.\d ms per person: ", done.stdout, re.M)
    for command in ("check", "doctor"):
        done = edgepose(command, *good, *on, "--set", "refine.path=default", folder=tmp_path)
        assert done.returncode == 78
        assert re.search(r"^FAIL +refiner .*expected a refiner", done.stdout, re.M)


def test_doctor_gives_a_hint_for_what_fails(model: Path, tmp_path: Path) -> None:
    done = edgepose(
        "doctor", "--set", f"model.path={model}", "--set", "mqtt.host=127.0.0.1", "--set", "mqtt.port=1", "--json", folder=tmp_path
    )
    found = {each["what"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 74
    assert [what for what, each in found.items() if not each["good"]] == ["broker"]
    assert "expected a broker there" in found["broker"]["detail"]
    assert "mqtt" not in found  # one finding for the broker
    assert found["engine"]["detail"].startswith("onnxruntime-cpu")


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_a_refused_configuration_is_json_too(command: str, tmp_path: Path) -> None:
    done = edgepose(command, "--set", "mqtt.prot=1", "--set", "mqtt.port=x", "--json", folder=tmp_path)
    assert done.returncode == 78
    answer = json.loads(done.stdout)
    assert answer["good"] is False
    assert [(each["what"], each["good"], each["exit_code"]) for each in answer["findings"]] == [("configuration", False, 78)] * 2
    assert "did you mean port?" in answer["findings"][0]["detail"]


def test_infer_that_is_interrupted_says_what_the_files_hold(model: Path, tmp_path: Path) -> None:
    endless = tmp_path / "pictures"
    endless.mkdir()
    for number in range(1000):
        cv2.imwrite(str(endless / f"{number}.png"), np.full((256, 320, 3), 255, np.uint8))
    poses = tmp_path / "poses.jsonl"
    command = [sys.executable, "-m", "edgepose", "infer", str(endless), "--model", str(model), "-o", str(poses)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    wait_for(lambda: poses.exists() and poses.read_text().count("\n") >= 2, within_s=20)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert f"interrupted: the files hold {poses.read_text().count(chr(10))} frames" in said


def test_bench_measures_says_who_was_refined_and_compares(model: Path, refiner: Path, video: Path, tmp_path: Path) -> None:
    short: list[str | Path] = ["--model", model, "--rounds", "1", "--seconds", "0.1", "--json"]
    off = ["--cameras", "2", "--set", "refine.people=0", "--set", "tiles.enabled=false"]
    done = edgepose("bench", video, *short, *off, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) >= {"engine_fps", "daemon_fps", "ratio", "first_pose_s", "peak_rss_mb", "stages"}
    assert min(result[name] for name in ("engine_fps", "pipeline_fps", "daemon_fps", "first_pose_s", "outside_ms")) > 0
    assert result["peak_rss_mb"] > 20
    assert set(result["stages"]) == {"slot", "letterbox", "engine", "decode", "track", "events", "publish"}
    assert set(result["core_ms"]) == {"letterbox", "engine", "decode", "track", "events", "publish", "decoding", "capture"}
    assert result["core_ms"]["capture"] > 0
    assert (result["cameras"], result["live"]["cameras"], result["refine"], len(result["rounds"])) == (2, 2, None, 1)
    assert result["live"]["age"]["p50_ms"] > 0
    assert result["default"]["refine"] is None

    (tmp_path / "old.json").write_text(done.stdout)
    on: list[str | Path] = ["--set", f"refine.path={refiner}", "--set", "refine.people=3", "--compare", tmp_path / "old.json"]
    done = edgepose("bench", video, *short, *on, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["refine"] is None
    row = result["default"]
    assert set(row["stages"]) >= {"slot", "letterbox", "engine", "decode", "motion", "track", "refine", "events", "publish"}
    refine = row["refine"]
    assert (refine["refiner"], refine["people"], refine["budget_ms"], refine["people_per_frame"]) == ("again.onnx", 3, 0, 3)
    assert refine["cost_ms"] > 0
    assert done.stderr.count("no change to tell") == 6  # of one round, nothing can be told


def test_bench_refuses_to_compare_with_something_else(video: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    done = edgepose("bench", video, "--compare", tmp_path / "bad.json", folder=tmp_path)
    assert done.returncode == 78
    assert "bad.json is no result of a benchmark" in done.stderr


@pytest.mark.parametrize("document", ["config", "asyncapi", "poses", "status", "info", "health", "camera-status"])
def test_schema_prints_json(document: str, tmp_path: Path) -> None:
    done = edgepose("schema", document, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_ctrl_c_ends_a_stream_with_complete_files(model: Path, tmp_path: Path) -> None:
    from testing.servers.rtsp import RtspServer

    poses = tmp_path / "poses.jsonl"
    with RtspServer(tmp_path) as server:
        command = [
            sys.executable,
            "-m",
            "edgepose",
            "infer",
            server.url(),
            "--model",
            str(model),
            "-o",
            str(poses),
            "--video",
            "video.mp4",
            "--json",
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        wait_for(lambda: poses.exists() and poses.read_text().count("\n") >= 5, within_s=20)
        process.send_signal(signal.SIGINT)
        summary = json.loads(process.communicate(timeout=120)[0])
    assert process.returncode == 0
    assert summary["frames"] == poses.read_text().count("\n")
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == summary["frames"]
