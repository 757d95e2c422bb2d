"""Secrets in every place where cameras put them: none is published, logged or stored. A new place is one more line in `PLACES`."""

import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edgepose.capture.redact import describe, scrub, show
from testing.servers.daemon import running
from testing.servers.mosquitto import Mosquitto, free_port
from testing.waiting import wait_for

ROOT = Path(__file__).parents[2]

PLACES = [
    "rtsp://pilot:{}@{}/cam",
    "rtsp://{}:pilot@{}/cam",
    "rtsp://{}@{}/cam",
    "rtsp://pilot:a@{}@{}/cam",
    "rtsp://pilot:a/{}@{}/cam",
    "rtsps://pilot:{}@{}/cam",
    "rtsp://{1}/user=pilot_password={0}_channel=1_stream=0.sdp",
    "rtsp://{1}/cam/realmonitor?channel=1&jwt={0}",
    "rtsp://{1}/{0}/live",
    "rtsp://{1}/cam#{0}",
    "rtsp://{1}/cam;key={0}",
    "http://{1}/video?loginuse=pilot&loginpas={0}",
    "http://{1}/snap.jpg?X-Amz-Signature={0}&size=2",
    "https://{1}/{0}.m3u8",
    "http://{1}/moved/{0}",
    "http://{1}/denied?{0}",
    "rtmp://{1}/live/{0}",
    "tcp://{1}?{0}",
    "srt://{1}?passphrase={0}",
    "gst:souphttpsrc location=http://{1}/a cookies=\"{0}\" ! decodebin",
    "gst:rtspsrc location=rtsp://{1}/a user-pw={0} ! decodebin",
    "gst:filesrc location=/{0} ! decodebin",
    "gst:fakesrc no-such-property={0} ! identity",
    "ftp://pilot:{}@{}/cam",
    "csi://0?key={0}&of={1}",
]  # fmt: skip
"""URLs and pipelines, `{0}` is the secret and `{1}` the host with its port; `{}` are both in that order."""

SECRETS = ["Zq7secret", "Zq7%73ecret", "Zq7+se.cret", "Zq7-se_cret~", "Zq7se!cret", "Zq7se:cret", "Zq7se@cret", "Zq7se,cret$"]
"""Each begins with a mark that nothing else holds."""

MARK = "Zq7"
SOURCES = [place.format(secret, "127.0.0.1:{port}") for place in PLACES for secret in SECRETS]


class Handler(http.server.BaseHTTPRequestHandler):
    """A camera that repeats the request's secret in all that it says."""

    def do_GET(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(302, self.path)
            self.send_header("Location", f"http://pilot:{MARK}@10.99.99.99{self.path}")
        else:
            self.send_response(401 if self.path.startswith("/denied") else 404, self.path)
            self.send_header("WWW-Authenticate", f'Basic realm="{self.path}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def camera_port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_there_are_two_hundred_of_them() -> None:
    assert len(set(SOURCES)) >= 200
    assert all(MARK in source for source in SOURCES)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_shown_holds_no_secret(place: str) -> None:
    for secret in SECRETS:
        source = place.format(secret, "10.0.0.7:8554")
        texts = [show(source), describe(source)]
        if not source.startswith("gst:"):  # a pipeline has no form by which it is found in a text
            texts += [
                scrub(text.format(source, source))
                for text in ("{}", "cannot open '{}'", "[Errno 5] Input/output error: '{}'", "{}: {}, epoch 0")
            ]
        assert [text for text in texts if MARK in text] == []


def configuration(folder: Path, sources: list[str], port: int, lines: str) -> str:
    cameras = {
        f"c{number}": {"source": source.replace("{port}", str(port)), "open_timeout_s": 2, "reconnect_maximum_s": 1}
        for number, source in enumerate(sources)
    }
    return yaml.safe_dump({"device": "drone", "cameras": cameras}) + lines


def test_check_says_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(configuration(tmp_path, SOURCES, 9, "mqtt: {enabled: false}\n"))
    command = [sys.executable, "-m", "edgepose", "check", "--config", str(tmp_path / "config.yaml")]
    for options in ([], ["--json"]):
        done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT, timeout=600)
        assert done.stdout.count("camera c") == len(SOURCES)
        assert MARK not in done.stdout + done.stderr
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["camera c0"]["detail"] == "rtsp://127.0.0.1:9 (path of 1 part) (not contacted)"


@pytest.mark.needs("mosquitto")
def test_a_daemon_says_none_of_them(tmp_path: Path, camera_port: int) -> None:
    import edgepose.capture.source as capture

    runnable = [source for source in SOURCES[::3] if not source.startswith(("ftp", "csi", "srt"))]
    runnable = [source for source in runnable if capture.validation_error(source.replace("{port}", "9")) is None]
    runnable = [source for source in runnable if "no-such-property" not in source and "cookies" not in source]
    monitoring = free_port()
    lines = (
        f"black_box: {{path: {tmp_path / 'box'}}}\nmonitoring: {{enabled: true, port: {monitoring}}}\n"
        "log: {level: debug}\nhealth: {interval_s: 0.5}\n"
    )
    with Mosquitto(tmp_path) as broker:
        lines += f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
        config = configuration(tmp_path, runnable, camera_port, lines)
        with running(tmp_path, broker, config, ("-m", "edgepose"), **os.environ) as (daemon, listener):
            topics = [f"cameras/c{number}/status" for number in range(len(runnable))]
            wait_for(
                lambda: daemon.process.poll() is not None or all("cause" in (listener.on(topic) or [{}])[-1] for topic in topics),
                within_s=60,
            )
            assert daemon.process.poll() is None
            with urllib.request.urlopen(f"http://127.0.0.1:{monitoring}/metrics", timeout=30) as answer:
                metrics = answer.read().decode()
            for topic in topics:
                assert MARK not in json.dumps(listener.on(topic))
            for topic in ("info", "health", "status"):
                assert listener.on(topic)
                assert MARK not in json.dumps(listener.on(topic))
            shown = {camera["source"] for camera in listener.on("info")[-1]["cameras"]}
            assert {"rtsp://127.0.0.1", "rtsps://127.0.0.1", "http://127.0.0.1", "rtsp://***", "gst"} <= shown
            daemon.process.send_signal(10)  # SIGUSR1: a recording
            wait_for(lambda: any((tmp_path / "box").glob("*-signal")), within_s=30)
            assert daemon.terminate(within_s=15) == 0
        assert MARK not in metrics
        assert MARK not in daemon.log.read_text()
        stored = [path for path in (tmp_path / "box").rglob("*") if path.is_file()]
        assert stored
        assert [path.name for path in stored if MARK.encode() in path.read_bytes()] == []
