"""The command: its first start, TLS, what an end leaves behind, and what it says where the extra is missing."""

import importlib.util
import json
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.cli.main import run
from testing.heads import check_hidden_heads
from testing.servers.web_page import WebClient, WebPage
from testing.waiting import wait_for


def test_before_it_is_set_up_nothing_else_is_served_and_afterwards_nothing_stays(tmp_path: Path, picture: bytes) -> None:
    folder = tmp_path / "state"
    with WebPage(folder) as page:
        client = WebClient(page, "127.0.3.1")
        for method, path in (
            ("GET", "/"),
            ("GET", "/api/v1/me"),
            ("POST", "/api/v1/login"),
            ("POST", "/api/v1/jobs"),
            ("GET", "/api/v1/openapi.json"),
        ):
            assert client.call(method, path, None if method == "GET" else {}).status == 503
        assert client.call("GET", "/setup").status == client.call("GET", "/static/app.js").status == 200
        link = page.link()
        assert (folder / "setup-link").stat().st_mode & 0o777 == 0o600
        assert not any(link in line for line in page.lines)
        shown = subprocess.run(
            [sys.executable, "-m", "edgepose", "accounts", "setup", "--set", f"web.folder={folder}"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert shown.stdout.strip() == f"{page.url}/setup#{link}"
        client.use_link(link, "anna")
        assert client.call("POST", "/api/v1/setup/begin", {"link": link}).status == 404
        wait_for(lambda: not (folder / "setup-link").exists())
        assert client.upload(picture, "secret.jpg").status == 201
        assert not [path for path in folder.rglob("*") if "secret" in path.name and not path.is_symlink()]  # an upload has no name
        page.stop(signal.SIGKILL)
    held = [path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[:3] == picture[:3] and path.name != "annotated.jpg"]
    assert held == []
    with WebPage(folder) as page:  # what a killed one left is deleted
        assert list((folder / "jobs").iterdir()) == []
        client.page = page
        assert client.sign_in().status == 200
        assert page.stop() == 0
    assert not (folder / "jobs").exists()


def test_off_the_loopback_it_encrypts_and_speaks_no_plain_http(tmp_path: Path) -> None:
    with WebPage(tmp_path / "state", host="0.0.0.0") as page:
        assert page.url.startswith("https://")
        assert any(line.startswith("certificate of its own, SHA-256 ") for line in page.lines)
        assert (tmp_path / "state" / "certificate.key").stat().st_mode & 0o777 == 0o600
        with socket.create_connection(("127.0.0.1", int(page.port))) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            plain.settimeout(60)
            assert not plain.recv(100).startswith(b"HTTP")
        context = ssl.create_default_context(cafile=str(tmp_path / "state" / "certificate.pem"))
        with (
            socket.create_connection(("127.0.0.1", int(page.port))) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as secure,
        ):
            assert secure.version() in ("TLSv1.2", "TLSv1.3")
        page.host = "127.0.0.1"
        page.url = f"https://127.0.0.1:{page.port}"
        client = WebClient(page)
        client.use_link(page.link(), "anna")
        cookie = client.sign_in().headers["set-cookie"]
        assert cookie.startswith("__Host-edgepose=")
        assert "secure" in cookie.lower()


@pytest.mark.parametrize("command", [["serve"], ["accounts", "list"]])
def test_without_the_extra_it_says_what_to_install(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None if name == "fastapi" else find(name, package))
    assert run(command) == 69
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "pip install '.[cpu,web]'" in said


@pytest.mark.parametrize("setting", ["privacy.pixels=never", "privacy.profile=standard"])
def test_it_does_not_start_where_no_picture_of_people_may_be_shown(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--set", setting]) == 78
    assert f"{setting.replace('=', ' is ')}, and this page shows people in pictures; expected" in capsys.readouterr().err


def test_heads_in_results_are_hidden_where_pixels_leave_blurred_only(
    page: WebPage, operator: WebClient, picture: bytes, tmp_path: Path
) -> None:
    job = operator.upload(picture, "a.jpg").json["id"]
    assert operator.finished(job)["state"] == "done"
    files = f"/api/v1/jobs/{job}/files"
    shown = operator.call("GET", f"{files}/annotated.jpg").body
    people = json.loads(operator.call("GET", f"{files}/poses.jsonl").body)["people"]
    (tmp_path / "a.jpg").write_bytes(picture)
    assert run(["infer", str(tmp_path / "a.jpg"), "-q", "--images", str(tmp_path / "clear")]) == 0
    blurred, clear = (
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) for content in (shown, (tmp_path / "clear" / "a.jpg").read_bytes())
    )
    assert blurred is not None
    assert clear is not None
    check_hidden_heads(np.asarray(clear, np.uint8), np.asarray(blurred, np.uint8), people)


def test_a_span_is_forgotten_while_the_page_is_served(
    page: WebPage, operator: WebClient, picture: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    job = operator.upload(picture, "a.jpg").json["id"]
    forget = ["forget", "--json", "--set", f"web.folder={page.folder}"]
    assert run([*forget, "--from", "2020-01-01", "--to", "2020-01-02"]) == 0
    assert json.loads(capsys.readouterr().out)["deleted"] == {"web": {"jobs": 0, "commands": 0}}
    assert operator.call("GET", f"/api/v1/jobs/{job}").status == 200
    assert run([*forget, "--all"]) == 0
    deleted = json.loads(capsys.readouterr().out)["deleted"]["web"]
    assert deleted["jobs"] >= 1
    assert deleted["commands"] >= 1
    assert operator.call("GET", f"/api/v1/jobs/{job}").status == 404
    assert list((page.folder / "jobs").iterdir()) == []
    wait_for(lambda: b'"forget"' in (page.folder / "audit.jsonl").read_bytes())
    assert b"a.jpg" not in (page.folder / "audit.jsonl").read_bytes()
    assert run(["audit", "verify", str(page.folder / "audit.jsonl")]) == 0


def test_nothing_else_imports_the_extra() -> None:
    modules = "edgepose.cli.serve, edgepose.cli.accounts, edgepose.cli.run, edgepose.cli.infer, edgepose.daemon.daemon, edgepose.api"
    extra = ("fastapi", "uvicorn", "argon2", "segno", "cryptography", "pydantic", "websockets")
    program = f"import sys, {modules}\nprint([name for name in {extra} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_accounts_on_the_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"web.folder={tmp_path / 'state'}"
    assert run(["accounts", "add", "ben", "--role", "operator", "--set", folder]) == 0
    assert "/setup#" in capsys.readouterr().out
    assert run(["accounts", "add", "ben", "--role", "viewer", "--set", folder]) == 64
    assert run(["accounts", "reset", "ben", "--set", folder]) == 0
    assert run(["accounts", "list", "--set", folder]) == 0
    assert "ben\toperator\twaits" in capsys.readouterr().out
    assert run(["accounts", "remove", "ben", "--set", folder]) == 0
    assert run(["accounts", "reset", "ben", "--set", folder]) == 64
    assert run(["accounts", "setup", "ben", "--set", folder]) == 64
