"""The files of a bundle, from a server over https or from a folder of the device: bounded in size and time, hashed as they are read.

What an attempt got is thrown away when it fails. Addresses may hold secrets, so messages name only scheme, host and port.
"""

import base64
import hashlib
import http.client
import os
import socket
import ssl
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from edgepose import __version__
from edgepose.bundles.durable import open_new, sync
from edgepose.bundles.manifest import BundleFile
from edgepose.errors import ConfigError, EdgeposeError, OutputError, UnavailableError
from edgepose.supervision.socket_deadline import SocketDeadline

_CHUNK_BYTES = 64 * 1024
_STEP_S = 20.0  # longest silence of a server
_REDIRECTS = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_REDIRECTED = (301, 302, 303, 307, 308)
_TRY_AGAIN = (408, 425, 429)  # of the answers that are the client's fault


class _CancelledError(EdgeposeError):
    """A fetch that nobody wants any more."""


class _Readable(Protocol):
    def read(self, limit: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Where files may come from, and how long that may take.

    Attributes:
        tls: verifies servers.
        media_folder: below which `file:` URLs lie; None refuses them.
        within_s: longest duration of all attempts for all files of one bundle.
        first_wait_s: wait after the first failure; later ones grow.
    """

    tls: ssl.SSLContext
    media_folder: Path | None
    within_s: float
    first_wait_s: float = _FIRST_WAIT_S

    @classmethod
    def of(cls, ca_file: str | None, media_folder: str | None, within_s: float) -> "FetchSettings":
        """Return settings of configured values; ConfigError where the CA certificates cannot be read."""
        try:
            tls = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"bundles.ca_file: {ca_file} cannot be used: {reason}; expected a file of PEM certificates") from error
        return cls(tls, None if media_folder is None else Path(media_folder), within_s)


class Fetching:
    """The fetching of one bundle's files, from a thread that may be told to give up.

    Attributes:
        fetched_bytes: of all files so far.
        trouble: why the last attempt failed; None while none did.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._ends_s = time.monotonic() + settings.within_s
        self._cancelled = threading.Event()
        self.fetched_bytes = 0
        self.trouble: str | None = None

    def cancel(self) -> None:
        """Give up at the next opportunity; from any thread."""
        self._cancelled.set()

    def fetch(self, file: BundleFile, place: Path) -> None:
        """Write a file to `place`, and to the disk.

        Raises:
            ConfigError: it is refused for good: its address, length or hash is wrong, or the server does not have it.
            UnavailableError: nobody delivered it in time, or it is not wanted any more.
            OutputError: it cannot be written.
        """
        wait_s = self._settings.first_wait_s
        before = self.fetched_bytes
        while True:
            try:
                self._attempt(file, place)
                return
            except UnavailableError as error:
                self.trouble = str(error)
                self.fetched_bytes = before
                left_s = self._ends_s - time.monotonic()
                if left_s <= wait_s:
                    raise UnavailableError(f"{error}; gave up after {self._settings.within_s:g} s (bundles.fetch_within_s)") from error
                if self._cancelled.wait(wait_s):
                    raise UnavailableError(f"{file.name} is not fetched any more: a newer bundle has arrived") from error
                wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)
            except _CancelledError as error:
                raise UnavailableError(f"{file.name} is not fetched any more: a newer bundle has arrived") from error

    def copy(self, file: BundleFile, known: Path, place: Path) -> bool:
        """Copy what is on the device already, where it is the same file; return whether it is.

        Not a link: what damages the one must not damage the other.
        """
        before = self.fetched_bytes
        try:
            if known.stat().st_size == file.size:
                with known.open("rb") as source, open_new(place) as output:
                    self._copy(file, source, output)
                    sync(output)
                return True
        except (OSError, EdgeposeError):
            self.fetched_bytes = before
        return False

    def _attempt(self, file: BundleFile, place: Path) -> None:
        url = _split(file.url, file.name)
        try:
            output = open_new(place)
        except OSError as error:
            raise _unwritable(place, error) from error
        with output:
            if url.scheme == "file":
                self._copy_local(file, url, output)
            else:
                self._download(file, url, output)
            try:
                sync(output)
            except OSError as error:
                raise _unwritable(place, error) from error

    def _copy_local(self, file: BundleFile, url: SplitResult, output: BinaryIO) -> None:
        folder = self._settings.media_folder
        if folder is None:
            raise ConfigError(f"{file.name} has a file: URL, and this device has no bundles.media_folder; expected https://")
        path = Path(os.path.realpath(unquote(url.path)))
        if url.netloc not in ("", "localhost") or not path.is_relative_to(os.path.realpath(folder)):
            raise ConfigError(f"{file.name} has a file: URL outside bundles.media_folder; expected a file below {folder}")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as source:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ConfigError(f"{file.name}: what its file: URL names is not a file; expected a regular file")
                self._copy(file, source, output)
        except OSError as error:
            raise UnavailableError(
                f"{file.name} cannot be read below {folder}: {error.strerror}; expected a readable file there"
            ) from error

    def _download(self, file: BundleFile, url: SplitResult, output: BinaryIO) -> None:
        for _ in range(_REDIRECTS + 1):
            moved = self._request(file, url, output)
            if moved is None:
                return
            url = moved
        raise ConfigError(f"{_shown(url)} redirects {file.name} again and again; expected at most {_REDIRECTS} redirects")

    def _request(self, file: BundleFile, url: SplitResult, output: BinaryIO) -> SplitResult | None:
        """Download from one address; return where it moved to instead."""
        where, host, port = _shown(url), url.hostname or "", url.port or 443
        deadline: SocketDeadline | None = None
        try:
            step_s = max(0.1, min(_STEP_S, self._ends_s - time.monotonic()))
            with SocketDeadline(socket.create_connection((host, port), step_s), self._ends_s) as deadline:
                secure = self._settings.tls.wrap_socket(deadline.sock, server_hostname=host, do_handshake_on_connect=False)
                deadline.watch(secure)
                secure.do_handshake()
                connection = http.client.HTTPConnection(host, port)
                connection.sock = secure
                connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=_headers(url))
                answer = connection.getresponse()
                if answer.status in _REDIRECTED:
                    return _split(urljoin(url.geturl(), answer.getheader("Location", "")), file.name, local=False)
                self._read_answer(file, where, answer, output)
                return None
        except ssl.SSLCertVerificationError as error:
            words = f"{where} has a certificate that is not trusted: {error.verify_message}"
            raise UnavailableError(f"{words}; expected one that bundles.ca_file or the system trusts") from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a socket that was closed meanwhile
            late = isinstance(error, TimeoutError) or (deadline is not None and deadline.passed)
            why = "no answer in time" if late else getattr(error, "strerror", None) or type(error).__name__
            raise UnavailableError(f"{where} does not deliver {file.name}: {why}; expected a server that answers") from error

    def _read_answer(self, file: BundleFile, where: str, answer: http.client.HTTPResponse, output: BinaryIO) -> None:
        if answer.status != 200:
            sentence = f"{where} answers {answer.status} for {file.name}; expected 200"
            raise (UnavailableError if answer.status >= 500 or answer.status in _TRY_AGAIN else ConfigError)(sentence)
        if answer.length is not None and answer.length != file.size:
            raise ConfigError(f"{where} has {answer.length} bytes of {file.name}; expected {file.size}, as the bundle says")
        self._copy(file, answer, output)

    def _copy(self, file: BundleFile, source: _Readable, output: BinaryIO) -> None:
        digest, length = hashlib.sha256(), 0
        while chunk := source.read(min(_CHUNK_BYTES, file.size + 1 - length)):
            length += len(chunk)
            if length > file.size:
                raise ConfigError(f"{file.name} is longer than {file.size} bytes; expected the length that the bundle says")
            if self._cancelled.is_set():
                raise _CancelledError
            digest.update(chunk)
            try:
                output.write(chunk)
            except OSError as error:
                raise OutputError(f"{file.name} cannot be written: {error.strerror}; expected space in bundles.folder") from error
            self.fetched_bytes += len(chunk)
        if length < file.size:
            raise UnavailableError(f"only {length} of {file.size} bytes of {file.name} arrived; expected all")
        if digest.hexdigest() != file.sha256:
            raise ConfigError(f"{file.name} has the SHA-256 {digest.hexdigest()[:16]}…; expected {file.sha256[:16]}…, as the bundle says")


def refuse_urls(files: list[BundleFile]) -> None:
    """Raise ConfigError where an address is neither https:// nor file:."""
    for file in files:
        _split(file.url, file.name)


def _split(url: str, name: str, *, local: bool = True) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_remote = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
        good = is_remote or (local and parts.scheme == "file" and bool(parts.path))
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"the address of {name} is not accepted; expected https:// with a host, or file:// below bundles.media_folder")
    return parts


def _headers(url: SplitResult) -> dict[str, str]:
    host = url.netloc.rpartition("@")[2]
    headers = {"Host": host, "User-Agent": f"edgepose/{__version__}", "Accept-Encoding": "identity", "Connection": "close"}
    if url.username is not None:
        login = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    return headers


def _shown(url: SplitResult) -> str:
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


def _unwritable(place: Path, error: OSError) -> OutputError:
    return OutputError(f"{place} cannot be written: {error.strerror}; expected space in bundles.folder")
