"""`edgepose forget` beside a running daemon with an encrypted state: not one byte of the span is left, and the rest is."""

import json
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from edgepose.cli import forget as module
from edgepose.cli.main import run
from edgepose.encryption.files import ClearFiles, use_files
from edgepose.storage.span import nanoseconds
from testing.requirements import missing
from testing.servers.daemon import Listener
from testing.servers.mosquitto import Mosquitto
from testing.servers.web_page import PASSWORD, WebClient
from testing.stored_state import ROOT, State, edgepose, publish
from testing.waiting import wait_for

if TYPE_CHECKING:
    from testing.servers.web_page import WebPage

_TIME = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

_ID = re.compile(rb'"id":"([^"]+)"')

_PACKED = re.compile(rb"(?=[\xcf\xd3](.{8}))", re.DOTALL)  # 64-bit numbers of MessagePack, such as nanoseconds


def everything(state: State) -> dict[str, bytes]:
    """Return the content of each stored file, and under an empty name the names and all bytes as they are on the disk."""
    clear = [path.read_bytes() for path in state.folder.rglob("*") if path.is_file()]
    return {name: state.content(name) for name in state.shown()} | {"": " ".join(state.shown()).encode() + b"".join(clear)}


def stored(state: State, name: str) -> bytes:
    """Return the content of a file; nothing where there is none yet."""
    return state.content(name) if name in state.shown() else b""


def is_all_stored(state: State) -> bool:
    """Return whether each kind of file holds something, and each event waits for the broker and for the receiver of the webhook."""
    names = " ".join(state.shown())
    events = set(_ID.findall(stored(state, "events.db")))
    waits = bool(events) and events <= set(_ID.findall(stored(state, "webhook.db")))
    return waits and "-signal/" in names and "images/" in names and bool(times(stored(state, "poses.jsonl")))


def times(content: bytes) -> list[int]:
    return [at for text in _TIME.findall(content) if (at := nanoseconds(text.decode())) is not None]


def looking_on(state: State) -> WebClient:
    """Return an administrator of the live page, who was refused something."""
    url = wait_for(lambda: state.content("web/address").decode().strip() if "web/address" in state.shown() else "", within_s=60)
    client = WebClient(cast("WebPage", SimpleNamespace(url=url, host="127.0.0.1", port=url.rpartition(":")[2])))
    link = state.content("web/setup-link").decode().strip().rpartition("#")[2]
    client.secret = client.call("POST", "/api/v1/setup/begin", {"link": link}).json["secret"]
    order = {"link": link, "name": "anna", "password": PASSWORD, "code": client.code()}
    assert client.call("POST", "/api/v1/setup/finish", order).status == 200
    assert client.call("POST", "/api/v1/live/commands/pause", {"camera": "nobody"}).status == 422
    wait_for(lambda: "web/setup-link" not in state.shown(), within_s=60)
    return client


def shown_events(client: WebClient) -> list[dict[str, str]]:
    """Return the events that the live page shows somebody who comes; the state comes before them."""
    with client.live_socket() as socket:
        messages = [json.loads(message) for message in (socket.recv(timeout=60) for _ in range(3)) if isinstance(message, str)]
    return [event for message in messages for event in message.get("events", [])]


def test_nothing_of_the_span_is_left_and_the_daemon_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_ns = time.time_ns()
    with Mosquitto(tmp_path) as broker:
        state = State(tmp_path, broker.port)
        log = (tmp_path / "log").open("wb")
        page = ["--set", "web.enabled=true", "--set", "web.live_port=0"] if missing("web") is None else []
        daemon = subprocess.Popen([sys.executable, "-m", "edgepose", "run", "-c", str(state.config), *page], stderr=log, cwd=ROOT)
        heard = Listener(broker.port)
        try:
            wait_for(lambda: heard.on("cameras/Entrance/events") or daemon.poll() is not None, within_s=60)
            publish(broker.port, "edgepose/drone/command/pause", b'{"camera": "nobody"}')
            wait_for(lambda: b'"pause"' in stored(state, "commands.jsonl"), within_s=60)
            broker.kill()  # events wait from now on, at the webhook's receiver too
            daemon.send_signal(signal.SIGUSR1)
            wait_for(lambda: is_all_stored(state), within_s=60)
            viewer = looking_on(state) if page else None
            before = everything(state)
            end_ns = time.time_ns()
            events = set(_ID.findall(before["events.db"]))
            wait_for(lambda: events <= set(_ID.findall(state.content("webhook.db"))))  # which is written after the other store
            assert [at for at in times(before["poses.jsonl"]) if at <= end_ns]
            if viewer is not None:
                assert b'"pause"' in before["web/live/audit.jsonl"]
                assert [event for event in shown_events(viewer) if (nanoseconds(event["at"]) or 0) <= end_ns]
            span = ["--from", "2020-01-01T00:00:00Z", "--to", datetime.fromtimestamp(end_ns / 1e9, timezone.utc).isoformat()]
            said = json.loads(edgepose("forget", *span, "--json", "-c", state.config))
            deleted = said["deleted"]["daemon"]
            assert all(deleted[what] for what in ("events", "webhook_events", "records", "lines", "pictures", "commands")), deleted
            if viewer is not None:
                assert said["deleted"]["live"]["shown_events"]
                assert said["deleted"]["live"]["commands"]
                assert not [event for event in shown_events(viewer) if begin_ns <= (nanoseconds(event["at"]) or 0) <= end_ns]
            assert any("edgepose/drone/#" in each for each in said["out_of_reach"])

            after = everything(state)
            for name, content in after.items():
                assert not [at for at in times(content) if begin_ns <= at <= end_ns] or name == "clock", name
                assert not [event for event in events if event in content], name
                packed = [int.from_bytes(found, "big") for found in _PACKED.findall(content)] if name else []
                assert not [at for at in packed if begin_ns <= at <= end_ns], name
            wait_for(lambda: len(times(state.content("poses.jsonl"))) > 1, within_s=30)
            wait_for(lambda: any("ring/" in name for name in state.shown()), within_s=30)
            assert daemon.poll() is None
            assert b'"command":"forget"' in state.content("commands.jsonl")

            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(60) == 0
        finally:
            heard.close()
            daemon.kill()
            daemon.wait()
            log.close()
    assert "Traceback" not in (tmp_path / "log").read_text()
    monkeypatch.setattr(module, "_TAKEN_S", 0.2)  # nobody runs who could take it
    assert run(["forget", "--all", "-c", str(state.config)]) == 0
    use_files(ClearFiles())
    left = {name: content for name, content in everything(state).items() if name not in ("", "clock")}
    assert not [name for name, content in left.items() if times(content)]
    assert not [name for name, content in left.items() if name.startswith(("images/", "poses.mp4", "black-box/")) and content]


def test_the_span_must_be_clear(capsys: pytest.CaptureFixture[str]) -> None:
    time = "2026-11-22T10:00"
    for wrong in ((), ("--from", time), ("--all", "--to", time), ("--from", "today", "--to", time), ("--from", time, "--to", "2026-11-01")):
        assert run(["forget", *wrong]) == 64
        assert "expected" in capsys.readouterr().err
