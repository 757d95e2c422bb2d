"""The core time of an idle daemon: connected to a broker, its camera paused (`make idle`).

python -m tools.measure_idle docs/performance.md VIDEO [--seconds 60]
"""

import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import click

from testing.servers.mosquitto import Mosquitto
from tools.machine import core_s, machine
from tools.write_reference import with_table

_WITHIN_S = 60.0
_SETTLING_S = 4.0


def _pause(port: int) -> None:
    """Pause the camera once the daemon answers commands; ClickException where it does not."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    replies: list[bytes] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: replies.append(bytes(message.payload))
    client.connect("127.0.0.1", port)
    client.subscribe("edgepose/idle/reply/pause", 1)
    client.loop_start()
    try:
        ends_s = time.monotonic() + _WITHIN_S
        while not any(json.loads(reply)["status"] == "ok" for reply in replies):
            if time.monotonic() > ends_s:
                raise click.ClickException(f"the daemon did not pause its camera within {_WITHIN_S:g} s: {replies[-1:]}")
            client.publish("edgepose/idle/command/pause", json.dumps({"camera": "a"}), 1)
            time.sleep(1)
    finally:
        client.loop_stop()
        client.disconnect()


@click.command()
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("video", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seconds", type=float, default=60.0)
def main(document: Path, video: Path, seconds: float) -> None:
    """Measure and write the result into DOCUMENT."""
    settings = ("device=idle", f"cameras.a.source={video.resolve()}", "cameras.a.loop=true", "commands.enabled=true", "mqtt.host=127.0.0.1")
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder)) as broker:
        command = [sys.executable, "-m", "edgepose", "run"]
        for setting in (*settings, f"mqtt.port={broker.port}", f"commands.audit={folder}/commands.jsonl"):
            command += ["--set", setting]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
            try:
                _pause(broker.port)
                time.sleep(_SETTLING_S)
                before_s, began_s = core_s(daemon.pid), time.monotonic()
                time.sleep(seconds)
                share = (core_s(daemon.pid) - before_s) / (time.monotonic() - began_s)
            finally:
                daemon.terminate()
    text = (
        f"`make idle`, {datetime.now(timezone.utc):%Y-%m-%d}, {machine()}: connected to mosquitto, the camera paused, {seconds:g} s:"
        f" {share:.2%} of a core."
    )
    click.echo(text)
    document.write_text(with_table(document.read_text(encoding="utf-8"), "idle", text), encoding="utf-8")


if __name__ == "__main__":
    main()
