"""One daemon per device name: a second one on this machine that would publish the same topics is refused."""

import hashlib
import socket
import struct
import sys

from edgepose.config.load import device_name
from edgepose.config.schema import Config
from edgepose.errors import UnavailableError

_ASKING_S = 0.5
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


class InstanceLock:
    """The exclusive right to publish under a device's topics at a broker, as long as this process lives.

    An abstract socket (unix(7)) instead of a lock file: it needs no folder that two users can write, and disappears with its process.
    Daemons on other machines are detected through the broker instead.
    """

    def __init__(self, config: Config) -> None:
        self._key = lock_key(config)
        self._what = f"{config.mqtt.prefix}/{device_name(config)} to {', '.join(config.mqtt.hosts)}"
        self._socket: socket.socket | None = None

    def take(self) -> None:
        """Take the lock; UnavailableError where another process on this machine holds it."""
        if self._key is None or sys.platform != "linux":
            return
        taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            taken.bind(self._key)
            taken.listen(1)
        except OSError as error:
            taken.close()
            raise UnavailableError(
                f"{_holder(self._key)} on this machine publishes {self._what} already; "
                "expected it to be stopped, or another `device` name here"
            ) from error
        self._socket = taken

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


def _holder(key: str) -> str:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(_ASKING_S)
            asking.connect(key)
            process, _, _ = _CREDENTIALS.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    except OSError:
        return "another edgepose"
    return f"another edgepose (process {process})"
