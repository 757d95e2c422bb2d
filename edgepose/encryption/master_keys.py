"""Master keys: 256 random bits as one line of text. The first key of a text writes, and all of its keys read."""

import base64
import binascii
import os
import secrets
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edgepose.encryption.sealed_keys import is_sealed, place_of, sealed, unsealed
from edgepose.errors import ConfigError, OutputError

_PREFIX = "edgepose-key-1:"
_KEY_BYTES = 32
_LIMIT_BYTES = 4096
_CREDENTIALS = Path("/run/credentials")


@dataclass(frozen=True)
class MasterKey:
    """A master key. What is used is derived from it (HKDF, RFC 5869), one key for each purpose.

    Attributes:
        secret: 32 random bytes.
    """

    secret: bytes

    def __repr__(self) -> str:
        return f"MasterKey({self.identifier.hex()})"

    @classmethod
    def new(cls) -> "MasterKey":
        """Return a random key."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    @property
    def text(self) -> str:
        """The key as one line."""
        return _PREFIX + base64.b64encode(self.secret).decode()

    @cached_property
    def identifier(self) -> bytes:
        """Eight bytes that tell keys apart and say nothing about them."""
        return self._derived(b"identifier", 8)

    @cached_property
    def wrapping(self) -> AESGCM:
        """The cipher of data keys."""
        return AESGCM(self._derived(b"data keys", 32))

    @cached_property
    def naming(self) -> AESSIV:
        """The cipher of names (AES-SIV, RFC 5297): the same name gives the same text."""
        return AESSIV(self._derived(b"names", 64))

    def _derived(self, purpose: bytes, length: int) -> bytes:
        return HKDF(hashes.SHA256(), length, salt=None, info=b"edgepose " + purpose).derive(self.secret)


def parse_keys(text: str, origin: str) -> list[MasterKey]:
    """Return the keys of a text, one a line; empty lines and those that begin with `#` are left out.

    Args:
        text: of the file or credential.
        origin: what it is, for messages.

    Raises:
        ConfigError: a line is no key, or there is none.
    """
    keys = []
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            secret = base64.b64decode(line.removeprefix(_PREFIX), validate=True) if line.startswith(_PREFIX) else b""
        except binascii.Error:
            secret = b""
        if len(secret) != _KEY_BYTES:
            raise ConfigError(f"{origin} holds a line that is no master key; expected what `edgepose keys create` wrote")
        keys.append(MasterKey(secret))
    if not keys:
        raise ConfigError(f"{origin} holds no master key; expected what `edgepose keys create` wrote")
    return keys


def read_keys(path: Path) -> list[MasterKey]:
    """Return the keys of a file or systemd credential, sealed or not.

    Raises:
        ConfigError: it is missing, cannot be read or opened, holds no key, or others may read it.
    """
    path = place_of(path)
    if is_sealed(path):
        return parse_keys(unsealed(path), f"encryption.key: {path}")
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_LIMIT_BYTES)
    except OSError as error:
        raise ConfigError(
            f"encryption.key: {path} cannot be read: {error.strerror}; expected the master key that `edgepose keys create` made, without"
            " which nothing stored can be read"
        ) from error
    others = 0o007 if path.absolute().is_relative_to(_CREDENTIALS) else 0o077  # systemd lets the group of a credential read
    if stat.S_ISREG(os.stat(path).st_mode) and mode & others:
        raise ConfigError(f"encryption.key: others may read {path} (mode {mode:04o}); expected mode 0600")
    return parse_keys(content.decode("ascii", "replace"), f"encryption.key: {path}")


def write_keys(path: Path, keys: list[MasterKey], *, new: bool = False, seal: str = "auto") -> None:
    """Write keys to a file that its owner alone can read, complete or not at all.

    Args:
        path: of the file; sealed where its name says so.
        keys: the one that writes first.
        new: whether the file must not exist yet.
        seal: what seals it.

    Raises:
        OutputError: it cannot be written or sealed, or exists.
    """
    text = "".join(f"{key.text}\n" for key in keys)
    content = sealed(text, path, seal) if is_sealed(path) else text.encode()
    place = path if new else path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | (os.O_EXCL if new else os.O_TRUNC) | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            if not new:
                owner = path.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if not new:
            os.replace(place, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; expected a writable folder, and an unused name") from error
