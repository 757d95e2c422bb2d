"""The page's own certificate, made at the first start where others can reach it and no certificate is configured."""

import datetime
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgepose.encryption.files import state_files, write_whole
from edgepose.errors import OutputError

_KIND = "certificate"
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
        place = state_files().place
        if not (place(certificate).exists() and place(key).exists() and _names_in(certificate) == names):
            _make(certificate, key, names)
    except OSError as error:
        raise OutputError(f"{certificate} cannot be written: {error.strerror}; expected a folder in web.folder") from error
    return certificate, key


@contextmanager
def readable(certificate: Path, key: Path) -> Iterator[tuple[Path, Path]]:
    """Give both files as a library can read them, until the end: where they are encrypted, clear copies in memory."""
    if state_files().place(key) == key:
        yield certificate, key
        return
    with ExitStack() as opened:
        copies = []
        for path in (certificate, key):
            copy = opened.enter_context(os.fdopen(os.memfd_create("edgepose", os.MFD_CLOEXEC), "wb"))
            copy.write(state_files().load(path, _KIND))
            copy.flush()
            copies.append(Path(f"/proc/self/fd/{copy.fileno()}"))
        yield copies[0], copies[1]


def fingerprint(certificate: Path) -> str:
    """Return the SHA-256 fingerprint of a certificate as browsers show it."""
    digest = x509.load_pem_x509_certificate(state_files().load(certificate, _KIND)).fingerprint(hashes.SHA256())
    return ":".join(f"{byte:02X}" for byte in digest)


def _names_in(certificate: Path) -> list[str]:
    try:
        read = x509.load_pem_x509_certificate(state_files().load(certificate, _KIND))
        found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName)
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
    private = secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_whole(key, private, _KIND)
    write_whole(certificate, made.public_bytes(serialization.Encoding.PEM), _KIND)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
