"""Every route and message with every role and with none: a table made by the test, which fails where a route is missing in it."""

from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edgepose.config.schema import Config
from edgepose.web.accounts.file import ROLES, Role
from edgepose.web.app import make_app
from testing.servers.web_page import WebClient, WebPage

# Lowest role of each route; "nobody" needs none. A star: a person only, no token.
ROUTES = {
    "GET /": "nobody",
    "GET /setup": "nobody",
    "GET /static/{name}": "nobody",
    "GET /api/v1/openapi.json": "nobody",
    "POST /api/v1/login": "nobody",
    "POST /api/v1/setup/begin": "nobody",
    "POST /api/v1/setup/finish": "nobody",
    "POST /api/v1/logout": "viewer*",
    "GET /api/v1/me": "viewer",
    "POST /api/v1/me/password": "viewer*",
    "GET /api/v1/tokens": "viewer*",
    "POST /api/v1/tokens": "viewer*",
    "DELETE /api/v1/tokens/{identifier}": "viewer*",
    "POST /api/v1/tickets": "viewer",
    "GET /api/v1/limits": "viewer",
    "GET /api/v1/jobs": "viewer",
    "GET /api/v1/jobs/{identifier}": "viewer",
    "GET /api/v1/jobs/{identifier}/result": "viewer",
    "GET /api/v1/jobs/{identifier}/files/{result}": "viewer",
    "POST /api/v1/jobs": "operator",
    "POST /api/v1/jobs/{identifier}/cancel": "operator",
    "DELETE /api/v1/jobs/{identifier}": "operator",
    "GET /api/v1/accounts": "admin",
    "POST /api/v1/accounts": "admin*",
    "PATCH /api/v1/accounts/{name}": "admin*",
    "POST /api/v1/accounts/{name}/reset": "admin*",
    "POST /api/v1/accounts/{name}/remove": "admin*",
}
MESSAGES = {"/api/v1/updates": "viewer"}


def served(tmp_path: Path) -> tuple[set[str], set[str]]:
    """Routes and WebSockets of the application, those of included routers too."""
    routes: set[str] = set()
    sockets: set[str] = set()

    def walk(these: list[Any], prefix: str = "") -> None:
        for route in these:
            path = prefix + getattr(route, "path", "")
            if getattr(route, "methods", None):
                routes.update(f"{method} {path}" for method in route.methods - {"HEAD"})
            elif type(route).__name__.endswith("WebSocketRoute"):
                sockets.add(path)
            else:
                inner = getattr(route, "original_router", None)
                assert inner is not None, route
                walk(inner.routes, prefix)

    walk(make_app(Config(), tmp_path)._inner.routes)  # type: ignore[attr-defined]
    return routes, sockets


def test_the_table_has_every_route(tmp_path: Path) -> None:
    routes, sockets = served(tmp_path)
    assert routes == set(ROUTES)
    assert sockets == set(MESSAGES)


def refused_status(client: WebClient, route: str) -> int | None:
    """The status with which a client is refused for who it is; None where it is let in, and something else is wrong."""
    method, path = route.split(" ")
    for part in ("{identifier}", "{name}", "{result}"):
        path = path.replace(part, "poses.csv" if part == "{result}" else "nothing")
    body: object = None if method in ("GET", "DELETE") else b"no picture" if route == "POST /api/v1/jobs" else {}
    reply = client.call(method, path, body)
    assert reply.status < 500, reply
    return reply.status if reply.status in (401, 403) else None


@pytest.mark.parametrize("role", [None, *ROLES])
def test_a_session_may_do_what_its_role_allows_and_nothing_else(page: WebPage, name: str, address: str, role: Role | None) -> None:
    client = WebClient(page, address) if role is None else page.account(name, role, address)
    for route, needed in ROUTES.items():
        lowest = needed.rstrip("*")
        allowed = lowest == "nobody" or (role is not None and ROLES.index(role) >= ROLES.index(lowest))
        expected = None if allowed else 401 if role is None else 403
        if route != "POST /api/v1/logout":
            assert refused_status(client, route) == expected, (route, role)
    assert refused_status(client, "POST /api/v1/logout") == (401 if role is None else None)
    if role is not None:
        assert client.call("GET", "/api/v1/me").status == 401  # signed out


@pytest.mark.parametrize("role", ROLES)
def test_a_token_may_do_what_its_role_allows_and_never_what_a_person_must_do(admin: WebClient, role: Role) -> None:
    client = admin.with_token(role)
    for route, needed in ROUTES.items():
        lowest = needed.rstrip("*")
        allowed = lowest == "nobody" or (not needed.endswith("*") and ROLES.index(role) >= ROLES.index(lowest))
        assert refused_status(client, route) == (None if allowed else 403), (route, role)


def test_a_websocket_opens_with_a_ticket_only(viewer: WebClient) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        viewer.socket("").recv(timeout=30)
    with viewer.socket(viewer.call("POST", "/api/v1/tickets").json["ticket"]) as socket:
        assert '"jobs"' in socket.recv(timeout=30)
