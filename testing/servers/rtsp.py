"""The RTSP server of `rtsp_server.py` on a free port, which can be frozen, killed and started again."""

import os
import selectors
import signal
import subprocess
from pathlib import Path

from testing.requirements import SYSTEM_PYTHON, require
from testing.servers.mosquitto import free_port
from testing.waiting import PATIENCE

SCRIPT = Path(__file__).with_name("rtsp_server.py")


class RtspServer:
    """A server process; a context manager. `options` go to the program; `address` is where it listens."""

    def __init__(self, folder: Path, *options: str, address: str = "127.0.0.1") -> None:
        require("rtsp-server")
        self.port = free_port()
        self.address = address
        self.log = folder / "rtsp.log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, path: str = "/cam", credentials: str = "") -> str:
        scheme = "rtsps" if "--certificate" in self._options else "rtsp"
        return f"{scheme}://{credentials}{self.address}:{self.port}{path}"

    def __enter__(self) -> "RtspServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [SYSTEM_PYTHON, str(SCRIPT), str(self.port), "--address", self.address, *self._options]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(20 * PATIENCE) or self._process.stdout.readline() != b"ready\n":
                self.kill()
                raise AssertionError(f"the RTSP server did not start: {self.log.read_text()}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()  # also ends a frozen one
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def restart(self, *options: str) -> None:
        """Start it again, with other options where some are given."""
        self.kill()
        self._options = options or self._options
        self.start()

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
