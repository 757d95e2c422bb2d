"""HTTP and HTTPS servers for tests that answer in threads and print nothing."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class QuietHandler(BaseHTTPRequestHandler):
    """A handler without a log."""

    def log_message(self, *_: object) -> None:
        pass


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        pass


def serve(port: int, handler: type[QuietHandler], certificate: tuple[Path, Path] | None = None) -> ThreadingHTTPServer:
    """Return a server on a port of the loopback that has begun; with paths of certificate and key it serves https."""
    server = _QuietServer(("127.0.0.1", port), handler)
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server
