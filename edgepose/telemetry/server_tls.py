"""TLS of a port of this program."""

import os
import ssl

from edgepose.errors import ConfigError


def server_tls(section: str, certificate: str | os.PathLike[str], key: str | os.PathLike[str] | None) -> ssl.SSLContext:
    """Return the TLS settings of a port.

    Args:
        section: of the configuration, whose keys `certificate_file` and `key_file` an error names.
        certificate, key: PEM files.

    Raises:
        ConfigError: they cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a callback OpenSSL would ask for the passphrase of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        reason = "they are not a certificate and its private key" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"{section}.certificate_file {certificate} and {section}.key_file {key} cannot be used: {reason};"
            " expected a certificate and its private key (PEM, without a passphrase)"
        ) from error
    return context
