"""Why a broker does not let us in, told apart: what to call it, and what would be accepted."""

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

PROBE_S = 2.0


class Credentials(Protocol):
    """What a refusal depends on of `BrokerSettings`."""

    @property
    def host(self) -> str:
        """Of the broker."""

    @property
    def port(self) -> int:
        """Of the broker."""

    @property
    def username(self) -> str | None:
        """As configured."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """None in the clear."""

    @property
    def has_certificate(self) -> bool:
        """Whether we show a certificate."""

    @property
    def ca_file(self) -> str | None:
        """Whom we trust; None is whom the system trusts."""


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """One reason.

    Attributes:
        state: in few words, such as `refused: not authorized`; stable.
        expected: what would be accepted, for the log; empty where only the broker can mend it.
    """

    state: str
    expected: str = ""

    def __str__(self) -> str:
        return f"{self.state}; {self.expected}" if self.expected else self.state


class HandshakeError(OSError):
    """The broker was reached, and TLS was not agreed on; the argument is the error beneath."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.beneath = error


_REASONS: Mapping[str, str] = {
    "bad user name or password": "expected a user name and a password that the broker knows (keys mqtt.username, mqtt.password_file)",
    "unsupported protocol version": "expected another mqtt.protocol, or auto",
    "client identifier not valid": "expected a broker that allows client identifiers edgepose-<device>-…",
    "banned": "expected the ban on this user, client identifier or address to be lifted at the broker",
    "bad authentication method": "expected a broker that takes user name and password, or a client certificate",
    "use another server": "expected mqtt.host to be the server that the broker names",
    "server moved": "expected mqtt.host to be the server that the broker names",
    "retain not supported": "expected a broker with retained messages",
    "qos not supported": "expected a broker with QoS 1",
    "topic name invalid": "expected an mqtt.prefix that the broker allows",
}
"""What would be accepted, by reason of the broker's CONNACK; the others (busy, unavailable, quota) are the broker's own affair."""

_CERTIFICATES: Mapping[int, str] = {
    9: "is not yet valid",
    10: "has expired",
    18: "is of an unknown authority",
    19: "is of an unknown authority",
    20: "is of an unknown authority",
    21: "is of an unknown authority",
    62: "is for another host",
    64: "is for another host",
}
"""OpenSSL's verification errors (X509_V_ERR_…) that have a remedy of their own."""

_ALERTS: Mapping[str, str] = {
    "CERTIFICATE_REQUIRED": "client certificate required",
    "UNKNOWN_CA": "client certificate of an authority that the broker does not know",
    "CERTIFICATE_EXPIRED": "client certificate has expired",
    "CERTIFICATE_REVOKED": "client certificate is revoked",
    "CERTIFICATE_UNKNOWN": "client certificate not accepted",
    "BAD_CERTIFICATE": "client certificate not accepted",
    "ACCESS_DENIED": "client certificate not accepted",
    "PROTOCOL_VERSION": "no TLS version in common",
    "UNSUPPORTED_PROTOCOL": "no TLS version in common",
    "HANDSHAKE_FAILURE": "no TLS parameters in common, or client certificate required",
}
"""Ends of OpenSSL's names for the alerts that a broker sends."""

_CLIENT_CERTIFICATE = "expected a client certificate that the broker accepts (keys mqtt.tls.certificate_file, mqtt.tls.key_file)"


def from_reason(reason: str, settings: Credentials) -> ConnectFailure:
    """The broker's own reason, in small letters as the standard names it."""
    expected = _REASONS.get(reason, "")
    if reason == "not authorized":  # what mosquitto says of a wrong password, too
        if settings.username is None:
            expected = "expected a user name and password (keys mqtt.username, mqtt.password_file)"
        else:
            expected = f"expected the password of user {settings.username} (key mqtt.password_file), or the broker to let that user in"
    return ConnectFailure(f"refused: {reason}", expected)


def from_error(error: OSError | UnicodeError, settings: Credentials) -> ConnectFailure:
    """A connection that did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _by_certificate(error, settings)
    if isinstance(error, HandshakeError):
        if isinstance(error.beneath, TimeoutError):
            return ConnectFailure("unreachable: no answer to the TLS handshake", "expected a broker that is alive, with TLS on that port")
        if isinstance(error.beneath, ssl.SSLError) and (known := from_alert(error.beneath)) is not None:
            return known
        return ConnectFailure(
            "refused: no TLS on that port, it seems", "expected a port with TLS (key mqtt.port), or mqtt.tls.enabled to be false"
        )
    expected = "" if isinstance(error, TimeoutError) else "expected a broker there (keys mqtt.host, mqtt.port)"
    return ConnectFailure(f"unreachable: {describe(error)}", expected)


def from_alert(error: ssl.SSLError) -> ConnectFailure | None:
    """What the broker's TLS said, where it has a name."""
    name = error.reason or ""
    for end, words in _ALERTS.items():
        if name.endswith(end):
            return ConnectFailure(
                f"refused: {words}", _CLIENT_CERTIFICATE if "certificate" in words else "expected a broker with TLS 1.2 or 1.3"
            )
    return None


def from_hang_up(settings: Credentials, before: str = "") -> ConnectFailure:
    """The broker took the connection and ended it before it answered; asks a port without TLS whether it has TLS.

    Args:
        access: how we came.
        before: the state until now.
    """
    if settings.tls is not None:
        if before.startswith("refused: client certificate"):
            return ConnectFailure(before)  # an alert does not always arrive before the end does
        # Mosquitto sends no alert; with TLS 1.3 the handshake is over on our side when it looks at the certificate.
        words = "client certificate not accepted" if settings.has_certificate else "client certificate required"
        return ConnectFailure(f"refused: {words}, it seems", _CLIENT_CERTIFICATE)
    if _speaks_tls(settings.host, settings.port):
        return ConnectFailure(
            "refused: that port is for TLS", "expected mqtt.tls.enabled to be true, or a port without TLS (key mqtt.port)"
        )
    return ConnectFailure("unreachable: hung up without an answer", "expected an MQTT broker that has room (keys mqtt.host, mqtt.port)")


def describe(error: OSError | UnicodeError) -> str:
    """What the system says of a failure, in few words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def _by_certificate(error: ssl.SSLCertVerificationError, settings: Credentials) -> ConnectFailure:
    words = _CERTIFICATES.get(error.verify_code, f"is not accepted: {error.verify_message}")
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    if "valid" in words or "expired" in words:
        expected = f"expected one that is valid now, and it is {now} by this device's clock"
    elif "host" in words:
        expected = f"expected mqtt.host ({settings.host}) to be a name in it"
    elif settings.ca_file is not None:
        expected = f"expected one signed by an authority in {settings.ca_file} (key mqtt.tls.ca_file)"
    else:
        expected = "expected one signed by an authority that the system knows, or its authority in mqtt.tls.ca_file"
    return ConnectFailure(f"refused: the broker's certificate {words}", expected)


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is said over this connection
    try:
        with socket.create_connection((host, port), PROBE_S) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLError as error:
        return "_ALERT_" in (error.reason or "")  # it would have us otherwise, but it speaks it
    except (OSError, UnicodeError):
        return False
