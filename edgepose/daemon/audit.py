"""The audit of commands: each command and its outcome, in a file of JSON lines of bounded size."""

import hashlib
import logging
import os
import threading
import time
from pathlib import Path

import msgspec

from edgepose.config.schema import CommandsConfig
from edgepose.errors import OutputError
from edgepose.messages.structs import CommandReplyMessage, timestamp
from edgepose.mqtt.command_inbox import Command

_log = logging.getLogger(__name__)

LIMIT_BYTES = 1024 * 1024
"""At this size the file is renamed to `<name>.1`, which replaces the one renamed before."""

_PAYLOAD_LIMIT_BYTES = 512  # longer ones are recorded by length and hash


class Audit:
    """Records every command; safe for any number of threads.

    Where the file can no longer be written, commands are still executed: the log records them too.
    """

    def __init__(self, path: Path | None) -> None:
        """
        Args:
            path: the file; None records in the log only.

        Raises:
            OutputError: it cannot be written.
        """
        self._path = path
        self._failing = False
        self._lock = threading.Lock()
        if path is not None:
            try:
                os.close(self._open(path))
            except OSError as error:
                raise OutputError(
                    f"commands.audit: {path} cannot be written: {error.strerror}; expected a file in a folder that exists"
                ) from error

    @classmethod
    def configured(cls, commands: CommandsConfig) -> "Audit | None":
        """Return the audit of a configuration; None where no commands are accepted."""
        if not commands.enabled:
            return None
        return cls(Path(commands.audit) if commands.audit is not None else None)

    def note(self, command: Command, reply: CommandReplyMessage) -> None:
        """Record a command and its outcome."""
        reason = "" if isinstance(reply.reason, msgspec.UnsetType) else reply.reason
        _log.info("command %.64s: %s%s", command.name, reply.status, f": {reason}" if reason else "")
        if self._path is None:
            return
        line = {
            "at": timestamp(time.time_ns()),
            "command": command.name[:64],
            **_payload(command.payload),
            "response_topic": command.response_topic,
            "correlation": command.correlation.hex()[:256] if command.correlation is not None else None,
            "status": reply.status,
            "reason": reason or None,
        }
        with self._lock:
            try:
                self._append(self._path, msgspec.json.encode(line) + b"\n")
                self._failing = False
            except OSError as error:
                if not self._failing:
                    _log.error("commands cannot be recorded in %s: %s", self._path, error.strerror)
                self._failing = True

    def _append(self, path: Path, line: bytes) -> None:
        descriptor = self._open(path)
        try:
            if os.fstat(descriptor).st_size + len(line) > LIMIT_BYTES:
                os.replace(path, path.with_name(path.name + ".1"))
                os.close(descriptor)
                descriptor = self._open(path)
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _payload(payload: bytes) -> dict[str, str | int]:
    """Return the payload where it is short text, else its length and hash."""
    if len(payload) <= _PAYLOAD_LIMIT_BYTES:
        try:
            return {"payload": payload.decode()}
        except UnicodeDecodeError:
            pass
    return {"payload_bytes": len(payload), "payload_sha256": hashlib.sha256(payload).hexdigest()}
