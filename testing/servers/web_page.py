"""A real `edgepose serve`, a real `edgepose run` with its live page, and a client of them that keeps cookies and codes."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from testing.requirements import require
from testing.waiting import wait_for

if TYPE_CHECKING:
    from edgepose.web.accounts.file import AccountData, Role

Page = TypeVar("Page", bound="WebPage")

PASSWORD = "correct horse battery staple"


class Reply:
    """The answer to a request."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


class WebPage:
    """A server in a process of its own.

    Args:
        folder: of its accounts and results.
        settings: further keys of the configuration.
        host: address to listen on.
        environment: further variables.
    """

    def __init__(
        self, folder: Path, *settings: str, host: str = "127.0.0.1", port: int = 0, environment: Mapping[str, str] | None = None
    ) -> None:
        command = ["serve", "--host", host, "--port", str(port), "--set", f"web.folder={folder}"]
        self._begin(folder, [*command, *(word for setting in settings for word in ("--set", setting))], environment)

    def _begin(self, folder: Path, command: list[str], environment: Mapping[str, str] | None) -> None:
        require("web")
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgepose", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(os.environ) | {"OMP_NUM_THREADS": "1"} | dict(environment or {}),
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.url = wait_for(self._address, within_s=20)
        self.host, self.port = self.url.partition("://")[2].rpartition(":")[::2]

    def __enter__(self: Page) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    @property
    def log(self) -> str:
        """All that it has said."""
        return "".join(self.lines)

    def link(self) -> str:
        """Return the text of the link of the first start."""
        return wait_for(lambda: _text(self.folder / "setup-link"), within_s=20).strip().rpartition("#")[2]

    def rss_kb(self) -> int:
        """Return the resident memory of the server's process."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) if found else 0

    def administrator(self, name: str = "admin") -> "WebClient":
        """Return a client that has set up the page."""
        client = WebClient(self)
        client.use_link(self.link(), name)
        return client

    def account(self, name: str, role: "Role", address: str = "127.0.0.1") -> "WebClient":
        """Return a client of a new account, made on the device as `edgepose accounts add` does."""
        from edgepose.web.accounts.file import INVITATION_S, Account, AccountFile, new_epoch, with_account, with_link

        def change(data: "AccountData") -> "tuple[AccountData, str]":
            return with_link(with_account(data, name, Account(role=role, epoch=new_epoch())), name, INVITATION_S)

        client = WebClient(self, address)
        client.use_link(AccountFile(self.folder).update(change))
        return client

    def _address(self) -> str:
        assert self.process.poll() is None, "".join(self.lines)
        return next((line.split()[1] for line in self.lines if line.startswith("serving ")), "")

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):
            self.lines.extend(self.process.stdout)


class LivePageProcess(WebPage):
    """A daemon in a process of its own, with its live page.

    Args:
        folder: of its accounts, areas and configuration.
        cameras: sources by name; files are played in a loop, at their own speed.
        config: further lines of the configuration.
        settings: further keys, as of `--set`.
    """

    def __init__(self, folder: Path, cameras: Mapping[str, str], config: str = "", *settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config.yaml"
        sources = "".join(f"  {name}: {{source: {source}, loop: true, realtime: true}}\n" for name, source in cameras.items())
        self.config.write_text(
            f"cameras:\n{sources}mqtt: {{enabled: false}}\nmodel: {{threads: 1}}\nrefine: {{people: 0}}\ntiles: {{enabled: false}}\n"
            f"web: {{enabled: true, live_port: 0, folder: {folder}}}\n{config}"
        )
        self._begin(folder, ["run", "--config", str(self.config), *(word for each in settings for word in ("--set", each))], None)

    def _address(self) -> str:
        assert self.process.poll() is None, self.log
        return _text(self.folder / "address").strip() if any("live page on" in line for line in self.lines) else ""


class WebClient:
    """A browser or program, as far as the API can tell.

    Args:
        page: the server.
        address: of the loopback network that it calls from.
    """

    def __init__(self, page: WebPage, address: str = "127.0.0.1") -> None:
        self.page = page
        self.address = address
        self.cookies: dict[str, str] = {}
        self.token = ""
        self.name = ""
        self.secret = ""
        self.recovery_codes: list[str] = []
        self._last_step = 0

    def call(self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None, timeout: float = 120) -> Reply:
        """Send one request and return the answer; `body` is sent as it is where it is bytes, else as JSON."""
        connection = self.connection(timeout)
        sent: dict[str, str] = {"Accept": "application/json"}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            sent["Origin"] = self.page.url
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None and not isinstance(body, bytes):
            sent["Content-Type"], body = "application/json", json.dumps(body).encode()
        try:
            connection.request(method, path, body, sent | dict(headers or {}))
            answer = connection.getresponse()
            reply = Reply(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()
        for name, value in re.findall(r"^([\w-]+)=([^;]*)", reply.headers.get("set-cookie", "")):
            self.cookies[name] = value
        return reply

    def connection(self, timeout: float = 120) -> http.client.HTTPConnection:
        """Return a connection that has sent nothing yet."""
        source = (self.address, 0) if self.page.host in ("127.0.0.1", "localhost") else None
        if self.page.url.startswith("https:"):
            return http.client.HTTPSConnection(
                self.page.host, int(self.page.port), timeout=timeout, context=ssl._create_unverified_context(), source_address=source
            )
        return http.client.HTTPConnection(self.page.host, int(self.page.port), timeout=timeout, source_address=source)

    def use_link(self, link: str, name: str = "") -> Reply:
        """Set up an account through a link."""
        offer = self.call("POST", "/api/v1/setup/begin", {"link": link}).json
        self.secret = offer["secret"]
        self.name = offer["account"] or name
        order = {"link": link, "name": name, "password": PASSWORD, "code": self.code()}
        reply = self.call("POST", "/api/v1/setup/finish", order)
        assert reply.status == 200, reply
        self.recovery_codes = reply.json["recovery_codes"]
        self.add_recovery_codes()
        return reply

    def add_recovery_codes(self) -> None:
        """Give the account more recovery codes than people get, on the device."""
        from msgspec.structs import replace

        from edgepose.web.accounts.file import AccountFile, digest
        from edgepose.web.accounts.one_time_codes import new_recovery_codes

        self.recovery_codes += [code for _ in range(4) for code in new_recovery_codes()]
        digests = tuple(digest(code) for code in self.recovery_codes)
        AccountFile(self.page.folder).update_account(self.name, lambda account: replace(account, recovery=digests))

    def sign_in(self, password: str = PASSWORD, code: str | None = None) -> Reply:
        """Sign in anew."""
        return self.call("POST", "/api/v1/login", {"name": self.name, "password": password, "code": self.fresh() if code is None else code})

    def code(self) -> str:
        """Return the code of now, whether it was used or not."""
        from edgepose.web.accounts.one_time_codes import STEP_S, code_at

        self._last_step = int(time.time() // STEP_S)
        return code_at(self.secret, self._last_step)

    def fresh(self) -> str:
        """Return a code that was not used yet: a recovery code, since nobody waits half a minute for the next time step."""
        return self.recovery_codes.pop()

    def with_token(self, role: str) -> "WebClient":
        """Return a client with a token of this account."""
        reply = self.call("POST", "/api/v1/tokens", {"name": "test", "role": role, "days": 1, "code": self.fresh()})
        assert reply.status == 201, reply
        client = WebClient(self.page, self.address)
        client.name, client.token = self.name, reply.json["token"]
        return client

    def upload(self, content: bytes, name: str = "upload.jpg", **headers: str) -> Reply:
        """Upload a file."""
        from urllib.parse import quote

        return self.call(
            "POST", f"/api/v1/jobs?name={quote(name)}", content, headers={"Content-Type": "application/octet-stream"} | headers
        )

    def socket(self, ticket: str, origin: str | None = None, path: str = "/api/v1/updates", **settings: Any) -> Any:
        """Return an open WebSocket of updates."""
        from websockets.sync.client import connect

        url = self.page.url.replace("http", "ws", 1) + f"{path}?ticket={ticket}"
        return connect(url, origin=origin or self.page.url, proxy=None, open_timeout=30, **settings)  # type: ignore[arg-type]

    def live_socket(self, **settings: Any) -> Any:
        """Return an open WebSocket of the live page."""
        return self.socket(self.call("POST", "/api/v1/tickets").json["ticket"], path="/api/v1/live/updates", **settings)

    def slow_live_socket(self) -> Any:
        """Return one whose client has room for little and that the test does not read."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.bind((self.address, 0))
        connection.connect((self.page.host, int(self.page.port)))
        return self.live_socket(sock=connection, close_timeout=0.1, max_queue=1)

    def finished(self, job: str) -> dict[str, Any]:
        """Return a job once it has ended."""

        def ended() -> dict[str, Any]:
            shown: dict[str, Any] = self.call("GET", f"/api/v1/jobs/{job}").json
            return shown if shown["state"] in ("done", "failed", "canceled") else {}

        return wait_for(ended, within_s=60, every_s=0.1)


def _text(path: Path) -> str:
    from edgepose.encryption.files import state_files
    from edgepose.web.accounts.file import KIND

    try:
        return state_files().load(path, KIND).decode()
    except OSError:
        return ""
