"""A receiver of webhooks: an HTTP or HTTPS server that answers as it is told, and keeps the requests that it accepted."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from testing.servers.mosquitto import free_port
from testing.servers.quiet_http import QuietHandler, serve


class WebhookReceiver:
    """A server on a free port; a context manager, which may be entered again.

    Args:
        certificate: paths of certificate and key; None serves http.

    Attributes:
        answers: what the next requests get: a status; seconds to wait before 200 (negative); or `drip`, which sends a byte now and then.
            Once they are used up, 200.
        events: bodies of the requests that got 200.
        headers: theirs.
        requests: number of requests.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.port = free_port()
        self.answers: list[int | float | str] = []
        self.events: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.requests = 0
        self.retry_after = ""
        self._certificate = certificate
        self._leaving = threading.Event()

    @property
    def url(self) -> str:
        return f"{'http' if self._certificate is None else 'https'}://localhost:{self.port}/hook?key=secret-path"

    def __enter__(self) -> "WebhookReceiver":
        receiver = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802 (the name that http.server calls)
                receiver._take(self)

        self._leaving.clear()
        self._server = serve(self.port, Handler, self._certificate)
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.requests += 1
        answer = self.answers.pop(0) if self.answers else 200
        if answer == "drip":
            while not self._leaving.wait(0.05):
                try:
                    request.wfile.write(b"H")
                except OSError:
                    return
        if isinstance(answer, float):
            time.sleep(answer)
            answer = 200
        if answer == 200:
            self.bodies.append(body)
            self.events.append(json.loads(body))
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
        try:
            request.send_response(int(answer))
            if self.retry_after:
                request.send_header("Retry-After", self.retry_after)
            request.send_header("Content-Length", "0")
            request.end_headers()
        except OSError:
            pass
