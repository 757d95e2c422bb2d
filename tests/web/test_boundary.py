"""Hosts, origins and proxies: what a request may say of itself."""

import asyncio
from typing import Any

import pytest

from edgepose.web.boundary import BODY_LIMIT_BYTES, Boundary, Caller
from edgepose.web.request_rate import BURST, LONGEST_S, RATE_HZ, RequestRates


def request(
    headers: dict[str, str],
    *,
    client: str = "192.0.2.9",
    server: str = "192.0.2.1",
    scheme: str = "http",
    body: bytes = b"",
    hosts: tuple[str, ...] = (),
    proxies: tuple[str, ...] = (),
    rates: RequestRates | None = None,
    wait_s: float = 0.0,
) -> tuple[int, Caller | None]:
    """The status of a request, and where it is seen to come from."""
    seen: list[Caller] = []
    sent: list[dict[str, Any]] = []

    async def inner(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope["state"]["caller"])
        message = await receive()
        await send({"type": "http.response.start", "status": 200 if message["type"] == "http.request" else 413, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/login",
        "scheme": scheme,
        "client": (client, 5),
        "server": (server, 9480),
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }
    asyncio.run(Boundary(inner, hosts, proxies, lambda path: None, rates, lambda address, path: wait_s)(scope, receive, send))
    return sent[0]["status"], seen[0] if seen else None


@pytest.mark.parametrize(
    ("host", "hosts", "status"),
    [
        ("127.0.0.1:9480", (), 200),
        ("localhost:9480", (), 200),
        ("[::1]:9480", (), 200),
        ("192.0.2.1:9480", (), 200),  # the address that it came to
        ("192.0.2.2", (), 421),
        ("evil.example", (), 421),
        ("drone.local", ("drone.local",), 200),
        ("DRONE.local.:9480", ("drone.local",), 200),
        ("drone.local.evil.example", ("drone.local",), 421),
        ("user@127.0.0.1", (), 421),
        ("", (), 421),
        ("127.0.0.1:port", (), 421),
    ],
)
def test_hosts(host: str, hosts: tuple[str, ...], status: int) -> None:
    assert request({"host": host}, hosts=hosts)[0] == status


@pytest.mark.parametrize(
    ("origin", "status", "same"),
    [
        ("http://127.0.0.1:9480", 200, True),
        ("https://127.0.0.1:9480", 403, False),
        ("http://127.0.0.1", 403, False),
        ("http://localhost:9480", 403, False),
        ("null", 403, False),
        ("http://127.0.0.1:9480.evil.example", 403, False),
    ],
)
def test_origins(origin: str, status: int, same: bool) -> None:
    found, caller = request({"host": "127.0.0.1:9480", "origin": origin})
    assert found == status
    assert caller is None or caller.same_origin == same


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ("198.51.100.7", (), "192.0.2.9"),  # nobody trusts who says so
        ("198.51.100.7", ("192.0.2.9",), "198.51.100.7"),
        ("203.0.113.1, 198.51.100.7", ("192.0.2.9",), "198.51.100.7"),  # the last one is the proxy's word
        ("198.51.100.7, 192.0.2.8", ("192.0.2.9", "192.0.2.8"), "198.51.100.7"),
        ("nonsense", ("192.0.2.9",), "192.0.2.9"),
        ("", ("192.0.2.9",), "192.0.2.9"),
    ],
)
def test_proxies(forwarded: str, proxies: tuple[str, ...], address: str) -> None:
    headers = {"host": "127.0.0.1", "x-forwarded-for": forwarded, "x-forwarded-proto": "https"}
    status, caller = request(headers, proxies=proxies)
    assert status == 200
    assert caller is not None
    assert (caller.address, caller.secure) == (address, bool(proxies))


def test_bodies_are_bounded() -> None:
    assert request({"host": "127.0.0.1"}, body=bytes(BODY_LIMIT_BYTES))[0] == 200
    assert request({"host": "127.0.0.1"}, body=bytes(BODY_LIMIT_BYTES + 1))[0] == 413


def test_what_comes_too_early_reaches_nothing_behind_the_boundary() -> None:
    host = {"host": "127.0.0.1"}
    assert request(host, wait_s=2.5) == (429, None)
    assert request(host, wait_s=0.0)[0] == 200
    rates = RequestRates(lambda: 1000.0)
    boundary = Boundary(None, (), ("192.0.2.7",), lambda path: None, rates)  # type: ignore[arg-type]
    for address in ("192.0.2.7", "192.0.2.9"):
        for _ in range(BURST + int(RATE_HZ * LONGEST_S) + 2):
            rates.take(address)
    assert boundary.is_flooded_by("192.0.2.9")
    assert not boundary.is_flooded_by("192.0.2.7")  # behind a proxy there are many
    assert not boundary.is_flooded_by("192.0.2.8")
    assert request(host, rates=rates)[0] == 429
