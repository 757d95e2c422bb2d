"""Two real ejabberd nodes that form a cluster and speak MQTT, on two addresses of the loopback and one port."""

import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from testing.requirements import find_program, require
from testing.servers.mosquitto import free_port
from testing.waiting import wait_for, wait_for_port

if TYPE_CHECKING:
    from typing_extensions import Self

_EVALUATE_S = 30

ADDRESSES = ("127.0.0.1", "127.0.0.2")

_CONFIGURATION = """
loglevel: warning
hosts: [localhost]
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
listen:
  - port: {port}
    ip: "{address}"
    module: mod_mqtt
    backlog: 4096
modules:
  mod_mqtt:
    session_expiry: 1 day
    max_queue: 50000
"""


class EjabberdCluster:
    """Two nodes; a context manager. A client logs in as `NAME@localhost` with any password, at `ADDRESSES[n]` and `port`.

    Args:
        folder: of their files.
    """

    def __init__(self, folder: Path) -> None:
        require("ejabberd")
        self.port = free_port()
        self._folder = folder
        self._environment = dict(os.environ) | {
            "ERL_LIBS": str(next(Path("/usr/lib").glob("*/ejabberd-*/ebin")).parents[1]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
            "HOME": str(folder),
        }
        self._cookie = secrets.token_hex(16)
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Self":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait(10)

    def kill(self, node: int) -> None:
        """End a node at once (SIGKILL)."""
        self._processes[1 + node].kill()
        self._processes[1 + node].wait(10)

    def memory_mb(self, node: int) -> float:
        """Return the resident memory of a node, megabytes."""
        pages = Path(f"/proc/{self._processes[1 + node].pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    @staticmethod
    def version() -> str:
        """Return the version of ejabberd."""
        return next(Path("/usr/lib").glob("*/ejabberd-*/ebin")).parent.name.removeprefix("ejabberd-")

    def _start(self) -> None:
        epmd = [find_program("epmd") or "epmd", "-address", "127.0.0.1", "-port", self._environment["ERL_EPMD_PORT"]]
        self._processes.append(subprocess.Popen(epmd, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for number, address in enumerate(ADDRESSES):
            folder = self._folder / f"node{number}"
            folder.mkdir()
            (folder / "ejabberd.yml").write_text(_CONFIGURATION.format(port=self.port, address=address))
            environment = self._environment | {
                "EJABBERD_CONFIG_PATH": str(folder / "ejabberd.yml"),
                "EJABBERD_LOG_PATH": str(folder / "ejabberd.log"),
            }
            database = ["-mnesia", "dir", f'"{folder / "mnesia"}"']
            with (folder / "output.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(self._erl(f"node{number}", *database, "-s", "ejabberd"), env=environment, stdout=log, stderr=log)
                )
        for number, address in enumerate(ADDRESSES):
            self._wait_for(number, address)
        nodes = 'A = list_to_atom("node0@127.0.0.1"), B = list_to_atom("node1@127.0.0.1")'
        started = ", ".join(f"true = lists:keymember(ejabberd, 1, rpc:call({node}, application, which_applications, []))" for node in "AB")
        wait_for(lambda: self._evaluate(f"{nodes}, {started}"), within_s=30, every_s=0.5)
        joined = f"{nodes}, 2 = length(rpc:call(A, ejabberd_cluster, get_nodes, []))"
        join = f"{nodes}, ok = rpc:call(B, ejabberd_cluster, join, [A])"
        wait_for(lambda: self._evaluate(join) or self._evaluate(joined), within_s=30, every_s=0.5)
        wait_for(lambda: self._evaluate(f"{joined}, {started}"), within_s=30, every_s=0.5)
        self._wait_for(1, ADDRESSES[1])  # joining restarts it

    def _wait_for(self, number: int, address: str) -> None:
        wait_for_port(self._processes[1 + number], self.port, self._folder / f"node{number}" / "output.log", within_s=30, address=address)

    def _erl(self, name: str, *arguments: str) -> Sequence[str]:
        erl = [find_program("erl") or "erl", "-noinput", "-name", f"{name}@127.0.0.1", "-setcookie", self._cookie, "-start_epmd", "false"]
        return [*erl, "-kernel", "inet_dist_use_interface", "{127,0,0,1}", *arguments]

    def _evaluate(self, expression: str) -> bool:
        """Run an expression that may use both nodes; False where it does not match."""
        code = f"case catch (begin {expression} end) of {{'EXIT', _}} -> halt(1); _ -> halt(0) end."
        try:
            return (
                subprocess.run(self._erl("control", "-hidden", "-eval", code), env=self._environment, timeout=_EVALUATE_S).returncode == 0
            )
        except subprocess.TimeoutExpired:
            return False
