"""Loading the configuration: precedence and error messages."""

import re
from pathlib import Path

import pytest

from edgepose.config.load import load
from edgepose.config.reference import keys
from edgepose.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_defaults_without_a_file() -> None:
    config = load(None, environment={})
    assert config.mqtt.host == "localhost"
    assert config.cameras == {}


def test_later_sources_win(tmp_path: Path) -> None:
    path = write(tmp_path, "mqtt:\n  host: from-file\n  port: 1\n  keepalive_s: 7\n")
    environment = {"EDGEPOSE__MQTT__HOST": "from-environment", "EDGEPOSE__MQTT__PORT": "2", "OTHER": "x"}
    config = load(path, ["mqtt.host=from-command-line"], environment)
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.keepalive_s) == ("from-command-line", 2, 7)


def test_text_takes_the_type_of_its_key() -> None:
    config = load(None, ["mqtt.username=12", "pose.score_threshold=0.5", "track.enabled=false", "model.input_size=320"], {})
    assert config.mqtt.username == "12"
    assert config.pose.score_threshold == 0.5
    assert config.track.enabled is False
    assert config.model.input_size == 320


def test_a_list_can_be_given_as_text() -> None:
    config = load(None, ["cameras.a.source=x", "cameras.a.zones.pad=[[0, 0], [1, 0], [1, 0.5]]"], {})
    assert config.cameras["a"].zones == {"pad": [(0, 0), (1, 0), (1, 0.5)]}
    for bad in ("[[0, 0], [1, 0]", "[[0, 0], [1, 2], [1, 1]]", "[[0, 0], [320, 0], [320, 240]]", "pad"):
        sentence = r"zones\.pad is .*; expected a list of 3 to 64 corners \[x, y\] as fractions \(0 to 1\) of the frame's"
        with pytest.raises(ConfigError, match=sentence):
            load(None, ["cameras.a.source=x", f"cameras.a.zones.pad={bad}"], {})
    with pytest.raises(
        ConfigError, match=r"events\.disabled is 'left'; expected a list in brackets such as \[arms_up\], with at most 10 entries; each"
    ):
        load(None, ["events.disabled=left"], {})
    assert load(None, ["events.disabled=[left]"], {}).events.disabled == ["left"]


def test_null_is_none_where_null_is_accepted() -> None:
    unset = ["mqtt.username=null", "files.images=null", "device=null", "events.store=null"]
    config = load(None, unset, {"EDGEPOSE__DEVICE": "drone", "EDGEPOSE__FILES__VIDEO": "null", "STATE_DIRECTORY": "/var/lib/edgepose"})
    assert (config.mqtt.username, config.files.images, config.files.video, config.device, config.events.store) == (None,) * 5
    assert load(None, ["mqtt.host=null"], {}).mqtt.host == "null"


@pytest.mark.parametrize(
    "corners",
    [
        "[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]",  # closed by hand
        "[[0, 0], [1, 0], [0.5, 0.5], [1, 1], [0, 1]]",  # not convex
        "[[0, 0], [0.5, 0], [1, 0], [1, 1], [1, 1]]",  # corners on a line, and twice
    ],
)
def test_valid_zones(corners: str) -> None:
    assert load(None, ["cameras.a.source=x", f"cameras.a.zones.pad={corners}"], {}).cameras["a"].zones


def test_cameras_can_be_named_anywhere() -> None:
    config = load(None, ["cameras.Back-2.source=b.mp4"], {"EDGEPOSE__CAMERAS__FRONT__SOURCE": "rtsp://h/s"})
    assert {name: camera.source for name, camera in config.cameras.items()} == {"front": "rtsp://h/s", "Back-2": "b.mp4"}


def test_names_of_files_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    text = """\
cameras:
  a: {source: clip.mp4}
  b: {source: "rtsp://user:word@host/stream"}
model: {path: small}
refine: {path: again.onnx}
mqtt: {username: me, password_file: secret}
files: {jsonl: /var/log/poses.jsonl}
"""
    config = load(write(tmp_path, text), environment={})
    assert config.cameras["a"].source == str(tmp_path / "clip.mp4")
    assert config.cameras["b"].source == "rtsp://user:word@host/stream"
    assert config.model.path == "small"
    assert config.refine.path == str(tmp_path / "again.onnx")
    assert config.mqtt.password_file == str(tmp_path / "secret")
    assert config.files.jsonl == "/var/log/poses.jsonl"


@pytest.mark.parametrize("text", ["", "# nothing\n", "mqtt:\ncameras:\n"])
def test_empty_sections_are_defaults(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, text), environment={}) == load(None, environment={})


REFUSED = [
    # text of the file, line that the message names, part of the message
    ("mqtt:\n  prot: 1\n", 2, "unknown key mqtt.prot; did you mean port?"),
    ("mqt: {}\n", 1, "unknown key mqt; did you mean mqtt?"),
    ("zzz: 1\n", 1, "unknown key zzz; expected one of device, cameras, model"),
    ("cameras:\n  front:\n    sorce: a\n", 3, "unknown key cameras.front.sorce; did you mean source?"),
    ("cameras:\n  front:\n    loop: true\n", 2, "cameras.front has no source"),
    ("cameras:\n  'a b': {source: x}\n", 2, "'a b' cannot be a name in cameras; expected a name of up to 64 letters"),
    ("cameras: {a: {source: x, zones: [b]}}\n", 1, "expected a section of names, each with a list of 3 to 64 corners [x, y]"),
    ("cameras: 3\n", 1, "cameras is not a section"),
    ("mqtt:\n\n  port: 70000\n", 3, "mqtt.port is 70000; expected a whole number from 0 to 65535"),
    ("mqtt:\n  port: '1883'\n", 2, "mqtt.port is '1883'; expected a whole number"),
    ("mqtt:\n  username: 12\n", 2, "mqtt.username is 12; expected text or null"),
    ("mqtt:\n  prefix: a/#\n", 2, "mqtt.prefix is 'a/#'; expected text without '+' and '#'"),
    ("mqtt:\n  encoding: xml\n", 2, "mqtt.encoding is 'xml'; expected one of compact, json, msgpack"),
    ("mqtt:\n  host: a\n  host: b\n", 3, "mqtt.host is set twice; expected once"),
    ("mqtt:\n  tls:\n    key_file: a\n", 1, "expected certificate_file and key_file"),
    ("mqtt:\n  tls:\n    ca_file: a\n", 3, "mqtt.tls.ca_file is set while mqtt.tls.enabled is false; expected mqtt.tls.enabled to be true"),
    ("mqtt:\n  tls: {certificate_file: a, key_file: b}\n", 2, "mqtt.tls.key_file is set while mqtt.tls.enabled is false"),
    ("commands:\n  enabled: true\nmqtt: {enabled: false}\n", 2, "commands.enabled is true while mqtt.enabled is false"),
    ("files:\n  jsonl: config.yaml\n", 2, "files.jsonl is the configuration file itself, which would be overwritten"),
    ("commands: {audit: ./config.yaml}\n", 1, "commands.audit is the configuration file itself"),
    ("cameras: {a: {source: x, zones: {\n z: [[0, 0], [1, 1], [1, 0], [0, 1]]}}}\n", 2, "cameras.a.zones.z has edges that cross; expected"),
    ("cameras: {a: {source: x, zones: {\n z: [[0, 0], [0.5, 0.5], [1, 1]]}}}\n", 2, "cameras.a.zones.z has no area; expected"),
    ("cameras: {a: {source: x, zones: {\n z: [[0, 0], [0, 0], [0, 0]]}}}\n", 2, "cameras.a.zones.z has no area; expected"),
    ("mqtt:\n  password_file: a\n", 2, "without mqtt.username"),
    ("mqtt:\n  poses: {rate_hz: 0.5}\n", 2, "mqtt.poses.rate_hz is 0.5; expected a number from 1 to 1000 or null"),
    ("mqtt:\n  encoding: msgpack\n  home_assistant: {enabled: true}\n", 3, "which Home Assistant cannot read; expected json or compact"),
    ("mqtt:\n  home_assistant: {enabled: true}\ntrack: {enabled: false}\n", 2, "is true while track.enabled is false"),
    ("webhook:\n  url: ftp://a/b\n", 2, "expected a URL that begins with https:// or http://, without user name and password"),
    ("webhook:\n  url: https://me:word@a/b\n", 2, "webhook.url is a URL with a password; expected a URL that begins with"),
    ("webhook:\n  url: http://alerts.example/x\n", 2, "sends events to alerts.example without encryption; expected https://"),
    ("webhook:\n  url: https://alerts.example:99999/\n", 2, "has no valid host and port"),
    ("webhook:\n  url: https://a/\nevents: {enabled: false}\n", 2, "webhook.url is set while events.enabled or track.enabled is false"),
    ("mqtt:\n  host: tcp://foo:12\n", 2, "expected a host name or address without a port"),
    ("mqtt:\n  host: tcp://me:word@foo\n", 2, "mqtt.host is a URL with a password; expected a host name"),
    ("mqtt:\n  host: foo:1883\n", 2, "mqtt.host is 'foo:1883'; expected a host name"),
    ("mqtt:\n  host: '[::1]'\n", 2, "mqtt.host is '[::1]'; expected a host name"),
    ("files:\n  video: v.avi\n", 2, "expected the path of a file that ends in .mp4"),
    ("model:\n  input_size: 100\n", 2, "expected a multiple of 32"),
    ("refine:\n  people: -1\n", 2, "refine.people is -1; expected a whole number from 0 to 1000"),
    ("health:\n  interval_s: 0\n", 2, "expected a number above 0, at most 86400"),
    ("track:\n  low_score_threshold: 0.9\n", 2, "expected at most pose.score_threshold, which is 0.3"),
    ("cameras:\n  a: {source: x, reconnect_initial_s: 9}\n", 2, "expected at most reconnect_maximum_s, which is 4"),
    ("- a\n", 1, "the configuration is not a section"),
    ("mqtt: [\n", 2, "not valid YAML"),
]


@pytest.mark.parametrize(
    "text", ["{url: 'http://127.0.0.1:8000/x'}", "{url: 'http://[::1]/'}", "{url: 'http://a/', allow_http: true}", "{url: 'https://a?b'}"]
)
def test_webhooks_go_over_https_to_this_machine_or_by_choice(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, f"webhook: {text}\n"), environment={}).webhook.url


@pytest.mark.parametrize(("text", "line", "sentence"), REFUSED, ids=[case[2][:40] for case in REFUSED])
def test_errors_name_the_line_and_what_is_accepted(tmp_path: Path, text: str, line: int, sentence: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=re.escape(sentence)) as caught:
        load(path, environment={})
    if "expected certificate_file" not in sentence:  # of two keys that only go together, the missing one has no line
        assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize("host", ["localhost", "broker.local", "192.168.1.2", "::1", "fe80::1%eth0", "bücher.example"])
def test_valid_hosts(host: str) -> None:
    assert load(None, [f"mqtt.host={host}"], {}).mqtt.host == host


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("EDGEPOSE_MQTT_HOST", "EDGEPOSE__MQTT__HOST"),
        ("EDGEPOSE_MQTT__TLS_CA_FILE", "EDGEPOSE__MQTT__TLS__CA_FILE"),
        ("EDGEPOSE_X", "two underscores before each part of a key, such as EDGEPOSE__MQTT__HOST"),
    ],
)
def test_a_misspelled_variable_is_logged(variable: str, expected: str, caplog: pytest.LogCaptureFixture) -> None:
    load(None, environment={variable: "x", "EDGEPOSE__DEVICE": "drone-7", "EDGEPOSER": "another program"})
    assert caplog.messages == [f"environment variable {variable} is not read; expected {expected}"]


def test_files_that_outlive_the_daemon_are_in_the_state_folder_of_the_service(tmp_path: Path) -> None:
    service = {"STATE_DIRECTORY": "/var/lib/edgepose:/var/lib/other"}
    config = load(write(tmp_path, "events:\n  store_limit: 5\n"), environment=service)
    assert (config.events.store, config.events.store_limit) == ("/var/lib/edgepose/events.db", 5)
    assert config.commands.audit == "/var/lib/edgepose/commands.jsonl"
    assert load(write(tmp_path, "events:\n  store: mine.db\n"), environment=service).events.store == str(tmp_path / "mine.db")
    assert load(None, environment={}).events.store is None


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    path = write(tmp_path, "mqtt:\n  prot: 1\n  port: x\n")
    with pytest.raises(ConfigError) as caught:
        load(path, ["model.threads=-1", "nonsense"], {"EDGEPOSE__LOG__LEVEL": "loud"})
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"{path}:2",
        f"{path}:3",
        "environment variable EDGEPOSE__LOG__LEVEL",
        "--set model.threads",
        "--set nonsense",
    ]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("=x", "--set =x: found no key before '='"),
        ("mqtt=1", "mqtt is a section, not a value"),
        ("mqtt.host.name=1", "mqtt.host is a value and has no keys"),
        ("cameras=1", "cameras is a section"),
        ("cameras.a.source=rtsp://u:p@h/s", "holds a password"),
        ("cameras.a.source=gst:rtspsrc location=rtsp://h/s user-id=u user-pw=p ! decodebin", "holds a password"),
        ("cameras.a.source=gst:rtspsrc location=rtsp://u:p@h/s ! decodebin", "holds a password"),
        ("cameras.a.loop=true", "cameras.a has no source"),
    ],
)
def test_invalid_settings(setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)) as caught:
        load(None, [setting], {})
    assert "u:p" not in str(caught.value)


def test_a_missing_file() -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(Path("/nowhere/config.yaml"), environment={})


def test_keys_tell_what_they_accept() -> None:
    by_path = {key.path: key for key in keys()}
    assert by_path["cameras.<name>.source"].default == "(required)"
    assert by_path["mqtt.port"].accepted == "a whole number from 0 to 65535"
    assert by_path["mqtt.tls.enabled"].default == "false"
    assert all(key.description for key in by_path.values())


def test_text_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(
        b'{log: {level: "\\uD800"}, cameras: {"\\uD800": {}, front: {source: "\\uD800"}}, events: {disabled: ["\\uD800"]}, "\\uD800": 1}'
    )
    with pytest.raises(ConfigError) as caught:
        load(path, ["device=\udcff"], {})
    assert str(caught.value).count("expected") == 6
    path.write_bytes(b'device: "\\0"\ncameras: {front: {source: "a\\0b"}}')
    with pytest.raises(ConfigError, match=r"cameras\.front\.source is of type str; expected"):
        load(path, [], {})


def test_a_section_that_may_be_absent_is_set_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("cameras: {a: {source: x, mount: {field_of_view_deg: 60, pitch_deg: -20}}, b: {source: y, mount: null}}\n")
    loaded = load(path, ["cameras.a.mount.pitch_deg=-30", "cameras.b.mount.field_of_view_deg=50"], {})
    first, second = loaded.cameras["a"].mount, loaded.cameras["b"].mount
    assert first is not None
    assert second is not None
    assert (first.field_of_view_deg, first.pitch_deg, second.field_of_view_deg) == (60, -30, 50)
    assert load(path, ["cameras.a.mount=null"], {}).cameras["a"].mount is None
    for text, says in (
        ("mount: {pich_deg: 6}", r"config.yaml:1: unknown key cameras.a.mount.pich_deg; did you mean pitch_deg\?"),
        ("mount: 5", "config.yaml:1: cameras.a.mount is not a section of keys"),
        ("mount: {intrinsics: {width: 5}}", "config.yaml:1: cameras.a.mount.intrinsics has no height; expected it beside the others"),
    ):
        path.write_text(f"cameras: {{a: {{source: x, {text}}}}}\n")
        with pytest.raises(ConfigError, match=says):
            load(path, [], {})
