"""The state folder of a daemon and a web page with all that they can store, encrypted, and a tool that decrypts it."""

import subprocess
import sys
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edgepose.encryption.encrypted_files import EncryptedFile, EncryptedFiles
from edgepose.encryption.master_keys import read_keys
from edgepose.encryption.rotation import encrypted_in

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "edgepose" / "assets" / "demo.mp4"


def edgepose(*arguments: object, code: int = 0) -> str:
    """Run a command and return its output, or its errors where another exit code is expected."""
    done = subprocess.run([sys.executable, "-m", "edgepose", *map(str, arguments)], capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


class State:
    """The state folder of one run, its configuration and its key."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder / "state"
        self.folder.mkdir()
        self.key = folder / "state.key"
        self.config = folder / "config.yaml"
        edgepose("keys", "create", self.key)
        state = self.folder
        zone = "[[0, 0], [1, 0], [1, 1], [0, 1]]"
        self.config.write_text(
            f"device: drone\ncameras: {{Entrance: {{source: '{CLIP}', loop: true, realtime: true, zones: {{all: {zone}}}}}}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {port}}}\nevents: {{enter_after_s: 0.3, zone_after_s: 0.2, store: {state}/events.db}}\n"
            f"webhook: {{url: 'http://127.0.0.1:9/', store: {state}/webhook.db}}\n"
            f"commands: {{enabled: true, audit: {state}/commands.jsonl}}\nblack_box: {{path: {state}/black-box}}\n"
            f"files: {{jsonl: {state}/poses.jsonl, csv: {state}/poses.csv, video: {state}/poses.mp4, images: {state}/images}}\n"
            f"model: {{engines: {state}/engines}}\nhealth: {{interval_s: 0.5}}\n"
            f"web: {{folder: {state}/web}}\nencryption: {{enabled: true, key: {self.key}}}\n"
        )

    @property
    def files(self) -> EncryptedFiles:
        return EncryptedFiles(read_keys(self.key))

    def shown(self) -> dict[str, Path]:
        """Return each encrypted file by its path as the program knows it."""
        masters = self.files.masters
        folders = {self.folder: "", **{self.folder / name: f"{name}/" for name in ("black-box", "images", "web", "web/live")}}
        return {f"{before}{name}": place for folder, before in folders.items() for place, name in encrypted_in(folder, masters)}

    def content(self, name: str) -> bytes:
        """Return the content of a file; every byte of it verifies."""
        with self.shown()[name].open("rb") as opened:
            file = EncryptedFile(opened.fileno(), self.files.masters, "")
            read = file.read()
            assert not file.damage, (name, file.damage)
            return read


def publish(port: int, topic: str, payload: bytes) -> None:
    """Publish one message with QoS 1."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, 1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
