"""Master keys as files of `systemd-creds`, which only the machine that sealed them opens: with its TPM2, with the key of its host, or both.

A service gets such a key opened, as a credential (`LoadCredentialEncrypted=`). Commands of root open the same file by themselves, so that
one configuration serves both: where `state-key` is missing, `state-key.cred` beside it is opened.
"""

import shutil
import subprocess
from pathlib import Path

from edgepose.errors import ConfigError, OutputError

SUFFIX = ".cred"
"""Suffix of the name of a sealed key; what is before it is the name of the credential, which the seal holds too."""

_LIMIT_S = 60.0  # some TPMs take seconds


def place_of(path: Path) -> Path:
    """Return where a key lies: at the path itself, or sealed beside it."""
    sealed = path.with_name(path.name + SUFFIX)
    return sealed if not path.exists() and sealed.exists() else path


def is_sealed(path: Path) -> bool:
    """Return whether a path names a sealed key."""
    return path.suffix == SUFFIX


def sealed(text: str, path: Path, seal: str) -> bytes:
    """Return the content of a sealed key.

    Args:
        text: of the key.
        path: where it will lie, which gives the name of the credential.
        seal: `tpm2`, `host` (its key), `host+tpm2`, or `auto`: both where there is a TPM2, and else the key of the host.

    Raises:
        OutputError: this machine cannot seal in this way.
    """
    done = _run("encrypt", path, text.encode(), f"--with-key={seal}")
    if isinstance(done, str):
        raise OutputError(f"no key can be sealed with {seal}: {done}; expected systemd-creds, root, and a TPM2 where one is named")
    return done


def unsealed(path: Path) -> str:
    """Return the text of a sealed key.

    Raises:
        ConfigError: this machine cannot open it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"encryption.key: {path} cannot be read: {error.strerror}; expected what `edgepose keys create` wrote") from error
    done = _run("decrypt", path, content)
    if isinstance(done, str):
        raise ConfigError(
            f"encryption.key: {path} cannot be opened: {done}; expected the TPM2 or the host that sealed it under this name, and root"
        )
    return done.decode("ascii", "replace")


def _run(verb: str, path: Path, content: bytes, *options: str) -> bytes | str:
    """Return what `systemd-creds` makes of a content, or in words why it does not."""
    program = shutil.which("systemd-creds", path="/usr/bin:/bin")
    if program is None:
        return "systemd-creds is not installed"
    command = [program, verb, *options, f"--name={path.stem}", "-", "-"]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1].rstrip(".") if said else f"systemd-creds ended with {done.returncode}"
