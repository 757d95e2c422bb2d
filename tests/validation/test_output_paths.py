"""Nothing that is read, and nothing that is written elsewhere, is overwritten."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from edgepose.config.reference import NamedFile, keys
from edgepose.config.schema import (
    BlackBoxConfig,
    CameraConfig,
    CommandsConfig,
    Config,
    EventsConfig,
    FilesConfig,
    ModelConfig,
    MqttConfig,
    TlsConfig,
)
from edgepose.errors import ConfigError, OutputError
from edgepose.pipeline.file_sinks import open_sinks
from edgepose.validation.output_paths import clashes, video_paths, write_error
from testing.sample import sample_frame, sample_message


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a video and a folder of pictures, and other names for them."""
    monkeypatch.chdir(tmp_path)
    Path("v.mp4").write_bytes(b"a video")
    Path("link.mp4").symlink_to("v.mp4")
    os.link("v.mp4", "twin.mp4")
    Path("pictures").mkdir()
    cv2.imwrite("pictures/1.png", np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("source", "files", "clashing"),
    [
        ("v.mp4", FilesConfig(jsonl="w.jsonl", csv="w.csv", video="w.mp4", images="w"), []),
        ("v.mp4", FilesConfig(jsonl="v.mp4"), ["files.jsonl"]),
        ("v.mp4", FilesConfig(csv="./v.mp4"), ["files.csv"]),
        ("v.mp4", FilesConfig(video="pictures/../v.mp4"), ["files.video"]),
        ("v.mp4", FilesConfig(video="link.mp4"), ["files.video"]),
        ("link.mp4", FilesConfig(video="twin.mp4"), ["files.video"]),
        ("FILE_URL", FilesConfig(video="v.mp4"), ["files.video"]),
        ("rtsp://camera/v.mp4", FilesConfig(video="v.mp4"), []),
        ("pictures", FilesConfig(images="./pictures"), ["files.images"]),
        ("pictures", FilesConfig(jsonl="pictures/1.png"), ["files.jsonl"]),
        ("pictures", FilesConfig(jsonl="pictures/poses.jsonl"), []),
        ("missing.mp4", FilesConfig(video="missing.mp4"), ["files.video"]),
        ("v.mp4", FilesConfig(jsonl="x", csv="./x"), ["files.csv"]),
        ("v.mp4", FilesConfig(jsonl="x.mp4", csv="y", video="pictures/../x.mp4"), ["files.video"]),
        ("v.mp4", FilesConfig(jsonl="-", csv="/dev/stdout"), ["files.csv"]),
        ("v.mp4", FilesConfig(jsonl=os.devnull, csv=os.devnull), []),
    ],
)
def test_what_would_be_overwritten_is_named(source: str, files: FilesConfig, clashing: list[str]) -> None:
    source = source.replace("FILE_URL", Path("v.mp4").absolute().as_uri())
    config = Config(cameras={"front": CameraConfig(source=source)}, files=files)
    found = dict(clashes(config))
    assert list(found) == clashing
    for sentence in found.values():
        assert sentence.endswith("; expected a different path for each")
    if clashing:
        with pytest.raises(ConfigError):
            open_sinks(config, overwrite=True)
    assert Path("v.mp4").read_bytes() == b"a video"


def test_the_video_of_each_camera_counts() -> None:
    cameras = {"a": CameraConfig(source="walk-b.mp4"), "b": CameraConfig(source="v.mp4")}
    config = Config(cameras=cameras, files=FilesConfig(video="walk.mp4"))
    assert video_paths(config) == {"a": Path("walk-a.mp4"), "b": Path("walk-b.mp4")}
    sentence = "walk-b.mp4 is the source of camera a and would be overwritten by the annotated video; expected a different path for each"
    assert dict(clashes(config)) == {"files.video": sentence}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"commands": CommandsConfig(enabled=True, audit="link.mp4")}, {"commands.audit": "link.mp4 is the source of camera front"}),
        ({"commands": CommandsConfig(audit="v.mp4")}, {}),
        ({"events": EventsConfig(store="secret")}, {"events.store": "secret is the password file of the broker"}),
        ({"events": EventsConfig(store="ca.crt")}, {"events.store": "ca.crt is the CA file of the broker"}),
        ({"events": EventsConfig(store="secret", enabled=False)}, {}),
        ({"files": FilesConfig(csv="./front.crt")}, {"files.csv": "front.crt is the CA file of camera front"}),
        ({"files": FilesConfig(jsonl="net.onnx")}, {"files.jsonl": "net.onnx is the model"}),
        (
            {"black_box": BlackBoxConfig(path="pictures"), "files": FilesConfig(images="pictures")},
            {"black_box.path": "pictures would hold both"},
        ),
        (
            {
                "events": EventsConfig(store="x"),
                "commands": CommandsConfig(enabled=True, audit="./x"),
                "files": FilesConfig(jsonl="pictures/../x"),
            },
            {"events.store": "x would hold both the JSON lines and", "commands.audit": "x would hold both the JSON lines and"},
        ),
    ],
)
def test_everything_that_is_read_or_written_counts(changed: dict[str, Any], found: dict[str, str]) -> None:
    for name in ("secret", "ca.crt", "front.crt", "net.onnx"):
        Path(name).write_text(name)
    mqtt = MqttConfig(username="me", password_file="secret", tls=TlsConfig(enabled=True, ca_file="ca.crt"))
    config = Config(cameras={"front": CameraConfig(source="v.mp4", ca_file="front.crt")}, mqtt=mqtt, model=ModelConfig(path="net.onnx"))
    clashing = dict(clashes(replace(config, **changed)))
    assert list(clashing) == list(found)
    assert all(clashing[key].startswith(beginning) for key, beginning in found.items())


@pytest.mark.parametrize(
    ("key", "path", "sentence"),
    [
        ("black_box.path", "v.mp4", "v.mp4 is not a folder; expected a folder or an unused name"),
        ("black_box.path", "v.mp4/box", "v.mp4/box cannot be created: "),
        ("black_box.path", "new/box", None),
        ("events.store", "pictures", "pictures is a folder; expected a file or an unused name"),
        ("events.store", "new/events.db", "the folder of new/events.db does not exist"),
        ("files.csv", "v.mp4", "v.mp4 begins with another header"),
        ("files.csv", "new.csv", None),
        ("files.jsonl", "v.mp4", None),
    ],
)
def test_an_unwritable_path_is_found_without_a_change(key: str, path: str, sentence: str | None) -> None:
    mark = next(each.file for each in keys() if each.path == key)
    assert mark is not None
    before = {file: file.read_bytes() for file in Path().rglob("*.*")}
    found = write_error(NamedFile(tuple(key.split(".")), mark, path), Path(path))
    assert found == sentence if sentence is None else found is not None and found.startswith(sentence)
    assert {file: file.read_bytes() for file in Path().rglob("*.*")} == before


def configuration() -> Config:
    camera = sample_frame().camera
    return Config(cameras={camera: CameraConfig(source="v.mp4")}, files=FilesConfig(jsonl="p.jsonl", csv="p.csv", video="p.mp4"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_without_a_frame_nothing_changes(overwrite: bool) -> None:
    for sink in open_sinks(configuration(), overwrite=overwrite):
        sink.close()
    assert not list(Path().glob("p.*"))
    for sink in open_sinks(configuration(), overwrite=True):
        sink.write(sample_frame(), [], sample_message())
        sink.close()
    before = {path: path.read_bytes() for path in Path().glob("p.*")}
    assert len(before) == 3
    for sink in open_sinks(configuration(), overwrite=overwrite):
        sink.close()
    assert {path: path.read_bytes() for path in Path().glob("p*.*")} == before


def test_an_invalid_path_leaves_no_other_files_behind() -> None:
    with pytest.raises(OutputError):
        open_sinks(Config(files=FilesConfig(jsonl="p.jsonl", csv="missing/p.csv")), overwrite=True)
    assert not Path("p.jsonl").exists()


def test_a_restart_appends_poses_and_uses_a_new_name_for_the_video() -> None:
    def run(*, overwrite: bool = False) -> None:
        for sink in open_sinks(configuration(), overwrite=overwrite):
            sink.write(sample_frame(), [], sample_message())
            sink.close()

    run()
    first = Path("p.mp4").read_bytes()
    run()
    run()
    assert Path("p.mp4").read_bytes() == first
    assert sorted(path.name for path in Path().glob("p*.mp4")) == ["p-2.mp4", "p-3.mp4", "p.mp4"]
    assert len(Path("p.jsonl").read_text().splitlines()) == 3
    run(overwrite=True)
    assert len(Path("p.jsonl").read_text().splitlines()) == 1
    assert len(list(Path().glob("p*.mp4"))) == 3
