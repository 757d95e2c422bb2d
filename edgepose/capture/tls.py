"""Certificates of cameras: what they are verified against, and what is the matter with one that is refused."""

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from edgepose.errors import SourceError

_DEFAULT_PORTS = {"rtsps": 322, "https": 443}
_TIMEOUT_S = 2.0  # for each of connection and handshake


def is_secure(url: str) -> bool:
    """Whether a URL asks for an encrypted connection."""
    return url.partition("://")[0].lower() in _DEFAULT_PORTS


def options(ca_file: str | None, where: str) -> dict[str, str]:
    """Return FFmpeg's options for a connection whose certificate, and the host name in it, are verified: by default they are not.

    Args:
        ca_file: certificate authority; the system's where None.
        where: name of the source in messages.

    Raises:
        SourceError: there is no such authority.
    """
    # Named even where it is the system's: the GnuTLS in PyAV's wheels looks for that where other distributions keep it.
    authority = str(Path(ca_file).expanduser()) if ca_file else ssl.get_default_verify_paths().cafile
    if authority is None:
        raise SourceError(
            f"{where} cannot be verified: this system has no certificate authorities; install its package ca-certificates,"
            " or name a file as ca_file",
            "tls",
        )
    _context(authority, where)
    return {"tls_verify": "1", "ca_file": authority}


def refused(url: str, ca_file: str, where: str) -> SourceError | None:
    """Shake hands once more, to say why FFmpeg did not: it reports a mere input/output error. None where TLS is not the matter."""
    context = _context(ca_file, where)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme.lower()]
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return SourceError(
            f"{where} shows a certificate that is refused ({error.verify_message.rstrip('.')}); one is accepted that names this host and"
            f" was signed by an authority in {ca_file}",
            "tls",
        )
    except ssl.SSLError as error:
        return SourceError(f"{where} does not agree on TLS ({error.reason or error}); check the scheme and the port", "tls")
    except (OSError, ValueError):
        return None


def _context(ca_file: str, where: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # SSLError, for a file without certificates, is an OSError
        why = error.strerror if not isinstance(error, ssl.SSLError) and isinstance(error, OSError) else "it holds no certificate in PEM"
        raise SourceError(f"{where} cannot be verified: {ca_file} cannot be used as ca_file ({why})", "tls") from error
