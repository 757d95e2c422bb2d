"""Every key that names a file is marked once, in the schema."""

import re
from typing import Annotated, Any

import pytest
from msgspec import Meta

from edgepose.config.reference import Key, _file_keys, accepted, file_mark, keys, named_files
from edgepose.config.schema import BlackBoxConfig, CameraConfig, Config, FilesConfig, MqttConfig

# Names and descriptions that only a path has.
_PATH_NAME = re.compile(r"(^|\.)(path|source|store|audit|\w*_file|\w*_folder)$|^files\.")
_PATH_DESCRIPTION = re.compile(r"\b(files?|folders?|database|certificates?|MP4)\b")


def is_text(key: Key) -> bool:
    return not re.match(r"true or false|a (whole )?number|one of|a list", key.accepted)


@pytest.mark.parametrize("key", [key for key in keys() if is_text(key)], ids=lambda key: key.path)
def test_every_key_that_looks_like_a_path_is_marked(key: Key) -> None:
    looks_like_a_path = bool(_PATH_NAME.search(key.path) or _PATH_DESCRIPTION.search(key.description))
    assert (key.file is not None) == looks_like_a_path


def test_a_start_finds_the_same_files_as_the_reference() -> None:
    assert [(".".join(path), mark) for path, mark in _file_keys()] == [(key.path, key.file) for key in keys() if key.file is not None]


def test_marks_say_what_is_read_and_what_is_written() -> None:
    roles: dict[str, list[str]] = {}
    for key in keys():
        if key.file is not None:
            roles.setdefault(key.file.role, []).append(key.path)
    assert roles == {
        "source": ["cameras.<name>.source"],
        "read": [
            "cameras.<name>.ca_file",
            "model.remote.ca_file",
            "model.remote.certificate_file",
            "model.remote.key_file",
            "flight.places_file",
            "flight.mavlink.signing_key_file",
            "mqtt.password_file",
            "mqtt.tls.ca_file",
            "mqtt.tls.certificate_file",
            "mqtt.tls.key_file",
            "webhook.secret_file",
            "webhook.ca_file",
            "encryption.key",
            "monitoring.certificate_file",
            "monitoring.key_file",
            "monitoring.token_file",
            "web.certificate_file",
            "web.key_file",
            "bundles.keys_file",
            "bundles.media_folder",
            "bundles.ca_file",
        ],
        "model": ["model.path", "model.remote.header", "model.remote.refiner_header", "refine.path"],
        "write": ["files.jsonl", "files.csv", "files.video", "events.store", "webhook.store", "commands.audit"],
        "folder": ["model.engines", "files.images", "black_box.path", "web.folder", "bundles.folder"],
    }


def test_the_files_of_a_configuration_are_found_with_their_cameras() -> None:
    config = Config(
        cameras={"a": CameraConfig(source="a.mp4", ca_file="a.crt"), "b": CameraConfig(source="b.mp4")},
        mqtt=MqttConfig(username="me", password_file="secret"),
        files=FilesConfig(csv="poses.csv"),
        black_box=BlackBoxConfig(path="box"),
    )
    found = {".".join(named.keys): (named.mark.content, named.value) for named in named_files(config)}
    assert found == {
        "cameras.a.source": ("the source of camera a", "a.mp4"),
        "cameras.a.ca_file": ("the CA file of camera a", "a.crt"),
        "cameras.b.source": ("the source of camera b", "b.mp4"),
        "model.path": ("the model", "default"),
        "refine.path": ("the refiner", "refine-n"),
        "mqtt.password_file": ("the password file of the broker", "secret"),
        "files.csv": ("the CSV table", "poses.csv"),
        "black_box.path": ("the black box", "box"),
    }


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (bool, "true or false"),
        (Annotated[int, Meta(ge=0, le=9)], "a whole number from 0 to 9"),
        (str | None, "text or null"),
    ],
)
def test_what_a_type_accepts_is_said_in_words(annotation: Any, words: str) -> None:
    assert accepted(annotation) == words
    assert file_mark(annotation) is None
