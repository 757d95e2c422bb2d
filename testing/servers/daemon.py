"""The daemon as a process of its own, and a subscriber that keeps all that it publishes."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from testing.onnx_files import write_edgepose
from testing.servers.mosquitto import Mosquitto
from testing.waiting import PATIENCE

BASE = "edgepose/drone"


class Listener:
    """A subscriber that keeps all messages below a topic."""

    def __init__(self, port: int, base: str = BASE) -> None:
        self._lock = threading.Lock()
        self._base = base
        self._heard: list[tuple[str, Any]] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe(f"{base}/#", 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, client: Client, _: object, message: MQTTMessage) -> None:
        if message.topic.startswith((f"{self._base}/command/", f"{self._base}/bundle/new")):
            return
        with self._lock:
            said = json.loads(message.payload) if message.payload else None
            self._heard.append((message.topic.removeprefix(f"{self._base}/"), said))

    def on(self, topic: str) -> list[Any]:
        with self._lock:
            return [message for heard, message in self._heard if heard == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Daemon:
    """`edgepose run` with a configuration file; `program` replaces `-m edgepose`."""

    def __init__(self, folder: Path, config: str, environment: dict[str, str], program: tuple[str, ...] = ("-m", "edgepose")) -> None:
        self.config = folder / "config.yaml"
        self.config.write_text(config)
        self.log = folder / "daemon.log"
        with self.log.open("ab") as log:
            command = [sys.executable, *program, "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=Path(__file__).parents[2])

    def reload(self, config: str) -> None:
        """Write another configuration and send SIGHUP."""
        self.config.write_text(config)
        self.process.send_signal(signal.SIGHUP)

    def terminate(self, within_s: float) -> int:
        """Send SIGTERM and return the exit code; give up after `PATIENCE` times the seconds."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s * PATIENCE)


def configuration(folder: Path, broker: Mosquitto, cameras: dict[str, str], lines: str = "", mqtt: str = "") -> str:
    """Return a configuration: cameras by name and source, then more lines."""
    model = folder / "tiny.onnx"
    if not model.exists():
        write_edgepose(model)
    sources = "".join(
        f"  {name}: {{source: '{source}', read_timeout_s: 1, open_timeout_s: 2, reconnect_maximum_s: 1}}\n"
        for name, source in cameras.items()
    )
    return (
        f"device: drone\ncameras:\n{sources}model: {{path: {model}}}\nmqtt: {{host: 127.0.0.1, port: {broker.port}{mqtt}}}\n"
        + ("" if "health:" in lines else "health: {interval_s: 0.5}\n")
        + lines
    )


@contextmanager
def running(
    folder: Path, broker: Mosquitto, config: str, program: tuple[str, ...] = ("-m", "edgepose"), **environment: str
) -> Iterator[tuple[Daemon, Listener]]:
    """Run a daemon and a subscriber; print the log of the daemon where the test fails."""
    listener = Listener(broker.port)
    daemon = Daemon(folder, config, environment, program)
    try:
        yield daemon, listener
    except BaseException:
        print(daemon.log.read_text())
        raise
    finally:
        daemon.process.kill()
        daemon.process.wait(10)
        listener.close()
