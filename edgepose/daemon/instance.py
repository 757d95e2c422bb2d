"""One daemon per device name: a second one on this machine that would publish the same topics is refused."""

import hashlib
import logging
import os
import pwd
import socket
import struct
import sys

import msgspec

from edgepose.config.load import device_name
from edgepose.config.schema import Config
from edgepose.errors import UnavailableError

_log = logging.getLogger(__name__)

_ASKING_S = 0.5
_CALLERS = 64  # that may ask who holds the name; nobody accepts their connections
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group
_PEOPLE = range(1000, 61184)  # users who log in (systemd: "Users, Groups, UIDs and GIDs"); others are services, dynamic ones included
_NOBODY = 65534  # also what a user of another namespace looks like


class InstanceLock:
    """The exclusive right to publish under a device's topics at a broker, as long as this process lives.

    An abstract socket (unix(7)) instead of a lock file: it needs no folder that two users can write, and disappears with its process.
    Any user can hold any such name, so the kernel is asked who does: a socket of root, of a service or of this user marks a daemon, that of
    another person is only named in the log, since it would otherwise be enough to keep the daemon from starting. This user's daemons then
    exclude each other by a second name. Daemons that escape this, or run on other machines, are detected through the broker.
    """

    def __init__(self, config: Config) -> None:
        self._key = lock_key(config)
        self._what = f"{config.mqtt.prefix}/{device_name(config)} to {', '.join(config.mqtt.hosts)}"
        self._socket: socket.socket | None = None

    def take(self) -> None:
        """Take the lock; UnavailableError where another daemon on this machine holds it."""
        if self._key is None or sys.platform != "linux":
            return
        for key in (self._key, f"{self._key}-{os.geteuid()}"):
            self._socket = _bound(key)
            if self._socket is not None:
                return
            holder = _Holder.of(key)
            if holder.is_trusted():
                raise UnavailableError(
                    f"another edgepose{holder} on this machine publishes {self._what} already; "
                    "expected it to be stopped, or another `device` name here"
                )
            _log.warning(
                "another user%s holds the name by which daemons that publish %s exclude each other; starting nevertheless",
                holder,
                self._what,
            )

    def holds(self, config: Config) -> bool:
        """Return whether this is also the lock of another configuration."""
        return lock_key(config) == self._key

    def release(self) -> None:
        """Release the lock."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def lock_key(config: Config) -> str | None:
    """Return the name of the socket, None where nothing is published: then any number of daemons may run."""
    if not config.mqtt.enabled:
        return None
    what = f"{config.mqtt.host}:{config.mqtt.port}/{config.mqtt.prefix}/{device_name(config)}"
    return "\0edgepose-" + hashlib.sha256(what.encode()).hexdigest()[:32]


def _bound(key: str) -> socket.socket | None:
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        taken.bind(key)
        taken.listen(_CALLERS)
    except OSError:
        taken.close()
        return None
    return taken


class _Holder(msgspec.Struct, frozen=True):
    """The process that listens on a socket, as the kernel knows it; `str` gives it in brackets.

    Attributes:
        process: None where nobody listens, which a daemon does, or where too many ask at once.
        user: likewise.
        listens: whether somebody listens.
    """

    process: int | None
    user: int | None
    listens: bool = True

    @classmethod
    def of(cls, key: str) -> "_Holder":
        """Return the holder of a name."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
                asking.settimeout(_ASKING_S)
                asking.connect(key)
                process, user, _ = _CREDENTIALS.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        except ConnectionRefusedError:
            return cls(None, None, listens=False)
        except OSError:
            return cls(None, None)
        return cls(process, user)

    def is_trusted(self) -> bool:
        """Return whether the holder is root, a service, or this user."""
        if self.user is None:
            return self.listens
        return self.user == os.geteuid() or (self.user not in _PEOPLE and self.user != _NOBODY)

    def __str__(self) -> str:
        if self.user is None:
            return ""
        try:
            name = pwd.getpwuid(self.user).pw_name
        except (KeyError, OSError):
            name = str(self.user)
        return f" (process {self.process} of user {name})"
