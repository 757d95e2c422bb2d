"""The public keys whose bundles a device accepts. Private keys are never on a device."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgepose.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_LIMIT_BYTES = 64 * 1024


def require_cryptography() -> None:
    """Raise UnavailableError where the library for signatures is not installed."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            "bundles need the library cryptography, which is not installed here; expected the extra bundles: in a checkout of edgepose,"
            " run `pip install '.[cpu,bundles]'`"
        ) from error


def key_id(key: "Ed25519PublicKey") -> str:
    """Return what identifies a key in bundles: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes (RFC 8032)."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def read_keys(path: Path) -> "dict[str, Ed25519PublicKey]":
    """Return the public keys of a file by their identifiers.

    Raises:
        ConfigError: the file cannot be read, or holds anything else than Ed25519 public keys.
        UnavailableError: the library for signatures is not installed.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT_BYTES)
    except OSError as error:
        raise ConfigError(f"bundles.keys_file: {path} cannot be read: {error.strerror}; expected a file of public keys") from error
    if b"PRIVATE KEY-----" in text:
        raise ConfigError(f"bundles.keys_file: {path} holds a private key; expected public keys only: who can sign is not on the device")
    keys = {}
    for found in _PEM.findall(text):
        try:
            key = load_pem_public_key(found)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"bundles.keys_file: {path} holds a damaged key; expected Ed25519 public keys in PEM") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError(f"bundles.keys_file: {path} holds a key of another kind; expected Ed25519 public keys in PEM")
        keys[key_id(key)] = key
    if not keys:
        raise ConfigError(f"bundles.keys_file: {path} holds no public key; expected Ed25519 public keys in PEM")
    return keys
