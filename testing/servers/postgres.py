"""A real PostgreSQL on a free port of this machine."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from testing.requirements import require
from testing.servers.mosquitto import free_port
from testing.waiting import wait_for

if TYPE_CHECKING:
    from typing_extensions import Self


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's own programs, the newest version's; Debian keeps them outside of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """A server process that everybody on this machine may use as any role; a context manager.

    It does not run as root: there it runs as the user postgres, in a folder of its own that this user can reach.
    """

    def __init__(self) -> None:
        require("postgres")
        programs = postgres_programs()
        assert programs is not None
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        folder = self._folder
        folder.chmod(0o755)
        self._log = folder / "postgres.log"
        self._data = folder / "data"
        self._programs = programs
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        self._data.mkdir(mode=0o700)
        if self._as:
            shutil.chown(self._data, "postgres", "postgres")
        self._run("initdb", "-D", str(self._data), "--auth=trust", "--no-sync", "--username=postgres", "--encoding=UTF8", "--locale=C")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Self":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start the server."""
        with self._log.open("ab") as log:
            command = [
                *self._as,
                str(self._programs / "postgres"),
                "-D",
                str(self._data),
                "-p",
                str(self.port),
                "-h",
                "127.0.0.1",
                "-k",
                "",
            ]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_for(lambda: subprocess.run(ready).returncode == 0, within_s=30, every_s=0.05)

    def kill(self) -> None:
        """End the server at once."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown, which ends its children too
            self._process.wait(60)
            self._process = None

    def address(self, role: str = "postgres", database: str = "postgres") -> str:
        """Return the address of a database for a role."""
        return f"host=127.0.0.1 port={self.port} user={role} dbname={database}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([*self._as, str(self._programs / program), *arguments], capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr
