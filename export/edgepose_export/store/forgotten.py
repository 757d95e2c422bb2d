"""What operators asked a store to forget, so that a message that is still on its way is not kept either."""

import os
from pathlib import Path

import msgspec

from edgepose.errors import OutputError
from edgepose_export.store.journal import sync_folder

FILE_NAME = "forgotten.jsonl"


class Oblivion(msgspec.Struct, frozen=True, kw_only=True):
    """One request to forget.

    Attributes:
        device: its name.
        camera: of the device; None for all.
        before_us: capture time before which everything is forgotten, microseconds since the Unix epoch.
    """

    device: str
    camera: str | None = None
    before_us: int


class Forgotten:
    """All requests of a store; a new value is read for each use, since another process may add to them."""

    def __init__(self, requests: list[Oblivion]) -> None:
        self._of_device: dict[str, list[Oblivion]] = {}
        for request in requests:
            self._of_device.setdefault(request.device, []).append(request)

    @classmethod
    def read(cls, folder: Path) -> "Forgotten":
        """Return the requests in a store's folder.

        Raises:
            OutputError: the file is damaged.
        """
        path = folder / FILE_NAME
        try:
            lines = path.read_bytes().splitlines()
            return cls([msgspec.json.decode(line, type=Oblivion) for line in lines if line])
        except FileNotFoundError:
            return cls([])
        except (OSError, msgspec.MsgspecError) as error:
            raise OutputError(f"{path} cannot be read: {error}; expected the lines that `edgepose-export store forget` writes") from error

    def covers(self, device: str, camera: str, captured_us: int) -> bool:
        """Return whether a message is forgotten."""
        return any(captured_us < request.before_us and request.camera in (None, camera) for request in self._of_device.get(device, ()))


def remember(folder: Path, request: Oblivion) -> None:
    """Add a request to those of a store; it is on the disk when this returns."""
    path = folder / FILE_NAME
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, msgspec.json.encode(request) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(folder)
