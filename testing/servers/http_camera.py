"""An HTTP camera of a test: `with HttpCamera({"/snap.jpg": answer}) as camera`, on any address of this host, with TLS where wanted."""

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self needs Python 3.11

Answer = Callable[["Visit"], None]


class Visit(http.server.BaseHTTPRequestHandler):
    """One request; `send` answers it."""

    protocol_version = "HTTP/1.1"
    answers: Mapping[str, Answer]
    seen: list["Visit"]

    def do_GET(self) -> None:
        self.seen.append(self)
        answer = self.answers.get(self.path.partition("?")[0]) or self.answers.get("*")
        self.close_connection = True
        if answer is None:
            self.send_error(404)
            return
        with contextlib.suppress(OSError):  # the visitor has had enough
            answer(self)

    def send(self, status: int = 200, body: bytes | Iterator[bytes] = b"", **headers: str) -> None:
        """Send an answer; `content_type="image/jpeg"` is a header. A body of several pieces has no length."""
        self.send_response(status)
        if isinstance(body, bytes):
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        for piece in [body] if isinstance(body, bytes) else body:
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class HttpCamera:
    """A server; a context manager.

    Args:
        answers: what each path answers; `*` stands for all others.
        address: where it listens.
        certificate: certificate and key; with them it speaks https.
    """

    def __init__(self, answers: Mapping[str, Answer], address: str = "127.0.0.1", certificate: tuple[Path, Path] | None = None) -> None:
        self.visits: list[Visit] = []
        handler = type("Handler", (Visit,), {"answers": answers, "seen": self.visits})

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server((address, 0), handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_port
        self._scheme = "http" if certificate is None else "https"
        self._address = f"[{address}]" if ":" in address else address

    def url(self, path: str, *, credentials: str = "", host: str = "") -> str:
        return f"{self._scheme}://{credentials}{host or self._address}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        return [visit.path for visit in list(self.visits)]

    def __enter__(self) -> "Self":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def gray_jpeg(level: int, size: tuple[int, int] = (96, 64), suffix: str = ".jpg") -> bytes:
    """Return a picture of one gray level, by which it is known again."""
    done, encoded = cv2.imencode(suffix, np.full((size[1], size[0], 3), level, np.uint8))
    assert done
    return encoded.tobytes()


def resized_jpeg(width: int, height: int, *, progressive: bool = False) -> bytes:
    """Return a small JPEG whose header claims another size."""
    done, encoded = cv2.imencode(".jpg", np.full((64, 96, 3), 99, np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])
    assert done
    content = bytearray(encoded.tobytes())
    at = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(content)
