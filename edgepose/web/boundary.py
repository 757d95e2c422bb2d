"""The boundary that every request passes first: which host it names, where it comes from, how large it is; and the headers of each answer.

Host and Origin are compared with allow-lists on the loopback too: a page elsewhere can make a browser call 127.0.0.1 (DNS rebinding,
cross-site requests and WebSockets).
"""

import asyncio
import ipaddress
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from edgepose.config.addresses import is_address, is_loopback
from edgepose.web.request_rate import RequestRates

BODY_LIMIT_BYTES = 64 * 1024
"""Largest body of every request but an upload."""

BODY_S = 15.0
"""Longest time for such a body."""

UPLOADS = "/api/v1/jobs"

_TOO_FAST = 429, "too many requests of this address wait already; expected fewer at a time"

_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; font-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), usb=()"),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from, as far as it can be believed.

    Attributes:
        address: of the network; that of the browser where a trusted proxy names it.
        secure: whether the browser's connection is encrypted.
        origin: scheme, host and port of this page, as the browser sees it.
        same_origin: whether the request says that a page of this origin made it.
    """

    address: str
    secure: bool
    origin: str
    same_origin: bool


class Boundary:
    """An ASGI application around another one."""

    def __init__(
        self,
        inner: Callable[..., Awaitable[None]],
        hosts: Sequence[str],
        proxies: Sequence[str],
        closed: Callable[[str], str | None],
        rates: RequestRates | None = None,
        early: Callable[[str, str], float] = lambda address, path: 0.0,
    ) -> None:
        """
        Args:
            inner: the application.
            hosts: names by which browsers may reach the page, beside `localhost` and the address that they connect to.
            proxies: addresses whose forwarding headers are believed.
            closed: returns why a path cannot be used now, None where it can.
            rates: of the requests of an address; None for any.
            early: returns how long an address has to wait before a path is served, seconds; 0 for not at all.
        """
        self._inner = inner
        self._hosts = frozenset(host.rstrip(".").lower() for host in hosts)
        self._proxies = frozenset(ipaddress.ip_address(proxy) for proxy in proxies)
        self._closed = closed
        self._rates = rates
        self._early = early

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._inner(scope, receive, send)
            return
        headers = _Headers(scope["headers"])
        address, secure = self._seen_from(scope, headers)
        wait_s = 0.0 if self._rates is None else self._rates.take(address)
        if wait_s:
            await asyncio.sleep(wait_s)
        refused = _TOO_FAST if wait_s is None else self._refused(scope, headers, secure)
        if refused is not None:
            await _refuse(scope, receive, send, *refused)
            return
        retry_s = self._early(address, scope["path"])
        if retry_s > 0:
            sentence = f"too many failed attempts; expected the next one in {retry_s:.0f} s or later"
            await _refuse(scope, receive, send, 429, sentence, limit="attempts", retry_s=retry_s)
            return
        origin = f"{'https' if secure else 'http'}://{headers.one('host').lower()}"
        same = headers.one("origin").lower() == origin or headers.one("sec-fetch-site") == "same-origin"
        scope.setdefault("state", {})["caller"] = Caller(address, secure, origin, same)
        is_upload = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == UPLOADS
        await self._inner(scope, receive if is_upload or scope["type"] != "http" else _Bounded(receive), _with_headers(send, scope["path"]))

    def is_flooded_by(self, address: str) -> bool:
        """Return whether a connection of an address is not worth reading: as many of its requests wait already as may."""
        return self._rates is not None and not self._is_proxy(address) and self._rates.is_full(address)

    def _seen_from(self, scope: _Scope, headers: "_Headers") -> tuple[str, bool]:
        """Return address and encryption of the browser."""
        address = (scope.get("client") or ("unknown", 0))[0]
        secure = scope["scheme"] in ("https", "wss")
        if not self._is_proxy(address):
            return address, secure
        forwarded = [part.strip() for value in headers.all("x-forwarded-for") for part in value.split(",")]
        for each in reversed(forwarded):
            if not is_address(each):
                break
            address = each
            if not self._is_proxy(each):
                break
        return address, secure or headers.one("x-forwarded-proto") == "https"

    def _is_proxy(self, address: str) -> bool:
        return is_address(address) and ipaddress.ip_address(address) in self._proxies

    def _refused(self, scope: _Scope, headers: "_Headers", secure: bool) -> tuple[int, str] | None:
        hosts = headers.all("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0], scope.get("server")):
            return 421, "this host name is not served here; expected the address of this device, or a name in web.allowed_hosts"
        origins = headers.all("origin")
        own = f"{'https' if secure else 'http'}://{hosts[0].lower()}"
        if len(origins) > 1 or (origins and origins[0].lower() != own):
            return 403, "this request comes from a page of another origin; expected one of this page"
        why = self._closed(scope["path"])
        return None if why is None else (503, why)

    def _is_ours(self, host: str, server: tuple[str, int] | None) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            return False
        if parts.netloc != host or "@" in host or not name:
            return False
        here = server[0] if server else ""
        if is_loopback(name) or (is_address(name) and is_address(here.partition("%")[0]) and name == here):
            return not name.endswith(".localhost")
        return name in self._hosts


class _Headers:
    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self._raw if key == name.encode()]

    def one(self, name: str) -> str:
        return next(iter(self.all(name)), "")


class _Bounded:
    """A receiver of bodies that are small and come soon."""

    def __init__(self, receive: _Receive) -> None:
        self._receive = receive
        self._left = BODY_LIMIT_BYTES
        self._is_complete = False

    async def __call__(self) -> dict[str, Any]:
        if self._is_complete:  # now it waits for the caller to leave
            return await self._receive()
        with suppress(asyncio.TimeoutError):
            message = await asyncio.wait_for(self._receive(), BODY_S)
            self._left -= len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
            if self._left >= 0:
                return message
        self._is_complete = True
        return {"type": "http.disconnect"}


def _with_headers(send: _Send, path: str) -> _Send:
    async def sent(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [(key, value) for key, value in message.get("headers", []) if key.lower() != b"server"]
            if not any(key.lower() == b"cache-control" for key, _ in headers):
                headers.append((b"cache-control", b"no-cache" if path.startswith("/static/") else b"no-store"))
            message = message | {"headers": [*headers, *_HEADERS]}
        await send(message)

    return sent


async def _refuse(
    scope: _Scope, receive: _Receive, send: _Send, status: int, sentence: str, *, limit: str | None = None, retry_s: float = 0.0
) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4403, "reason": sentence[:100]})
        return
    wants_page = "text/html" in _Headers(scope["headers"]).one("accept")
    fields = {"error": sentence} | ({"limit": limit} if limit is not None else {})
    body = _page(sentence) if wants_page else json.dumps(fields).encode()
    kind = b"text/html; charset=utf-8" if wants_page else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    if retry_s > 0:
        headers.append((b"retry-after", str(math.ceil(retry_s)).encode()))
    await _with_headers(send, scope["path"])({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _page(sentence: str) -> bytes:
    """Return a page that says why, without script and without anything of the caller's."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>edgepose</title><link rel="stylesheet" href="/static/style.css"><main class="narrow"><h1>edgepose</h1>'
        f'<p class="notice">{sentence[:1].upper()}{sentence[1:]}.</p></main></html>'
    ).encode()
