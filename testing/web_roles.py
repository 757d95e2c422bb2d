"""Tables of who may use which route of a web page, and their trial."""

from collections.abc import Mapping
from typing import Any

from edgepose.web.accounts.file import ROLES, Role
from edgepose.web.boundary import Boundary
from testing.servers.web_page import WebClient

# Lowest role of each route; "nobody" needs none. A star: a person only, no token.
ACCOUNT_ROUTES = {
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
    "GET /api/v1/accounts": "admin",
    "POST /api/v1/accounts": "admin*",
    "PATCH /api/v1/accounts/{name}": "admin*",
    "POST /api/v1/accounts/{name}/reset": "admin*",
    "POST /api/v1/accounts/{name}/remove": "admin*",
}

_FILLED = {"{result}": "poses.csv", "{camera}": "nowhere", "{command}": "pause", "{identifier}": "nothing", "{name}": "nothing"}


def served(app: Boundary) -> tuple[set[str], set[str]]:
    """Return routes and WebSockets of an application, those of included routers too."""
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

    walk(app._inner.routes)  # type: ignore[attr-defined]
    return routes, sockets


def refused_status(client: WebClient, route: str) -> int | None:
    """Return the status with which a client is refused for who it is; None where it is let in, and something else is wrong."""
    method, path = route.split(" ")
    for part, value in _FILLED.items():
        path = path.replace(part, value)
    body: object = None if method in ("GET", "DELETE") else b"no picture" if route == "POST /api/v1/jobs" else {}
    if "{command}" in route:
        body = {"camera": "nowhere"}
    reply = client.call(method, path, body)
    assert reply.status < 500, reply
    return reply.status if reply.status in (401, 403) else None


def wrongly_answered(client: WebClient, routes: Mapping[str, str], role: Role | None) -> dict[str, int | None]:
    """Return routes, signing out aside, whose refusal is not that of the table, with what they answered.

    Args:
        client: of a session, or with a token.
        routes: the table.
        role: of the client; None for nobody.
    """
    wrong = {}
    for route, needed in routes.items():
        lowest = needed.rstrip("*")
        may = lowest == "nobody" or (role is not None and ROLES.index(role) >= ROLES.index(lowest))
        if client.token and needed.endswith("*"):
            may = False
        elif route == "POST /api/v1/logout":
            continue
        found = refused_status(client, route)
        if found != (None if may else 401 if role is None else 403):
            wrong[route] = found
    return wrong
