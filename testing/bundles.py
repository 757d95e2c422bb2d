"""Bundles, keys and a server of files for tests."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt import publish

from edgepose.bundles.manifest import BundleFile, Manifest
from edgepose_export.cli.bundle import signed
from testing.onnx_files import write_edgepose
from testing.servers.certificates import Authority
from testing.servers.daemon import Daemon, Listener, running
from testing.servers.mosquitto import Mosquitto, free_port
from testing.servers.quiet_http import QuietHandler, serve
from testing.videos import write_video
from testing.waiting import wait_for

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def public_keys(*keys: Ed25519PrivateKey) -> bytes:
    """Return a file of public keys."""
    return b"".join(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys or (KEY,))


def write_keys(path: Path, *keys: Ed25519PrivateKey) -> Path:
    """Write a file of public keys."""
    path.write_bytes(public_keys(*keys))
    return path


def manifest(number: int, configuration: str = "", files: tuple[BundleFile, ...] = (), **fields: Any) -> Manifest:
    """Return a manifest for the device `drone`."""
    return Manifest(schema=1, number=number, configuration=configuration, files=list(files), **(fields or {"devices": ["drone"]}))


def message(number: int, configuration: str = "", files: tuple[BundleFile, ...] = (), **fields: Any) -> bytes:
    """Return a signed message for the device `drone`."""
    return signed(manifest(number, configuration, files, **fields), KEY)


def reference(name: str, url: str, data: bytes) -> BundleFile:
    """Return a reference to a file."""
    return BundleFile(name=name, url=url, size=len(data), sha256=hashlib.sha256(data).hexdigest())


class FileServer:
    """An https server of files; a context manager.

    Args:
        folder: of its certificate.

    Attributes:
        files: what it serves, by path: bytes; a status; a URL that it redirects to; or what writes an answer itself.
        requests: paths and headers, as received.
        ca_file: certificate to trust.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.files: dict[str, bytes | int | str | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.leaving = threading.Event()
        authority = Authority(folder)
        self.ca_file = authority.certificate
        self._certificate = authority.issue("files", host="localhost")

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def put(self, name: str, data: bytes) -> BundleFile:
        """Serve a file and return a reference to it."""
        self.files[f"/{name}"] = data
        return reference(name, f"{self.url}/{name}", data)

    def __enter__(self) -> "FileServer":
        server = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:  # noqa: N802 (the name that http.server calls)
                server.requests.append((self.path, dict(self.headers)))
                answer = server.files.get(self.path.partition("?")[0], 404)
                if callable(answer):
                    answer(self)
                    return
                self.send_response(200 if isinstance(answer, bytes) else answer if isinstance(answer, int) else 302)
                if isinstance(answer, str):
                    self.send_header("Location", answer)
                body = answer if isinstance(answer, bytes) else b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = serve(self.port, Handler, self._certificate)
        return self

    def __exit__(self, *_: object) -> None:
        self.leaving.set()
        self._server.shutdown()
        self._server.server_close()

    def slowly(self, data: bytes, every_s: float) -> Callable[[BaseHTTPRequestHandler], None]:
        """Return an answer that sends byte by byte."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            for byte in data:
                if self.leaving.wait(every_s):
                    return
                try:
                    request.wfile.write(bytes([byte]))
                except OSError:
                    return

        return answer

    def cut(self, data: bytes, length: int) -> Callable[[BaseHTTPRequestHandler], None]:
        """Return an answer that ends early."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data[:length])
            request.close_connection = True

        return answer


class Fleet:
    """A broker, a file server, and a device that takes bundles."""

    def __init__(self, folder: Path, broker: Mosquitto, server: FileServer) -> None:
        self.folder, self.broker, self.server = folder, broker, server
        write_keys(folder / "fleet.pub")
        write_edgepose(folder / "tiny.onnx")
        write_video(folder / "front.mp4")
        self.other = write_edgepose(folder / "other.onnx", metadata={"edgepose.license": "another"}).read_bytes()

    def configuration(self, trial_s: float = 20) -> str:
        return (
            f"device: drone\ncameras: {{front: {{source: front.mp4, loop: true, realtime: true}}}}\nmodel: {{path: tiny.onnx}}\n"
            "refine: {people: 0}\n"
            f"mqtt: {{host: 127.0.0.1, port: {self.broker.port}}}\nhealth: {{interval_s: 0.3}}\n"
            f"bundles: {{enabled: true, keys_file: fleet.pub, groups: [night], folder: bundles, ca_file: {self.server.ca_file},"
            f" trial_s: {trial_s:g}, fetch_within_s: 1, size_limit_mb: 1, pinned: [privacy]}}\n"
        )

    def publish(self, payload: bytes, topic: str = "edgepose/drone/bundle/new", *, retain: bool = True) -> None:
        publish.single(topic, payload, 1, retain, "127.0.0.1", self.broker.port)

    @contextmanager
    def device(self, trial_s: float = 20) -> Iterator[tuple[Daemon, Listener]]:
        with running(self.folder, self.broker, self.configuration(trial_s)) as (daemon, heard):
            wait_for(lambda: heard.on("bundle"), within_s=20)
            yield daemon, heard

    def record(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "bundles" / "audit.jsonl").read_text().splitlines()]


def last(heard: Listener) -> dict[str, Any]:
    return {key: value for key, value in heard.on("bundle")[-1].items() if key not in ("at", "schema", "key")}


def states(heard: Listener) -> list[str]:
    found = [each["state"] for each in heard.on("bundle")]
    return [state for index, state in enumerate(found) if index == 0 or state != found[index - 1]]


def works(heard: Listener) -> None:
    """Wait for frames from now on."""
    seen = len(heard.on("cameras/front/poses"))
    wait_for(lambda: len(heard.on("cameras/front/poses")) > seen + 3)
