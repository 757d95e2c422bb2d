"""The page's own certificate, made at the first start where others can reach it and no certificate is configured."""

import datetime
import ipaddress
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgepose.errors import OutputError

_YEARS = 10  # nobody renews it, and browsers ask about it whatever its age; a clock that wakes in the past must not void it either
_BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


def own_certificate(folder: Path, hosts: Iterable[str]) -> tuple[Path, Path]:
    """Return the files of certificate and private key, made anew where there is none or where the names have changed.

    Args:
        folder: of both.
        hosts: names and addresses by which the page is reached, beside the name of this machine.

    Raises:
        OutputError: they cannot be written.
    """
    certificate, key = folder / "certificate.pem", folder / "certificate.key"
    names = sorted({socket.gethostname(), f"{socket.gethostname()}.local", "localhost", *hosts} - {"0.0.0.0", "::"})
    try:
        if not (certificate.exists() and key.exists() and _names_in(certificate) == names):
            _make(certificate, key, names)
    except OSError as error:
        raise OutputError(f"{certificate} cannot be written: {error.strerror}; expected a folder in web.folder") from error
    return certificate, key


def fingerprint(certificate: Path) -> str:
    """Return the SHA-256 fingerprint of a certificate as browsers show it."""
    digest = x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256())
    return ":".join(f"{byte:02X}" for byte in digest)


def _names_in(certificate: Path) -> list[str]:
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound):
        return []
    return sorted(str(name.value) for name in found.value)


def _make(certificate: Path, key: Path, names: list[str]) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edgepose {socket.gethostname()}"[:64])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    _write(
        key,
        secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    _write(certificate, made.public_bytes(serialization.Encoding.PEM))


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
