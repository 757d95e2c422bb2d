"""TLS to cameras: what certificates are verified against, and why one was refused."""

import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from edgepose.errors import SourceError

_DEFAULT_PORTS = {"rtsps": 322, "https": 443}
_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID
_TIMEOUT_S = 2.0  # for each of connection and handshake


def is_secure(url: str) -> bool:
    """Return whether a URL asks for an encrypted connection."""
    return url.partition("://")[0].lower() in _DEFAULT_PORTS


def options(ca_file: str | None, where: str) -> dict[str, str]:
    """Return FFmpeg's options that verify the server's certificate and the host name in it, which FFmpeg does not do by default.

    Args:
        ca_file: CA certificates; None uses the system's.
        where: name of the source in messages.

    Raises:
        SourceError: the CA certificates are missing or cannot be read.
    """
    authority = _authority(ca_file, where)
    _context(authority, where)
    # Set even for the system's: the GnuTLS in PyAV's wheels searches for them where other distributions keep them.
    return {"tls_verify": "1", "ca_file": authority}


def context(ca_file: str | None, where: str) -> ssl.SSLContext:
    """Return the context that verifies a server's certificate and the host name in it; parameters and errors as in `options`."""
    return _context(_authority(ca_file, where), where)


def _authority(ca_file: str | None, where: str) -> str:
    """Return the file of the CA certificates."""
    authority = str(Path(ca_file).expanduser()) if ca_file else ssl.get_default_verify_paths().cafile
    if authority is None:
        raise SourceError(
            f"{where} cannot be verified: this system has no certificate authorities; install its package ca-certificates,"
            " or name a file as ca_file",
            "tls",
        )
    return authority


def handshake_error(url: str, ca_file: str, where: str) -> SourceError | None:
    """Repeat the handshake to learn why it failed, since FFmpeg reports only an input/output error; None where TLS is not the reason."""
    context = _context(ca_file, where)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme.lower()]
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return None
    except ssl.SSLError as error:
        return handshake_failure(error, where, ca_file)
    except (OSError, ValueError):
        return None


def handshake_failure(error: ssl.SSLError, where: str, ca_file: str | None) -> SourceError:
    """Return the `SourceError` for a handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _NOT_YET_VALID:
            now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            return SourceError(
                f"{where} has a certificate that is not yet valid; expected this device's clock to be set, which shows {now},"
                " or a certificate that is valid already",
                "tls",
            )
        return SourceError(
            f"{where} has a certificate that is refused ({error.verify_message.rstrip('.')}); expected one that names this host and"
            f" was signed by an authority in {_authority(ca_file, where)}",
            "tls",
        )
    return SourceError(f"{where} failed the TLS handshake ({error.reason or 'no reason given'}); check the scheme and the port", "tls")


def _context(ca_file: str, where: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # SSLError (a file without certificates) is an OSError
        reason = error.strerror if not isinstance(error, ssl.SSLError) and isinstance(error, OSError) else "it holds no certificate in PEM"
        raise SourceError(f"{where} cannot be verified: {ca_file} cannot be used as ca_file ({reason})", "tls") from error
