"""`edgepose-export bundle`: signs configuration and models for devices. The private key never leaves this machine."""

import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from edgepose.bundles.fetch import refuse_urls
from edgepose.bundles.manifest import LIMIT_BYTES, SIGNED_PREFIX, BundleFile, Manifest, SignedBundle, verified
from edgepose.bundles.pins import refuse_pinned
from edgepose.bundles.public_keys import key_id, require_cryptography
from edgepose.errors import ConfigError, OutputError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@click.command(
    epilog="Example: edgepose-export bundle night.yaml night.onnx --url https://files.example/models/ --key fleet.key --device drone-7"
    " --number 12 --output bundle.json"
)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--key", "key_file", type=click.Path(path_type=Path), required=True, help="Private key (Ed25519, PEM), which stays here.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="Device that may take it. Repeatable.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Group whose devices may take it. Repeatable.")
@click.option("--number", type=click.IntRange(min=1), required=True, help="Greater than that of every bundle before.")
@click.option("--url", metavar="URL", help="Where the files are: https://HOST/FOLDER/, or file:///FOLDER/ of a card in the device.")
@click.option("--not-before", type=click.DateTime(), help="Time (UTC) before which it is not taken.")
@click.option("--expires", type=click.DateTime(), help="Time (UTC) from which on it is not taken.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="File to write: the message for `mosquitto_pub -r -f`.")
def bundle(
    config: Path,
    files: tuple[Path, ...],
    key_file: Path,
    devices: tuple[str, ...],
    groups: tuple[str, ...],
    number: int,
    url: str | None,
    not_before: datetime | None,
    expires: datetime | None,
    output: Path,
) -> None:
    """Sign the configuration CONFIG, and the models and other FILES that it names, for devices that take bundles.

    CONFIG holds only the keys that change; it names FILES without a folder. They are not part of the bundle: put them where --url says.
    """
    if not devices and not groups:
        raise UsageError("the bundle is for nobody; expected --device or --group")
    if files and url is None:
        raise UsageError("there are files and no --url; expected where devices fetch them")
    text = _read(config, "a configuration").decode(errors="replace")
    refuse_pinned(text, ())
    manifest = Manifest(
        schema=1,
        number=number,
        devices=list(devices),
        groups=list(groups),
        not_before=None if not_before is None else not_before.replace(tzinfo=timezone.utc),
        expires=None if expires is None else expires.replace(tzinfo=timezone.utc),
        configuration=text,
        files=[_reference(file, url or "") for file in files],
    )
    refuse_urls(manifest.files)
    key = _private_key(key_file)
    message = signed(manifest, key)
    if len(message) > LIMIT_BYTES:
        raise ConfigError(f"the bundle is {len(message)} bytes long; expected at most {LIMIT_BYTES}")
    verified(message, {key_id(key.public_key()): key.public_key()})  # a device would refuse a name or number that is out of bounds
    try:
        output.write_bytes(message)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}; expected a file in a folder that exists") from error
    whom = ", ".join([*devices, *(f"group {group}" for group in groups)])
    click.echo(f"bundle {number} for {whom}, signed with key {key_id(key.public_key())}: {output}", err=True)


def signed(manifest: Manifest, key: "Ed25519PrivateKey") -> bytes:
    """Return the message of a manifest."""
    text = msgspec.json.encode(manifest)
    signature = key.sign(SIGNED_PREFIX + text).hex()
    return msgspec.json.encode(SignedBundle(schema=1, key=key_id(key.public_key()), signature=signature, manifest=text.decode()))


def _reference(file: Path, url: str) -> BundleFile:
    data = _read(file, "a file of the bundle")
    return BundleFile(name=file.name, url=f"{url.rstrip('/')}/{file.name}", size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _private_key(file: Path) -> "Ed25519PrivateKey":
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = _read(file, "a private key")
    password = None
    if b"ENCRYPTED" in text:
        password = click.prompt(f"Password of {file}", hide_input=True, err=True).encode()
    try:
        key = load_pem_private_key(text, password)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{file} is no private key, or the password is another; expected one of `openssl genpkey`") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{file} is a private key of another kind; expected Ed25519")
    return key


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; expected {what}") from error
