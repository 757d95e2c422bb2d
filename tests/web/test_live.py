"""The live page of a real daemon that watches a video: what clients see, what roles may do, and areas that are drawn."""

import importlib.util
import json
import struct
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edgepose.cli.main import run
from edgepose.config.areas import CameraAreas, DrawnAreas, text_of, with_areas
from edgepose.config.load import load
from edgepose.config.schema import CameraConfig, Config
from edgepose.errors import ConfigError
from edgepose.messages import compact
from edgepose.messages.structs import PosesMessage
from edgepose.storage.areas_file import read_areas, write_areas
from edgepose.web.access import Door
from edgepose.web.accounts.file import ROLES, Role
from edgepose.web.app import make_live_app
from testing.servers.web_page import LivePageProcess, WebClient
from testing.waiting import in_time, wait_for
from testing.web_roles import ACCOUNT_ROUTES, served, wrongly_answered

if TYPE_CHECKING:
    from edgepose.web.live.view import LiveView
    from testing.servers.web_page import WebPage

ASSETS = Path(__file__).parents[2] / "edgepose" / "assets"
ZONE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
CONFIGURED = "privacy: {pixels: blurred}\n"

pytestmark = pytest.mark.xdist_group("live")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Generator[LivePageProcess, None, None]:
    folder = tmp_path_factory.mktemp("live") / "state"
    with LivePageProcess(folder, {"front": str(ASSETS / "demo.mp4")}, CONFIGURED) as page:
        page.administrator()
        yield page


@pytest.fixture
def boss(live: LivePageProcess, address: str, name: str) -> WebClient:
    return live.account(f"{name}-boss", "admin", address)


LIVE_ROUTES = ACCOUNT_ROUTES | {
    "POST /api/v1/live/guest": "nobody",
    "GET /api/v1/live": "viewer",
    "GET /api/v1/live/state": "viewer",
    "GET /api/v1/live/cameras/{camera}/still": "viewer",
    "GET /api/v1/live/cameras/{camera}/areas.yaml": "viewer",
    "POST /api/v1/live/commands/{command}": "operator",
    "PUT /api/v1/live/cameras/{camera}/areas": "operator",
    "DELETE /api/v1/live/cameras/{camera}/areas": "operator",
}


def test_the_table_has_every_route_of_the_live_page(tmp_path: Path) -> None:
    app = make_live_app(Door.of(Config(), tmp_path, ("live",)), cast("LiveView", None))
    assert served(app) == (set(LIVE_ROUTES), {"/api/v1/live/updates"})


@pytest.mark.parametrize("role", [None, *ROLES])
def test_a_role_may_do_what_the_table_says(live: LivePageProcess, name: str, address: str, role: Role | None) -> None:
    client = WebClient(live, address) if role is None else live.account(name, role, address)
    routes = {route: needed for route, needed in LIVE_ROUTES.items() if route != "POST /api/v1/live/guest"}  # void here: 401 for all
    assert wrongly_answered(client, routes, role) == {}
    assert client.call("POST", "/api/v1/live/guest", {"link": "guessed"}).status == 401
    if role == "admin":
        assert wrongly_answered(client.with_token("viewer"), routes, "viewer") == {}


def test_the_websocket_of_the_live_page_needs_a_ticket_of_its_own(live: LivePageProcess, boss: WebClient) -> None:
    ticket = boss.call("POST", "/api/v1/tickets").json["ticket"]
    path = "/api/v1/live/updates"
    with boss.socket(ticket, path=path) as socket:
        received(socket, "state")
    for used in (ticket, "", "guessed"):
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            boss.socket(used, path=path).recv(timeout=30)
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        boss.socket(boss.call("POST", "/api/v1/tickets").json["ticket"], "http://elsewhere.example", path=path).recv(timeout=30)


def parts_of(message: bytes) -> list[tuple[str, PosesMessage, bytes]]:
    """Take a message apart as docs/web.md says."""
    parts = []
    while message:
        name, poses, jpeg = struct.unpack_from("<BII", message)
        camera, message = message[9 : 9 + name].decode(), message[9 + name :]
        parts.append((camera, compact.decode(message[:poses], camera), message[poses : poses + jpeg]))
        message = message[poses + jpeg :]
    return parts


def received(socket: Any, wanted: str) -> Any:
    """Return the next message of a kind: `state`, `events`, or `frames`."""

    def one() -> Any:
        message = socket.recv(timeout=60)
        if isinstance(message, bytes):
            return parts_of(message) if wanted == "frames" else None
        return json.loads(message).get(wanted)

    return wait_for(one, within_s=60, every_s=0)


def closing_code(socket: Any) -> int | None:
    """Read until the server closes; return its code."""
    try:
        while True:
            socket.recv(timeout=60)
    except ConnectionClosed as error:
        return None if error.rcvd is None else error.rcvd.code


def test_skeletons_state_and_events_arrive(boss: WebClient) -> None:
    with boss.live_socket() as socket:
        state = received(socket, "state")
        assert state["cameras"]["front"]["state"] in ("connecting", "streaming")
        people = wait_for(lambda: [each for _, poses, _ in received(socket, "frames") for each in poses.people], within_s=60)
        assert len(people[0].keypoints) == 17
        assert received(socket, "events")[0]["camera"] == "front"
        assert wait_for(lambda: received(socket, "state")["health"]["cameras"]["front"]["diagnosis"] == "person", within_s=60)
    about = boss.call("GET", "/api/v1/live").json
    assert list(about["cameras"]) == ["front"]
    assert boss.call("GET", "/api/v1/live/state").json["state"]["viewers"] >= 0


def test_pictures_come_only_to_those_who_want_them_with_the_skeletons_of_the_same_frame(boss: WebClient) -> None:
    with boss.live_socket() as socket:
        assert all(not jpeg for _, _, jpeg in received(socket, "frames"))
        socket.send('{"pictures": ["front", "nowhere"]}')
        ((camera, _, jpeg),) = wait_for(lambda: [part for part in received(socket, "frames") if part[2]], within_s=60)
        assert (camera, jpeg[:2]) == ("front", b"\xff\xd8")
        socket.send('{"pictures": []}')
        assert wait_for(lambda: not received(socket, "frames")[0][2], within_s=60)
        socket.send("something else")
        assert closing_code(socket) == 1008
    still = boss.call("GET", "/api/v1/live/cameras/front/still")
    assert still.status == 200
    assert still.body[:2] == b"\xff\xd8"
    assert boss.call("GET", "/api/v1/live/cameras/nowhere/still").status == 404


def test_operators_pause_and_start_and_the_account_is_in_the_audit(live: LivePageProcess, name: str, address: str) -> None:
    operator = live.account(f"{name}-operator", "operator", address)
    paused = operator.call("POST", "/api/v1/live/commands/pause", {"camera": "front"})
    assert (paused.status, paused.json["status"]) == (200, "ok")
    assert wait_for(lambda: state_of(operator) == "paused", within_s=60)
    assert operator.call("POST", "/api/v1/live/commands/resume", {"camera": "front"}).status == 200
    assert wait_for(lambda: state_of(operator) == "streaming", within_s=60)
    refused = operator.call("POST", "/api/v1/live/commands/pause", {"camera": "rear"})
    assert (refused.status, "there is no camera rear" in refused.json["error"]) == (422, True)
    changed = operator.call("POST", "/api/v1/live/commands/set-threshold", {"score_threshold": 0.31})
    assert changed.status == 200
    assert operator.call("GET", "/api/v1/live").json["thresholds"]["score_threshold"] == 0.31
    lines = [json.loads(line) for line in (live.folder / "live" / "audit.jsonl").read_text().splitlines()]
    mine = [line for line in lines if line.get("account") == operator.name and line["command"] in ("pause", "resume", "set-threshold")]
    assert [(line["command"], line["status"], line["role"]) for line in mine] == [
        ("pause", "ok", "operator"),
        ("resume", "ok", "operator"),
        ("pause", "refused", "operator"),
        ("set-threshold", "ok", "operator"),
    ]
    assert mine[0]["address"] == address


def state_of(client: WebClient) -> str:
    return str(client.call("GET", "/api/v1/live/state").json["state"]["cameras"]["front"]["state"])


def test_areas_hold_at_once_and_after_a_restart_of_the_reading(live: LivePageProcess, boss: WebClient, name: str) -> None:
    operator = live.account(f"{name}-op", "operator", boss.address)
    path = "/api/v1/live/cameras/front/areas"
    line = [[0.2, 0.5], [0.8, 0.5]]
    applied = operator.call("PUT", path, {"zones": {"yard": ZONE}, "lines": {"gate": line}})
    assert applied.status == 200, applied
    assert applied.json["cameras"]["front"]["zones"] == {"yard": ZONE}
    assert read_areas(live.folder / "live" / "areas.yaml").cameras["front"].lines == {"gate": ((0.2, 0.5), (0.8, 0.5))}
    with boss.live_socket() as socket:
        events = wait_for(lambda: [each for each in received(socket, "events") if each.get("zone") == "yard"], within_s=60)
    assert events[0]["kind"] == "zone_entered"
    crossing = {"zones": {"yard": [ZONE[0], ZONE[2], ZONE[1], ZONE[3]]}}
    refused = operator.call("PUT", path, crossing)
    assert (refused.status, "edges that cross" in refused.json["error"]) == (422, True)
    assert operator.call("PUT", path, {"source": "rtsp://elsewhere/"}).status == 422
    masks = {"zones": {"yard": ZONE}, "masks": {"window": ZONE}}
    assert operator.call("PUT", path, masks).status == 403
    assert boss.call("PUT", path, masks).json["cameras"]["front"]["masks"] == {"window": ZONE}
    assert operator.call("PUT", path, {"zones": {}}).status == 403  # it would remove the mask
    text = boss.call("GET", path.replace("areas", "areas.yaml"))
    assert b'"window": [[0.1, 0.1]' in text.body
    assert boss.call("DELETE", path).json["cameras"]["front"]["masks"] == {}


def test_a_websocket_ends_within_five_seconds_of_its_session(live: LivePageProcess, boss: WebClient) -> None:
    with boss.live_socket() as socket:
        received(socket, "frames")
        boss.call("POST", "/api/v1/logout")
        since_s = time.monotonic()
        assert closing_code(socket) == 4401
        assert in_time(time.monotonic() - since_s, 5)


def test_a_client_that_does_not_read_is_left_behind_and_holds_nobody_up(live: LivePageProcess, boss: WebClient) -> None:
    before = boss.call("GET", "/api/v1/live/state").json["state"]["dropped"]
    with boss.slow_live_socket() as lazy, boss.live_socket() as socket:
        lazy.send('{"pictures": ["front"]}')
        seen = [sequence_of(received(socket, "frames")) for _ in range(30)]
        assert len(set(seen)) == 30
        assert wait_for(lambda: received(socket, "state")["viewers"] == 1, within_s=60)  # the other one is closed
        assert received(socket, "state")["dropped"] > before


def test_the_demo_prints_a_link_by_which_anybody_here_may_look_on(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "edgepose", "demo", str(ASSETS / "demo.mp4"), "-o", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        try:
            assert demo.stdout is not None
            link = next(line for line in demo.stdout if line.startswith("live page: ")).split()[-1]
            url, _, text = link.partition("/#guest/")
            page = SimpleNamespace(url=url, host="127.0.0.1", port=url.rpartition(":")[2])
            guest = WebClient(cast("WebPage", page))
            assert guest.call("POST", "/api/v1/live/guest", {"link": "guessed"}).status == 401
            assert guest.call("GET", "/api/v1/live").status == 401
            assert guest.call("POST", "/api/v1/live/guest", {"link": text}).json["role"] == "viewer"
            assert list(guest.call("GET", "/api/v1/live").json["cameras"]) == ["video"]
            assert guest.call("POST", "/api/v1/live/commands/pause", {}).status == 403
            assert guest.call("POST", "/api/v1/login", {"name": "guest", "password": "-"}).status == 401
        finally:
            demo.kill()


def test_a_page_of_another_name_reaches_nothing(live: LivePageProcess) -> None:
    stranger = WebClient(live)
    assert stranger.call("GET", "/api/v1/live", headers={"Host": "evil.example"}).status == 421
    assert stranger.call("POST", "/api/v1/live/commands/pause", {}, headers={"Origin": "http://evil.example"}).status == 403


def test_without_the_extra_the_daemon_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    assert run(["run", "--set", "cameras.front.source=a.mp4", "--set", "web.enabled=true", "--set", "mqtt.enabled=false"]) == 69
    assert "web.enabled needs the library fastapi" in capsys.readouterr().err


def test_both_pages_have_ports_of_their_own() -> None:
    with pytest.raises(ConfigError, match=r"web\.live_port is 9480, the port of `edgepose serve`"):
        load(None, ["web.enabled=true", "web.live_port=9480"], {})


def sequence_of(parts: list[tuple[str, PosesMessage, bytes]]) -> tuple[int, int]:
    return parts[0][1].epoch, parts[0][1].sequence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("cameras: [", "is damaged"), ("model: {path: /tmp/other.onnx}\n", "is damaged"), ("cameras: {front: {source: x}}\n", "is damaged")],
)
def test_a_file_of_areas_holds_areas_and_nothing_else(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "areas.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        read_areas(path)


def test_configured_masks_stay_and_drawn_areas_are_read_again(tmp_path: Path) -> None:
    corners = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5)]
    other = [(0.5, 0.5), (1.0, 0.5), (1.0, 1.0)]
    config = Config(cameras={"front": CameraConfig(source="a.mp4", zones={"door": corners}, masks={"window": corners})})
    drawn = DrawnAreas(cameras={"front": CameraAreas(zones={"true": other}, masks={"window": other, "1": other}), "gone": CameraAreas()})
    write_areas(tmp_path / "areas.yaml", drawn)
    assert read_areas(tmp_path / "areas.yaml") == drawn
    assert (tmp_path / "areas.yaml").stat().st_mode & 0o777 == 0o600
    camera = with_areas(config, drawn).cameras["front"]
    assert camera.zones == {"true": other}
    assert camera.masks == {"window": corners, "1": other}
    assert text_of({}) == "cameras: {}\n"
