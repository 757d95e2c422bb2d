"""Every route and message with every role and with none: a table made by the test, which fails where a route is missing in it."""

from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edgepose.config.schema import Config
from edgepose.web.accounts.file import ROLES, Role
from edgepose.web.app import make_app
from testing.servers.web_page import WebClient, WebPage
from testing.web_roles import ACCOUNT_ROUTES, refused_status, served, wrongly_answered

ROUTES = ACCOUNT_ROUTES | {
    "GET /api/v1/limits": "viewer",
    "GET /api/v1/jobs": "viewer",
    "GET /api/v1/jobs/{identifier}": "viewer",
    "GET /api/v1/jobs/{identifier}/result": "viewer",
    "GET /api/v1/jobs/{identifier}/files/{result}": "viewer",
    "POST /api/v1/jobs": "operator",
    "POST /api/v1/jobs/{identifier}/cancel": "operator",
    "DELETE /api/v1/jobs/{identifier}": "operator",
}
MESSAGES = {"/api/v1/updates": "viewer"}


def test_the_table_has_every_route(tmp_path: Path) -> None:
    routes, sockets = served(make_app(Config(), tmp_path))
    assert routes == set(ROUTES)
    assert sockets == set(MESSAGES)


@pytest.mark.parametrize("role", [None, *ROLES])
def test_a_session_may_do_what_its_role_allows_and_nothing_else(page: WebPage, name: str, address: str, role: Role | None) -> None:
    client = WebClient(page, address) if role is None else page.account(name, role, address)
    assert wrongly_answered(client, ROUTES, role) == {}
    assert refused_status(client, "POST /api/v1/logout") == (401 if role is None else None)
    if role is not None:
        assert client.call("GET", "/api/v1/me").status == 401  # signed out


@pytest.mark.parametrize("role", ROLES)
def test_a_token_may_do_what_its_role_allows_and_never_what_a_person_must_do(admin: WebClient, role: Role) -> None:
    assert wrongly_answered(admin.with_token(role), ROUTES, role) == {}


def test_a_websocket_opens_with_a_ticket_only(viewer: WebClient) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        viewer.socket("").recv(timeout=30)
    with viewer.socket(viewer.call("POST", "/api/v1/tickets").json["ticket"]) as socket:
        assert '"jobs"' in socket.recv(timeout=30)
