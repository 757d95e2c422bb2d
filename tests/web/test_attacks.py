"""What strangers try on the page: each attack is made on a real server, and refused."""

import json
import re
import socket
import struct
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edgepose.storage.chained_lines import verify_lines
from testing.servers.web_page import PASSWORD, WebClient, WebPage
from testing.waiting import wait_for


def test_brute_force_is_slowed_down_and_locks_nobody_out(page: WebPage, admin: WebClient) -> None:
    thief = WebClient(page, "127.66.6.6")
    thief.name = admin.name
    replies = [thief.sign_in(f"wrong password {number}", "123456") for number in range(12)]
    assert [reply.status for reply in replies[:5]] == [401] * 5
    refused = [reply for reply in replies if reply.status == 429]
    assert len(refused) >= 5
    assert all(int(reply.headers["retry-after"]) >= 1 and reply.json["limit"] == "attempts" for reply in refused)
    assert admin.sign_in().status == 200  # from the address of its owner, meanwhile


def test_an_unknown_account_answers_as_a_known_one(page: WebPage, admin: WebClient) -> None:
    stranger = WebClient(page, "127.66.6.7")
    answers = []
    for name in (admin.name, "nobody-of-this-name"):
        stranger.name = name
        began_s = time.monotonic()
        reply = stranger.sign_in("a wrong password", "000000")
        answers.append((reply.status, reply.body, time.monotonic() - began_s))
    assert answers[0][:2] == answers[1][:2]
    assert min(answer[2] for answer in answers) > 0.01  # both were hashed


def test_a_code_works_once_and_so_does_a_recovery_code(page: WebPage, admin: WebClient) -> None:
    code = admin.code()
    again = admin.sign_in(code=code)  # it was used when the account was set up, unless half a minute has passed
    if again.status == 200:
        again = admin.sign_in(code=code)
    assert again.status == 401
    recovery = admin.fresh()
    assert admin.sign_in(code=recovery).status == 200
    assert admin.sign_in(code=recovery).status == 401
    assert admin.sign_in(code="").status == 401


def test_another_page_can_make_a_browser_do_nothing(admin: WebClient) -> None:
    order = {"name": "x", "role": "admin", "code": "1"}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": ""}):
        assert admin.call("POST", "/api/v1/accounts", order, headers=headers).status == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert (
            admin.call("POST", "/api/v1/login", json.dumps({"name": "a", "password": "b"}).encode(), headers={"Content-Type": kind}).status
            == 422
        )
    cookie = admin.sign_in().headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_a_session_is_new_with_each_sign_in(admin: WebClient) -> None:
    admin.cookies["edgepose"] = planted = "planted-by-a-thief"
    assert admin.sign_in().status == 200
    first = admin.cookies["edgepose"]
    assert first != planted
    assert admin.sign_in().status == 200
    admin.cookies["edgepose"] = first
    assert admin.call("GET", "/api/v1/me").status == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "127.0.0.1@evil.example", "", "a b", "[::1"])
def test_a_name_that_was_bound_to_this_address_is_refused(page: WebPage, host: str) -> None:
    assert WebClient(page).call("GET", "/api/v1/me", headers={"Host": host}).status in (400, 421)


def test_websockets_of_other_pages_and_old_tickets_are_refused(viewer: WebClient) -> None:
    ticket = viewer.call("POST", "/api/v1/tickets").json["ticket"]
    with pytest.raises(InvalidStatus):
        viewer.socket(ticket, origin="https://evil.example")
    with viewer.socket(ticket) as opened:
        opened.recv(timeout=30)
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        viewer.socket(ticket).recv(timeout=30)


def closes(opened: object) -> bool:
    """Whether a WebSocket is closed within the five seconds that are promised, at any speed of the machine."""

    def closed() -> bool:
        try:
            opened.recv(timeout=0.05)  # type: ignore[attr-defined]
        except TimeoutError:
            return False
        except ConnectionClosed:
            return True
        return False

    return wait_for(closed, promised_s=5)


def test_what_changes_an_account_ends_its_sessions_and_websockets(page: WebPage, admin: WebClient, operator: WebClient) -> None:
    def opened(client: WebClient) -> object:
        return client.socket(client.call("POST", "/api/v1/tickets").json["ticket"])

    token = operator.with_token("viewer")
    of_session, of_token = opened(operator), opened(token)
    (identifier,) = (each["id"] for each in operator.call("GET", "/api/v1/tokens").json)
    assert operator.call("DELETE", f"/api/v1/tokens/{identifier}").status == 204
    assert closes(of_token)
    assert token.call("GET", "/api/v1/me").status == 401
    before = dict(operator.cookies)
    assert operator.call("POST", "/api/v1/me/password", {"password": PASSWORD, "new_password": "another good password"}).status == 200
    assert closes(of_session)
    other = WebClient(page, operator.address)
    other.cookies = before
    assert other.call("GET", "/api/v1/me").status == 401
    assert operator.call("GET", "/api/v1/me").status == 200
    again = opened(operator)
    assert admin.call("PATCH", f"/api/v1/accounts/{operator.name}", {"role": "viewer", "code": admin.fresh()}).status == 200
    assert closes(again)
    assert operator.call("GET", "/api/v1/me").status == 401


def test_rights_need_a_fresh_code_and_are_never_more_than_ones_own(admin: WebClient, operator: WebClient) -> None:
    assert admin.call("POST", "/api/v1/accounts", {"name": "someone", "role": "viewer", "code": "000000"}).status == 403
    used = admin.fresh()
    assert admin.call("PATCH", f"/api/v1/accounts/{operator.name}", {"role": "operator", "code": used}).status == 200
    assert admin.call("PATCH", f"/api/v1/accounts/{operator.name}", {"role": "admin", "code": used}).status == 403
    operator.sign_in()
    assert operator.call("POST", "/api/v1/tokens", {"name": "t", "role": "admin", "code": operator.fresh()}).status == 403
    assert operator.call("POST", "/api/v1/tokens", {"name": "t", "role": "viewer", "days": 91, "code": operator.fresh()}).status == 422
    token = admin.with_token("viewer")
    assert WebClient(admin.page).call("GET", f"/api/v1/me?token={token.token}&access_token={token.token}").status == 401  # not in a URL


def test_an_operator_cannot_do_without_a_second_factor(page: WebPage, admin: WebClient, name: str) -> None:
    reply = admin.call("POST", "/api/v1/accounts", {"name": f"{name}-late", "role": "operator", "code": admin.fresh()})
    link = reply.json["link"].rpartition("#")[2]
    late = WebClient(page, admin.address)
    late.call("POST", "/api/v1/setup/begin", {"link": link})
    assert late.call("POST", "/api/v1/setup/finish", {"link": link, "password": PASSWORD, "code": ""}).status == 422
    late.use_link(link)
    assert late.call("POST", "/api/v1/setup/begin", {"link": link}).status == 404  # it works once
    viewer = (
        admin.call("POST", "/api/v1/accounts", {"name": f"{name}-v", "role": "viewer", "code": admin.fresh()})
        .json["link"]
        .rpartition("#")[2]
    )
    assert late.call("POST", "/api/v1/setup/begin", {"link": viewer}).json["may_skip_code"]
    assert late.call("POST", "/api/v1/setup/finish", {"link": viewer, "password": PASSWORD, "code": ""}).status == 200
    raised = admin.call("PATCH", f"/api/v1/accounts/{name}-v", {"role": "operator", "code": admin.fresh()}).json
    assert "/setup#" in raised["link"]  # the password alone no longer signs in
    late.name = f"{name}-v"
    assert late.sign_in(code="").status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2faccounts.json",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/api/v1/jobs/..%2f..%2faccounts.json",
        "/static/index.html",
    ],
)
def test_no_path_leads_out(viewer: WebClient, path: str) -> None:
    assert viewer.call("GET", path).status == 404


def test_the_name_of_a_file_means_nothing(operator: WebClient, picture: bytes) -> None:
    job = operator.upload(picture, '../../=cmd\r\nSet-Cookie: x=1"<img src=x onerror="alert(1)">\u202egpj.exe.jpg').json
    assert operator.finished(job["id"])["state"] == "done"
    reply = operator.call("GET", f"/api/v1/jobs/{job['id']}/files/poses.csv")
    assert re.fullmatch(r"attachment; filename(\*=utf-8''|=\")[^\s/\\<>;]+", reply.headers["content-disposition"])
    assert "set-cookie" not in reply.headers
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert all(not line.startswith(("=", "-", "+", "@")) for line in reply.body.decode().splitlines())
    assert operator.call("DELETE", f"/api/v1/jobs/{job['id']}").status == 204
    assert operator.call("GET", f"/api/v1/jobs/{job['id']}/files/poses.csv").status == 404


def png(width: int, height: int) -> bytes:
    """A picture of zeros that is small as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")


def test_a_bomb_costs_itself_only(operator: WebClient, picture: bytes) -> None:
    jobs = [
        operator.upload(content, "bomb.png").json["id"] for content in (png(60_000, 60_000), png(30_000, 2), picture[: len(picture) // 2])
    ]
    ended = [operator.finished(job) for job in jobs]
    assert ended[0]["state"] == "failed"
    assert "frame_limit_mb" in ended[0]["error"]
    good = operator.finished(operator.upload(picture).json["id"])
    assert (good["state"], good["summary"]["people"]) == ("done", 2)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "list of other files"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "session description"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "markup"),
        (b"PK\x03\x04" + bytes(100), "ZIP archive"),
        (b"http://127.0.0.1/video.mp4\n", "address"),
        (b"concat:/etc/passwd|/etc/shadow", "address"),
        (b"", "empty"),
        (b"GIF89a" + bytes(100), "no picture or video"),
    ],
)
def test_what_leads_to_other_files_is_refused_by_content(operator: WebClient, content: bytes, what: str) -> None:
    reply = operator.upload(content, "innocent.mp4")
    assert reply.status == 415
    assert what in reply.json["error"]


def test_limits_are_named(page: WebPage, operator: WebClient) -> None:
    assert operator.upload(bytes(31_000_000)).json["limit"] == "web.upload_limit_mb"
    with socket.create_connection(("127.0.0.1", int(page.port))) as cut:  # a head that never ends
        cut.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 100_000)
        cut.settimeout(60)
        assert b" 4" in cut.recv(100) or cut.recv(100) == b""
    assert WebClient(page).call("POST", "/api/v1/login", {"name": "x" * 70_000, "password": "y"}).status >= 400


@pytest.mark.needs("ffmpeg")
def test_no_place_of_the_picture_is_carried_over(operator: WebClient, picture: bytes, tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0\x10\0\0\0\x1a\0\0\0\0\0\0\0SECRET GPS 52.5\0"
    tagged = picture[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + picture[2:]
    video = tmp_path / "tagged.mp4"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=160x120:rate=5:duration=1",
        "-metadata",
        "location=+52.5+013.4/SECRET",
    ]
    subprocess.run([*command, "-metadata", "comment=SECRET", str(video)], check=True, timeout=120)
    for content, name, result in ((tagged, "a.jpg", "annotated.jpg"), (video.read_bytes(), "a.mp4", "annotated.mp4")):
        job = operator.finished(operator.upload(content, name).json["id"])
        assert job["state"] == "done"
        for each in (result, "poses.jsonl", "poses.coco.json"):
            body = operator.call("GET", f"/api/v1/jobs/{job['id']}/files/{each}").body
            assert body
            assert b"SECRET" not in body
            assert b"Exif" not in body


def test_the_audit_log_says_who_did_what(page: WebPage, operator: WebClient, picture: bytes) -> None:
    job = operator.upload(picture, "audited.jpg").json["id"]
    assert operator.call("DELETE", f"/api/v1/jobs/{job}").status == 204
    assert operator.call("GET", "/api/v1/accounts").status == 403
    path = page.folder / "audit.jsonl"

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in found if line.get("account") == operator.name]

    wait_for(lambda: len(lines()) >= 3)
    noted = {(line["command"], line["status"]) for line in lines()}
    assert {("start job", "ok"), ("delete job", "ok"), ("GET /api/v1/accounts", "refused")} <= noted
    assert all(line["address"] == operator.address for line in lines())
    assert verify_lines(path).problems == []
    assert not any(text in path.read_text() for text in (PASSWORD, operator.secret, *operator.cookies.values()))
