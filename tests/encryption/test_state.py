"""A daemon and a web page with an encrypted state: what a thief of the folder sees, and what its owner can do with it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepose.cli.main import run
from edgepose.encryption.encrypted_files import EncryptedFiles
from edgepose.encryption.files import use_files
from edgepose.encryption.master_keys import MasterKey, read_keys, write_keys
from edgepose.encryption.scratch import remove_scratch
from edgepose.encryption.start import LOCK
from testing.servers.daemon import Listener
from testing.servers.mosquitto import Mosquitto
from testing.servers.web_page import WebPage
from testing.stored_state import CLIP, ROOT, State, edgepose, publish
from testing.waiting import wait_for

WORDS = (b"entered", b"Entrance", b"camera", b"keypoint", b"captured_at", b"command", b"password", b"CERTIFICATE", b"PRIVATE", b"edgepose/")
"""What is in the files, once they are decrypted."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """The state that a daemon whose broker went away, and a page that was killed, leave."""
    folder = tmp_path_factory.mktemp("encrypted")
    with Mosquitto(folder) as broker:
        made = State(folder, broker.port)
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen([sys.executable, "-m", "edgepose", "run", "-c", str(made.config)], stderr=log, cwd=ROOT)
        heard = Listener(broker.port)
        try:
            wait_for(lambda: heard.on("cameras/Entrance/events") or daemon.poll() is not None, within_s=60)
            publish(broker.port, "edgepose/drone/command/pause", b'{"camera": "nobody"}')
            daemon.send_signal(signal.SIGUSR1)
            wait_for(lambda: "commands.jsonl.head" in made.shown() and any("signal" in name for name in made.shown()))
            broker.kill()  # events wait from now on
            waiting = made.files.place(made.folder / "webhook.db")
            before = waiting.stat().st_size
            wait_for(lambda: waiting.stat().st_size > before, within_s=30)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
        finally:
            heard.close()
            daemon.kill()
            daemon.wait()
        assert "Traceback" not in (folder / "log").read_text()
    before_files = use_files(made.files)
    try:
        with WebPage(made.folder / "web", f"encryption.key={made.key}", "encryption.enabled=true", host="0.0.0.0") as page:
            page.host = "127.0.0.1"
            page.url = f"https://127.0.0.1:{page.port}"
            client = page.administrator("anna")
            client.finished(client.upload((CLIP.parent / "golden.jpg").read_bytes(), "secret.jpg").json["id"])
            page.stop(signal.SIGKILL)
        yield made
    finally:
        remove_scratch(made.folder / "web" / "jobs")
        use_files(before_files)


def test_every_file_of_a_full_run_is_encrypted_and_the_rest_is_what_the_page_says(state: State) -> None:
    shown = state.shown()
    names = {re.sub(r"\d{8}T\d{6}Z-[\w-]+|\d{8}(?=\.segment)|-\d+-\d+(?=\.jpg)", "N", name) for name in shown}
    assert names >= {
        *("events.db", "webhook.db", "commands.jsonl", "commands.jsonl.head", "clock", "poses.jsonl", "poses.csv", "poses.mp4"),
        *("black-box/ring/N.segment", "black-box/N/N.segment", "images/EntranceN.jpg"),
        *("web/accounts.json", "web/audit.jsonl", "web/audit.jsonl.head", "web/certificate.pem", "web/certificate.key", "web/address"),
    }
    encrypted = set(shown.values())
    clear = {path.relative_to(state.folder).as_posix() for path in state.folder.rglob("*") if path.is_file() and path not in encrypted}
    empty = {path for path in clear if (state.folder / path).stat().st_size == 0}
    table = (ROOT / "docs" / "privacy.md").read_text().partition("<!-- begin clear -->")[2].partition("<!-- end clear -->")[0]
    allowed = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert LOCK in allowed
    assert {path for path in clear if not any(Path(path).match(pattern) for pattern in allowed)} == set()
    assert empty == clear  # of all these, nothing has content after this run
    clear_folders = {
        path.relative_to(state.folder).as_posix() for path in state.folder.rglob("*") if path.is_dir() and len(path.name) < 100
    }
    assert clear_folders <= {"black-box", "images", "web", "engines"}


def test_a_copy_of_the_folder_tells_nothing(state: State) -> None:
    content = b"".join(path.read_bytes() for path in state.shown().values())
    assert len(content) > 100_000
    assert not [word for word in WORDS if word in content]
    names = b" ".join(os.fsencode(path.name) for path in state.folder.rglob("*"))
    assert not any(word in names for word in (b"signal", b"segment", b"jpg", b"mp4", b"events", b"Entrance"))
    assert not any("secret" in path.name or "Entrance" in path.name for path in state.folder.rglob("*"))
    assert not [path for path in state.folder.rglob("*") if path.suffix == ".jpg"]


def test_its_owner_reads_everything(state: State) -> None:
    assert "lines verify" in edgepose("audit", "verify", "-c", state.config)
    recording = next(name for name in state.shown() if "-signal/" in name)
    place = state.folder / Path(recording).parent
    replayed = json.loads(edgepose("replay", place, "--json", "-c", state.config))
    assert replayed["frames"] > 0
    assert replayed["lost"] == 0
    lines = edgepose("keys", "decrypt", state.folder / "poses.jsonl", "-c", state.config).splitlines()
    assert all(json.loads(line)["camera"] == "Entrance" for line in lines)
    assert "anna\tadmin\tready" in edgepose("accounts", "list", "-c", state.config)
    video = state.folder.parent / "poses.mp4"
    done = subprocess.run(
        [sys.executable, "-m", "edgepose", "keys", "decrypt", str(state.folder / "poses.mp4"), "-c", str(state.config)],
        capture_output=True,
        timeout=300,
        check=True,
        cwd=ROOT,
    )
    video.write_bytes(done.stdout)
    import av

    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 5


def test_without_its_key_nothing_starts(state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_key = tmp_path / "open.key"
    write_keys(open_key, [MasterKey.new()], new=True)
    assert open_key.stat().st_mode & 0o777 == 0o600
    open_key.chmod(0o640)
    for key, sentence in (
        ("none", "cannot be read"),
        (state.config, "no master key"),
        (open_key, "others may read"),
        ("null", "is missing"),
    ):
        if key == state.config:
            state.config.chmod(0o600)
        for command in ("run", "serve", "keys status"):
            assert run([*command.split(), "-c", str(state.config), "--set", f"encryption.key={key}"]) == 78
            error = capsys.readouterr().err
            assert "encryption.key" in error
            assert sentence in error


def test_kills_during_a_rotation_lose_nothing(state: State) -> None:
    contents = {name: state.content(name) for name in state.shown()}
    before = state.key.read_text()
    rotate = [sys.executable, "-m", "edgepose", "keys", "rotate", "-c", str(state.config)]
    began_s = time.monotonic()
    subprocess.run(rotate, check=True, capture_output=True, timeout=500, cwd=ROOT)
    whole_s = time.monotonic() - began_s
    for attempt in range(5):
        process = subprocess.Popen(rotate, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        time.sleep(whole_s * (0.5 + 0.1 * attempt))
        process.kill()
        process.wait()
        assert set(state.shown()) == set(contents)
    subprocess.run(rotate, check=True, capture_output=True, timeout=500, cwd=ROOT)
    assert {name: state.content(name) for name in state.shown()} == contents
    assert len(state.key.read_text().splitlines()) == 1
    stranger = state.key.with_name("before.key")
    stranger.write_text(before)
    stranger.chmod(0o600)
    old = EncryptedFiles(read_keys(stranger))
    assert [name for path in state.folder.rglob("*") if (name := old.name(path.name))] == []
    status: dict[str, Any] = json.loads(edgepose("keys", "status", "--json", "-c", state.config))
    assert status["files"] == len(contents)
    assert status["damage"] == {}
