"""What encryption costs, and what 100 kills during a rotation of the key lose (`make encryption`); writes docs/privacy.md."""

import json
import logging
import os
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
from tools.pairs import core_s, words
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
@click.option("--pairs", default=40, show_default=True, help="Turns of each daemon.")
@click.option("--frames", default=24, show_default=True, help="Frames of a turn.")
@click.option("--limit-s", default=180.0, show_default=True, help="Longest time for all turns.")
def main(page: Path, kills: int, pairs: int, frames: int, limit_s: float) -> None:
    """Measure both, and write the results into PAGE."""
    load = os.getloadavg()[0]
    logging.disable(logging.CRITICAL)  # files that do not verify under the first key are what is looked for
    cost = _cost(pairs, frames, limit_s)
    click.echo(cost)
    killed = f"- **Rotation.** {_kill_rotations(kills)}"
    click.echo(killed)
    lines = (f"{machine()}, load {load:.1f} at the start; `make encryption` repeats it.", "", cost, killed)
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


class _Daemon:
    """A daemon that stores all it can, stopped except in its turns.

    Args:
        folder: of its files.
        broker: port of a broker that counts its frames.
        key: of its files; None for clear ones.
    """

    def __init__(self, folder: Path, broker: int, key: Path | None) -> None:
        folder.mkdir()
        device = "clear" if key is None else "encrypted"
        config = folder / "config.yaml"
        config.write_text(
            f"device: {device}\ncameras: {{front: {{source: '{_CLIP}', loop: true}}}}\nmqtt: {{host: 127.0.0.1, port: {broker}}}\n"
            f"model: {{threads: 1}}\nevents: {{store: {folder}/events.db}}\n"
            f"commands: {{enabled: true, audit: {folder}/commands.jsonl}}\nblack_box: {{path: {folder}/black-box}}\n"
            f"files: {{jsonl: {folder}/poses.jsonl, csv: {folder}/poses.csv}}\nweb: {{folder: {folder}/web}}\n"
            f"encryption: {{enabled: {str(key is not None).lower()}, key: {key or 'null'}}}\n"
        )
        self._log = folder / "log"
        self._heard = Listener(broker, f"edgepose/{device}")
        program = ["-m", "edgepose"] if key is None else ["-c", _METERED]
        with self._log.open("wb") as log:
            command = [sys.executable, *program, "run", "-c", str(config)]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=_ROOT)

    def frames(self) -> int:
        """Return how many frames it has published."""
        assert self.process.poll() is None, self._log.read_text()
        return len(self._heard.on("cameras/front/poses"))

    def turn(self, frames: int) -> tuple[float, float]:
        """Let it find people in some frames, and return the time and the core time that they took, seconds."""
        until = self.frames() + frames
        self.process.send_signal(signal.SIGCONT)
        began_s, before_s = time.monotonic(), core_s(self.process.pid)
        wait_for(lambda: self.frames() >= until, within_s=120, every_s=0.01)
        took_s, spent_s = time.monotonic() - began_s, core_s(self.process.pid) - before_s
        self.process.send_signal(signal.SIGSTOP)
        return took_s, spent_s

    def end(self) -> str:
        """End it and return what it has said."""
        try:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            return str(self.process.communicate(timeout=120)[0])
        finally:
            self._heard.close()
            self.process.kill()
            self.process.wait()


def _cost(pairs: int, frames: int, limit_s: float) -> str:
    """Return a sentence about a daemon with and one without encryption, in turns over the same frames of a clip."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = folder / "state.key"
        write_keys(key, [MasterKey.new()], new=True)
        with Mosquitto(folder) as broker:
            daemons = [_Daemon(folder / "clear", broker.port, None)]
            try:
                daemons.append(_Daemon(folder / "encrypted", broker.port, key))
                for daemon in daemons:
                    wait_for(lambda daemon=daemon: daemon.frames() >= 1, within_s=120)  # type: ignore[misc]
                    daemon.process.send_signal(signal.SIGSTOP)
                for daemon in daemons:
                    daemon.turn(frames - daemon.frames() % frames)  # both at the same place of the clip, warm
                rates: list[float] = []
                cores: list[float] = []
                until_s = time.monotonic() + limit_s
                while len(rates) < pairs and (time.monotonic() < until_s or len(rates) < 2):
                    order = daemons if len(rates) % 2 else daemons[::-1]
                    turns = {id(daemon): daemon.turn(frames) for daemon in order}
                    (clear_s, clear_core_s), (encrypted_s, encrypted_core_s) = (turns[id(daemon)] for daemon in daemons)
                    rates.append(clear_s / encrypted_s)
                    cores.append(encrypted_core_s / clear_core_s)
            finally:
                said = [daemon.end() for daemon in daemons]
    spent_s, all_s = json.loads(said[1].splitlines()[-1])
    return (
        f"- **Cost.** Default networks, with JSON lines, CSV, event store, audit and black box, in turns of {frames} frames, the same ones"
        f" for both: with encryption, {words(rates)} of the frames a second without it, and {words(cores)} of the core time of a frame."
        f" {100 * spent_s / all_s:.2f} % of its core time was spent in encrypted files, writing to the disk included."
    )


if __name__ == "__main__":
    main()
