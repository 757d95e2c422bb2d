"""`edgepose watch` beside a real broker: its words when it hears nothing, and when the broker goes and comes back."""

import subprocess
import sys
from pathlib import Path

import pytest
from paho.mqtt.publish import single

from edgepose.messages.structs import CameraStatusMessage, StatusMessage, encode
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "json"])
def test_hearing_nothing_is_no_success(options: list[str], tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        command = [sys.executable, "-m", "edgepose", "watch", "--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}"]
        done = subprocess.run([*command, "--seconds", "1", *options], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 69
    assert done.stdout == ""
    assert done.stderr == (
        "edgepose: received nothing under edgepose/+ in 1 s; expected a daemon that publishes there (keys mqtt.prefix and device)\n"
    )


def test_a_device_that_has_stopped_is_not_shown_as_live(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        at = "2026-11-22T10:00:00.000000Z"
        stopped = encode(StatusMessage(state="stopped", reason="stopped on request", session="1", at=at))
        camera = encode(CameraStatusMessage(camera="front", state="streaming", epoch=0, at=at))
        for topic, payload in (("status", stopped), ("cameras/front/status", camera)):
            single(f"edgepose/drone/{topic}", payload, retain=True, hostname="127.0.0.1", port=broker.port)
        command = [sys.executable, "-m", "edgepose", "watch", "--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}"]
        done = subprocess.run([*command, "--seconds", "3"], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "drone: stopped (stopped on request)\n")


def test_topics_tell_devices_apart(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        for device in ("drone-1", "drone-2"):
            single(f"edgepose/{device}/cameras/front/poses", '{"schema":1}', retain=True, hostname="127.0.0.1", port=broker.port)
        command = [sys.executable, "-m", "edgepose", "watch", "--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}"]
        done = subprocess.run([*command, "--json", "--topics", "--seconds", "2"], capture_output=True, text=True, timeout=120, cwd=tmp_path)
        senseless = subprocess.run([*command, "--topics"], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert sorted(done.stdout.splitlines()) == [f'edgepose/drone-{n}/cameras/front/poses {{"schema":1}}' for n in (1, 2)]
    assert (senseless.returncode, senseless.stdout, senseless.stderr.count("expected --json")) == (64, "", 1)


def test_a_broker_that_goes_and_comes_back_is_spoken_of(tmp_path: Path) -> None:
    said = tmp_path / "stderr"
    with Mosquitto(tmp_path) as broker, said.open("w") as stderr:

        def publish(text: str | bytes) -> None:
            single("edgepose/drone/cameras/front/poses", text, retain=True, hostname="127.0.0.1", port=broker.port)

        publish('{"schema":1}')
        command = [sys.executable, "-m", "edgepose", "watch", "--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=tmp_path)
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == '{"schema":1}\n'
            broker.kill()
            wait_for(lambda: f"MQTT broker 127.0.0.1:{broker.port} is lost (connection closed)" in said.read_text())
            broker.start()
            wait_for(lambda: f"MQTT broker 127.0.0.1:{broker.port} is back" in said.read_text())
            publish(b"\xc1 of another program")
            publish(b"\x91" * 5000)
            publish('{"schema":2}')
            assert process.stdout.readline() == '{"schema":2}\n'
        finally:
            process.terminate()
            process.communicate(timeout=120)
    assert process.returncode == 0
    assert said.read_text().count("is lost") == said.read_text().count("is back") == 1
