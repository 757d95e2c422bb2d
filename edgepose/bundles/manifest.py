"""A bundle as it travels: one signed text, the manifest, with configuration and references to files.

The signature (Ed25519, RFC 8032) is over the exact bytes of the manifest, after a line that keeps it from being taken for anything else.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from edgepose.config.fields import Name
from edgepose.errors import ConfigError
from edgepose.printable import printable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LIMIT_BYTES = 96 * 1024
"""Longest bundle: the daemon reads messages of up to 128 KiB."""

SIGNED_PREFIX = b"edgepose bundle 1\n"
"""What a signature is over, before the manifest."""

CONFIGURATION = "config.yaml"
"""Name of the configuration among the files of a bundle."""

MESSAGE = "bundle.json"
"""Name of the message among the files of a bundle on the device."""

_Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Moment = Annotated[datetime, Meta(tz=True)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts: what is not known is refused, since it may restrict."""


class BundleFile(_Part, frozen=True, kw_only=True):
    """A file that a bundle refers to: its name beside the configuration, where it is fetched, and what it must be."""

    name: Name
    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    size: Annotated[int, Meta(ge=1, le=1 << 40)]
    sha256: _Digest


class Manifest(_Part, frozen=True, kw_only=True):
    """What is signed.

    Attributes:
        number: only grows from bundle to bundle of one device: an older one is refused.
        devices, groups: whom it is for; one of them must be or have this device.
        not_before, expires: where the clock of the device is set, it is not taken before the one, nor after the other.
        configuration: YAML text whose keys override those of the device's own file.
        files: models and other files that the configuration names, relative to itself.
    """

    schema: Literal[1]
    number: Annotated[int, Meta(ge=1, le=(1 << 53) - 1)]
    devices: Annotated[list[Name], Meta(max_length=1000)] = []
    groups: Annotated[list[Name], Meta(max_length=64)] = []
    not_before: _Moment | None = None
    expires: _Moment | None = None
    configuration: Annotated[str, Meta(max_length=64 * 1024)]
    files: Annotated[list[BundleFile], Meta(max_length=32)] = []


class SignedBundle(_Part, frozen=True, kw_only=True):
    """The message: the manifest as the text that was signed, the signature, and which key made it."""

    schema: Literal[1]
    key: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    manifest: Annotated[str, Meta(max_length=LIMIT_BYTES)]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose signature is right.

    Attributes:
        manifest: what was signed.
        key: identifier of the key.
        digest: SHA-256 of the signed text, hexadecimal.
        message: as it was received.
    """

    manifest: Manifest
    key: str
    digest: str
    message: bytes

    @property
    def number(self) -> int:
        """The number of the manifest."""
        return self.manifest.number


def verified(message: bytes, keys: "Mapping[str, Ed25519PublicKey]") -> Bundle:
    """Return the bundle of a message.

    Nothing of the manifest is read before its signature is verified.

    Args:
        message: as received.
        keys: that are accepted, by identifier.

    Raises:
        ConfigError: it is no bundle, no accepted key has signed it, or it is not as this version knows it.
    """
    from cryptography.exceptions import InvalidSignature

    if len(message) > LIMIT_BYTES:
        raise ConfigError(f"the bundle is {len(message)} bytes long; expected at most {LIMIT_BYTES}")
    try:
        signed = msgspec.json.decode(message, type=SignedBundle)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the message is no bundle: {_words(error)}; expected one of `edgepose-export bundle`") from error
    key = keys.get(signed.key)
    if key is None:
        raise ConfigError(f"the bundle is signed with the key {signed.key}; expected one of {', '.join(sorted(keys))} (bundles.keys_file)")
    try:
        text = signed.manifest.encode()
        key.verify(bytes.fromhex(signed.signature), SIGNED_PREFIX + text)
    except (InvalidSignature, UnicodeEncodeError) as error:
        raise ConfigError(f"the signature of the bundle is not that of the key {signed.key}; expected a bundle as it was signed") from error
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the manifest of the bundle is not valid: {_words(error)}; expected one of this version of edgepose") from error
    names = [file.name for file in manifest.files]
    if len({*names, CONFIGURATION, MESSAGE}) != len(names) + 2:
        raise ConfigError(f"the bundle names a file twice, or {CONFIGURATION} or {MESSAGE}; expected other names for its files")
    return Bundle(manifest, signed.key, hashlib.sha256(text).hexdigest(), message)


def refuse_foreign(manifest: Manifest, device: str, groups: list[str]) -> None:
    """Raise ConfigError where a bundle is not for this device."""
    if device not in manifest.devices and not set(groups) & set(manifest.groups):
        those = ", ".join([*manifest.devices, *(f"the group {group}" for group in manifest.groups)][:5]) or "nobody"
        more = len(manifest.devices) + len(manifest.groups) - 5
        raise ConfigError(f"bundle {manifest.number} is for {those}{f' and {more} more' if more > 0 else ''}; expected {device} among them")


def refuse_replayed(manifest: Manifest, highest: int) -> None:
    """Raise ConfigError where a bundle is not newer than all that were tried."""
    if manifest.number <= highest:
        raise ConfigError(f"bundle {manifest.number} is not newer than {highest}, which was tried here; expected a greater number")


def refuse_untimely(manifest: Manifest, now: datetime | None) -> None:
    """Raise ConfigError where a bundle is not to be taken yet, or no longer; `now` is None where the clock is not set."""
    if now is None:
        return
    if manifest.not_before is not None and now < manifest.not_before:
        raise ConfigError(f"bundle {manifest.number} is for the time from {manifest.not_before.isoformat()}; expected to get it then")
    if manifest.expires is not None and now >= manifest.expires:
        raise ConfigError(f"bundle {manifest.number} expired at {manifest.expires.isoformat()}; expected a newer one")


def _words(error: Exception) -> str:
    text = printable(str(error), 200).replace("`", "")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
