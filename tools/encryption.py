"""What encryption costs, and what 100 kills during a rotation of the key lose (`make encryption`); writes docs/privacy.md."""

import json
import logging
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from edgepose.encryption.encrypted_files import EncryptedFile, EncryptedFiles
from edgepose.encryption.master_keys import MasterKey, read_keys, write_keys
from edgepose.encryption.rotation import encrypted_in
from testing.servers.daemon import Listener
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for
from tools.machine import machine
from tools.write_reference import with_table

_ROOT = Path(__file__).parents[1]
_CLIP = _ROOT / "edgepose" / "assets" / "demo.mp4"


_METERED = """
import json, os, sys, time
from edgepose.encryption import encrypted_files as files
spent_s, began_s, depth = 0.0, None, 0

def metered(owner, name):
    inner = getattr(owner, name)
    def call(*arguments, **named):
        global spent_s, began_s, depth
        before_s, outermost = time.thread_time(), depth == 0
        depth += 1
        try:
            return inner(*arguments, **named)
        finally:
            depth -= 1
            if outermost and began_s is not None:
                spent_s += time.thread_time() - before_s
            if name == "append" and began_s is None:
                began_s = time.process_time()
    setattr(owner, name, call)

for owner, names in ((files.EncryptedFile, ("append", "read", "close")), (files.EncryptedFiles, ("place", "open", "names", "load"))):
    for name in names:
        metered(owner, name)
from edgepose.cli.main import run
run(sys.argv[1:])
print(json.dumps([spent_s, time.process_time() - began_s]), flush=True)
os._exit(0)
"""
"""A daemon that counts the core time of all work with encrypted files, the system's calls included, and all of its core time."""


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--kills", default=100, show_default=True)
@click.option("--frames", default=150, show_default=True, help="Frames that the cost is measured over.")
def main(page: Path, kills: int, frames: int) -> None:
    """Measure both, and write the results into PAGE."""
    logging.disable(logging.CRITICAL)  # files that do not verify under the first key are what is looked for
    spent_ms, all_ms = _core_ms_of_frame(frames)
    cost = (
        f"- **Cost.** Default networks, with JSON lines, CSV, event store, audit and black box: {spent_ms:.2f} ms of {all_ms:.1f} ms of"
        f" a core for a frame go into encrypted files, writing to the disk included: at least {1 - spent_ms / all_ms:.3f} of the frames"
        " stay."
    )
    click.echo(cost)
    killed = f"- **Rotation.** {_kill_rotations(kills)}"
    click.echo(killed)
    lines = (f"{machine()}, beside other work; `make encryption` repeats it.", "", cost, killed)
    page.write_text(with_table(page.read_text(), "encryption", "\n".join(lines)))


def _kill_rotations(kills: int) -> str:
    """Kill a rotation many times, read everything after each kill, and return a sentence about it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "state"
        folder.mkdir()
        key = Path(name) / "state.key"
        write_keys(key, [MasterKey.new()], new=True)
        first = key.read_bytes()
        files = EncryptedFiles(read_keys(key))
        contents = {}
        files.place(folder / "ring").mkdir()
        for number in range(120):
            path = folder / ("ring" if number % 2 else ".") / f"{number}.segment"
            contents[path.relative_to(folder).as_posix()] = content = random.Random(number).randbytes(2000 * (1 + number % 40))
            for half in (content[:1000], content[1000:]):
                file = files.open(path, "test")
                file.append(half)
                file.close()
        command = [sys.executable, "-m", "edgepose", "keys", "rotate"]
        settings = {"encryption.enabled": "true", "encryption.key": key, "events.store": folder / "none", "web.folder": Path(name) / "web"}
        command += [part for setting, value in settings.items() for part in ("--set", f"{setting}={value}")]
        began_s = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, cwd=_ROOT)
        whole_s = time.monotonic() - began_s
        inside = 0
        for attempt in range(kills):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=_ROOT)
            time.sleep(whole_s * random.Random(attempt).uniform(0.2, 1.0))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            masters = read_keys(key)
            inside += len(masters) == 2
            assert _contents(folder, masters) == contents, f"kill {attempt} lost something"
        subprocess.run(command, check=True, capture_output=True, cwd=_ROOT)
        assert _contents(folder, read_keys(key)) == contents
        old = Path(name) / "old.key"
        old.write_bytes(first)
        old.chmod(0o600)
        assert not any(True for _ in encrypted_in(folder, read_keys(old)))
        for place in folder.rglob("*"):
            if place.is_file() and place.stat().st_size:
                with place.open("rb") as opened:
                    file = EncryptedFile(opened.fileno(), read_keys(old), "")
                    assert not file.read().strip(b"\0")
        return (
            f"{kills} runs of `edgepose keys rotate` over {len(contents)} files were killed, {inside} of them between the two keys:"
            " after each, every byte was read; at the end, the first key opens no file and no name."
        )


def _contents(folder: Path, masters: list[MasterKey]) -> dict[str, bytes]:
    found = {}
    for place, name in encrypted_in(folder, masters):
        with place.open("rb") as opened:
            file = EncryptedFile(opened.fileno(), masters, "")
            found[name] = file.read()
            assert not file.damage, (name, file.damage)
    return found


def _core_ms_of_frame(frames: int) -> tuple[float, float]:
    """Return the core time of a frame that goes into encrypted files, and all of it, once the daemon runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state, key = folder / "state", folder / "state.key"
        state.mkdir()
        write_keys(key, [MasterKey.new()], new=True)
        with Mosquitto(folder) as broker:
            config = folder / "config.yaml"
            config.write_text(
                f"device: drone\ncameras: {{front: {{source: '{_CLIP}', loop: true}}}}\nmqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
                f"model: {{threads: 1}}\nevents: {{store: {state}/events.db}}\n"
                f"commands: {{enabled: true, audit: {state}/commands.jsonl}}\nblack_box: {{path: {state}/black-box}}\n"
                f"files: {{jsonl: {state}/poses.jsonl, csv: {state}/poses.csv}}\nweb: {{folder: {state}/web}}\n"
                f"encryption: {{enabled: true, key: {key}}}\n"
            )
            heard = Listener(broker.port)
            with (folder / "log").open("wb") as log:
                command = [sys.executable, "-c", _METERED, "run", "-c", str(config)]
                daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=_ROOT)
            try:

                def is_done() -> bool:
                    assert daemon.poll() is None, (folder / "log").read_text()
                    poses = heard.on("cameras/front/poses")
                    return bool(poses) and int(poses[-1]["sequence"]) >= frames

                wait_for(is_done, within_s=300, every_s=0.2)
                daemon.send_signal(signal.SIGTERM)
                said, _ = daemon.communicate(timeout=120)
                last = int(heard.on("cameras/front/poses")[-1]["sequence"])
            finally:
                heard.close()
                daemon.kill()
                daemon.wait()
    spent_s, all_s = json.loads(said.splitlines()[-1])
    return 1000 * spent_s / last, 1000 * all_s / last


if __name__ == "__main__":
    main()
