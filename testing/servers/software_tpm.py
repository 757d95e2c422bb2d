"""A TPM2 in software (swtpm), as systemd reaches it through `SYSTEMD_TPM2_DEVICE`."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from testing.requirements import find_program, require
from testing.servers.mosquitto import free_port

if TYPE_CHECKING:
    from typing_extensions import Self

_TRIES = 5


class SoftwareTpm:
    """A TPM that has no other secrets than those of its folder; a context manager.

    Args:
        folder: of what it keeps; an empty one makes another TPM.
    """

    def __init__(self, folder: Path) -> None:
        require("tpm2")
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._port = 0

    @property
    def device(self) -> str:
        """Value of `SYSTEMD_TPM2_DEVICE`."""
        return f"swtpm:host=127.0.0.1,port={self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, with this TPM."""
        return dict(os.environ) | {"SYSTEMD_TPM2_DEVICE": self.device}

    def __enter__(self) -> "Self":
        said = ""
        for _ in range(_TRIES):  # two ports in a row must be free, the second one for its control
            self._port = free_port()
            data, control = (f"type=tcp,port={port},bindaddr=127.0.0.1" for port in (self._port, self._port + 1))
            command = [find_program("swtpm") or "", "socket", "--tpm2", "--tpmstate", f"dir={self._folder}", "--server", data]
            command += ["--ctrl", control, "--flags", "startup-clear,not-need-init", "--daemon", "--pid", f"file={self._folder}/pid"]
            started = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)  # until it is ready
            if started.returncode == 0:
                return self
            said = started.stderr.decode()
        raise AssertionError(f"swtpm does not start: {said}")

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(int((self._folder / "pid").read_text()), signal.SIGKILL)

    def flush(self) -> None:
        """Remove what commands have left in its few slots, as the kernel does for programs that use /dev/tpmrm0."""
        for kind in ("--transient-object", "--loaded-session", "--saved-session"):
            command = [find_program("tpm2_flushcontext") or "", "-T", self.device, kind]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
