"""A real systemd as first process of its own namespaces, on an overlay of this machine, with the network of this machine.

All that is written inside goes to memory and is gone afterwards, with its processes, mounts and cgroups, even when the test run is killed.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from testing.requirements import MissingRequirementError, find_program, missing
from testing.waiting import wait_for

CGROUPS = Path("/sys/fs/cgroup")
_BOOT = Path(__file__).with_name("systemd_boot.sh")
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREFIX = "edgepose-test-"


@cache
def why_not() -> str | None:
    """Return why there can be no systemd here, or None."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    if (reason := missing("systemd")) is not None:
        return reason
    tools = [tool for tool in ("unshare", "nsenter", "setpriv", "pivot_root") if find_program(tool) is None]
    if tools:
        return f"{', '.join(tools)} is not installed (Debian package util-linux)"
    layers = "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work"
    script = f"mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root && mount -t overlay overlay -o {layers} /mnt/root"
    flags = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
    tried = subprocess.run(["unshare", *flags, "sh", "-c", script], capture_output=True, text=True, timeout=30)
    if tried.returncode != 0:
        return f"namespaces with an overlay are not allowed here: {tried.stderr.strip()}"
    return None


class Systemd:
    """A booted systemd; a context manager.

    Args:
        folder: of the console and the files to boot with.
        shared: folders of this machine by their paths inside, writable.
        tpm: value of `SYSTEMD_TPM2_DEVICE` of its first process, which opens credentials; empty for none.
    """

    def __init__(self, folder: Path, shared: Mapping[str, Path], tpm: str = "") -> None:
        self.name = f"{_PREFIX}{os.getpid()}-{time.monotonic_ns() % 10**9}"
        self.console = folder / "console.log"
        self._folder = folder
        self._shared = shared
        self._tpm = tpm
        self._cgroups: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None
        if (reason := why_not()) is not None:
            raise MissingRequirementError(reason)
        self._first = 0  # its first process, as this machine numbers it

    def __enter__(self) -> "Systemd":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, *command: str, within_s: float = 60.0, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root; fail with its output where its exit code is not 0."""
        namespaces = ["nsenter", f"--target={self._first}", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd"]
        environment = [f"{name}={value}" for name, value in {"PATH": _PATH, "SYSTEMD_PAGER": "", "HOME": "/root", **variables}.items()]
        whole = [*namespaces, "--", "env", "-i", *environment, *command]
        done = subprocess.run(whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within_s)
        assert not check or done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def shell(self, script: str, within_s: float = 60.0) -> str:
        """Return the standard output of a shell script that must succeed."""
        return self.run("sh", "-euc", script, within_s=within_s).stdout

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit, such as `NRestarts`."""
        return self.run("systemctl", "show", unit, "--property", name, "--value").stdout.strip()

    def journal(self, unit: str) -> str:
        """Return the journal of a unit, with systemd's lines about it."""
        return self.run("journalctl", "--no-pager", "-o", "short-monotonic", "-u", unit).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside, with the folders above it."""
        inside = ["nsenter", f"--target={self._first}", "--mount", "--root", "--wd", "--"]
        script = f'mkdir -p "$(dirname "$1")"; umask 077; cat > "$1"; chmod {mode:o} "$1"'
        subprocess.run([*inside, "sh", "-euc", script, "sh", path], input=text, text=True, check=True, timeout=30)

    def kill(self, unit: str, name: str) -> int:
        """Send a signal to the main process of a unit; return its process number inside."""
        number = int(self.show(unit, "MainPID"))
        self.run("kill", f"-{name}", str(number))
        return number

    def cgroup(self, unit: str, controller: str) -> Path:
        """Return the folder of a unit's cgroup on this machine."""
        inside = self.show(unit, "ControlGroup").lstrip("/")
        return next((group / inside for group in self._cgroups if group.is_relative_to(CGROUPS / controller)), self._cgroups[0] / inside)

    def _start(self) -> None:
        sweep()
        (self._folder / "tree").mkdir(parents=True)
        hierarchies = _hierarchies()
        (self._folder / "cgroups").write_text("".join(f"{name}\n" for name in hierarchies))
        for name, ours in hierarchies.items():
            group = ours / self.name
            group.mkdir()
            self._cgroups.append(group)
            if name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (group / file).write_text((ours / file).read_text())
        # The shell enters the cgroups before the namespaces are made, so that these begin there. No process survives this one.
        enter = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
        namespaces = ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--kill-child"]
        shared = [word for inside, outside in self._shared.items() for word in (str(outside), inside)]
        boot = ["sh", str(_BOOT), str(self._folder), self.name, *shared]
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "sh", "-euc", enter, "sh", *map(str, self._cgroups), "--", *namespaces, "--", *boot],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=dict(os.environ) | {"SYSTEMD_TPM2_DEVICE": self._tpm},
            )
        self._first = wait_for(self._find_first, within_s=30)
        wait_for(self._is_up, within_s=60, every_s=0.05)

    def _find_first(self) -> int:
        assert self._process is not None
        assert self._process.poll() is None, f"systemd did not start: {self.console.read_text()}"
        number = self._process.pid
        try:
            children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
            return int(children[0]) if children and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n" else 0
        except OSError:
            return 0

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"systemd ended: {self.console.read_text()}"
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def stop(self) -> None:
        if self._process is not None:
            try:
                if self._first:
                    os.kill(self._first, signal.SIGRTMIN + 4)  # power off
                    self._process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
            self._process.kill()  # ends all processes inside
            self._process.wait(10)
            self._process = None
        for group in self._cgroups:
            wait_for(lambda group=group: _remove(group), within_s=10)  # type: ignore[misc]
        self._cgroups = []


def sweep() -> None:
    """Remove cgroups of test runs that were killed."""
    for ours in _hierarchies().values():
        for group in ours.glob(f"{_PREFIX}*"):
            if not Path(f"/proc/{group.name.removeprefix(_PREFIX).split('-')[0]}").exists():
                _remove(group)


def _hierarchies() -> dict[str, Path]:
    """Return the folder of this process in each mounted hierarchy: `unified` of cgroup v2, and those of v1 by controller."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=") or "unified"
        if (CGROUPS / "cgroup.controllers").exists():
            # Only the topmost group may hold both processes and groups with limits.
            found[name] = CGROUPS
        elif (CGROUPS / name).is_dir():
            found[name] = CGROUPS / name / path.lstrip("/")
    return found


def _remove(group: Path) -> bool:
    """Remove a cgroup with those below; return whether it is gone, which takes as long as its last process."""
    for below in sorted(group.rglob("*"), reverse=True):
        if below.is_dir():
            try:
                below.rmdir()
            except OSError:
                return False
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
