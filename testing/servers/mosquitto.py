"""A real mosquitto on a free port, which can be frozen, killed and started again."""

import contextlib
import os
import random
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from testing.requirements import find_program, require
from testing.waiting import wait_for_port

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self needs Python 3.11


_FIRST_PORT, _LAST_PORT, _SHARES = 15000, 32000, 8
_draw = random.SystemRandom()  # Hypothesis seeds the module's own generator
_given: set[int] = set()


def free_port() -> int:
    """Return a free port that this function has not returned before.

    It is below the ports that the system gives to clients: a client that tries again and again to reach a stopped server could be given
    that very port, connect to itself, and keep the server from starting. Processes of one test run draw from ranges of their own.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    width = (_LAST_PORT - _FIRST_PORT) // _SHARES
    while True:
        port = _FIRST_PORT + share * width + _draw.randrange(width)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class Mosquitto:
    """A broker process; a context manager.

    Args:
        folder: of its files.
        users: passwords by name; nobody else may connect.
        tls: paths of CA, certificate and key.
        lines: more lines of its configuration.
        address: where it listens.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: dict[str, str] | None = None,
        tls: tuple[Path, Path, Path] | None = None,
        lines: str = "",
        address: str = "127.0.0.1",
    ):
        require("mosquitto")
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        configuration = f"listener {self.port} {address}\nuser root\npersistence false\nlog_dest stderr\n{lines}\n"
        if users is None:
            configuration += "allow_anonymous true\n"
        else:
            passwords = folder / "passwords"
            passwords.touch(mode=0o600)
            for name, password in users.items():
                subprocess.run(["mosquitto_passwd", "-b", str(passwords), name, password], check=True, capture_output=True)
            configuration += f"allow_anonymous false\npassword_file {passwords}\n"
        if tls is not None:
            configuration += "cafile {}\ncertfile {}\nkeyfile {}\n".format(*tls)
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(configuration)

    def __enter__(self) -> "Self":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [find_program("mosquitto") or "mosquitto", "-c", str(self._configuration)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for_port(self._process, self.port, self.log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()  # also ends a frozen one
            self._process.wait(10)
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
