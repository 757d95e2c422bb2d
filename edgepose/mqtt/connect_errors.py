"""The reasons why a connection to a broker fails: a stable name for each, and what would be accepted."""

import socket
import ssl
import time
from collections.abc import Mapping
from typing import Protocol

import msgspec

PROBE_S = 2.0

_UPGRADE = (
    "GET /mqtt HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: ZWRnZXBvc2UgYXNrcyEhIQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
"""A request that every HTTP server answers, one of websockets (RFC 6455) included."""


class BrokerAddress(Protocol):
    """The part of `BrokerSettings` that a failure depends on."""

    @property
    def host(self) -> str:
        """Host name of the broker."""

    @property
    def port(self) -> int:
        """Port of the broker."""

    @property
    def username(self) -> str | None:
        """The user name as configured, or None."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS settings; None without TLS."""

    @property
    def has_certificate(self) -> bool:
        """Whether the daemon presents a client certificate."""

    @property
    def ca_file(self) -> str | None:
        """File of the trusted authorities; None trusts those of the system."""


class ConnectFailure(msgspec.Struct, frozen=True):
    """The reason of one failed connection.

    Attributes:
        state: in a few words, such as `refused: not authorized`; stable.
        expected: what would be accepted, for the log; empty where only the broker can fix it.
    """

    state: str
    expected: str = ""

    def __str__(self) -> str:
        return f"{self.state}; {self.expected}" if self.expected else self.state


class HandshakeError(OSError):
    """The broker was reached, but the TLS handshake failed.

    Attributes:
        cause: the error of the handshake.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.cause = error


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
"""The accepted value, by the reason in the broker's CONNACK; the other reasons (busy, unavailable, quota) concern only the broker."""

_NOT_YET_VALID = 9

_CERTIFICATES: Mapping[int, str] = {
    _NOT_YET_VALID: "is not yet valid",
    10: "has expired",
    18: "is of an unknown authority",
    19: "is of an unknown authority",
    20: "is of an unknown authority",
    21: "is of an unknown authority",
    62: "is for another host",
    64: "is for another host",
}
"""OpenSSL's verification errors (X509_V_ERR_…) that have a specific remedy."""

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
"""Endings of OpenSSL's names for the alerts that a broker sends."""

_CLIENT_CERTIFICATE = "expected a client certificate that the broker accepts (keys mqtt.tls.certificate_file, mqtt.tls.key_file)"


def from_reason(reason: str, settings: BrokerAddress) -> ConnectFailure:
    """Return the failure of a reason that the broker gave, in lower case as the standard names it."""
    expected = _REASONS.get(reason, "")
    if reason == "not authorized":  # mosquitto's reason for a wrong password, too
        if settings.username is None:
            expected = "expected a user name and password (keys mqtt.username, mqtt.password_file)"
        else:
            expected = f"expected the password of user {settings.username} (key mqtt.password_file), or a broker that accepts that user"
    return ConnectFailure(f"refused: {reason}", expected)


def from_error(error: OSError | UnicodeError, settings: BrokerAddress) -> ConnectFailure:
    """Return the failure of a connection that could not be opened."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _by_certificate(error, settings)
    if isinstance(error, HandshakeError):
        if isinstance(error.cause, TimeoutError):
            return ConnectFailure("unreachable: no answer to the TLS handshake", "expected a broker that is alive, with TLS on that port")
        if isinstance(error.cause, ssl.SSLError) and (known := from_alert(error.cause)) is not None:
            return known
        return ConnectFailure(
            "refused: no TLS on that port, it seems", "expected a port with TLS (key mqtt.port), or mqtt.tls.enabled to be false"
        )
    expected = "" if isinstance(error, TimeoutError) else "expected a broker there (keys mqtt.host, mqtt.port)"
    return ConnectFailure(f"unreachable: {describe(error)}", expected)


def from_alert(error: ssl.SSLError) -> ConnectFailure | None:
    """Return the failure that an alert of the broker's TLS names, or None."""
    name = error.reason or ""
    for end, words in _ALERTS.items():
        if name.endswith(end):
            return ConnectFailure(
                f"refused: {words}", _CLIENT_CERTIFICATE if "certificate" in words else "expected a broker with TLS 1.2 or 1.3"
            )
    return None


def from_hang_up(settings: BrokerAddress, before: str = "") -> ConnectFailure:
    """Return the failure of a broker that accepted the connection and ended it before it answered.

    The port is probed for HTTP and, without TLS, for TLS.

    Args:
        settings: of the connection.
        before: the state so far.
    """
    if settings.tls is not None and before.startswith("refused: client certificate"):
        return ConnectFailure(before)  # an alert does not always arrive before the connection ends
    if (failure := from_other_protocol(settings)) is not None:
        return failure
    if settings.tls is not None:
        # Mosquitto sends no alert; with TLS 1.3 the handshake is complete on the client's side when it checks the certificate.
        words = "client certificate not accepted" if settings.has_certificate else "client certificate required"
        return ConnectFailure(f"refused: {words}, it seems", _CLIENT_CERTIFICATE)
    if _speaks_tls(settings.host, settings.port):
        return ConnectFailure(
            "refused: that port is for TLS", "expected mqtt.tls.enabled to be true, or a port without TLS (key mqtt.port)"
        )
    return ConnectFailure(
        "unreachable: hung up without an answer", "expected an MQTT broker with room for clients (keys mqtt.host, mqtt.port)"
    )


def from_other_protocol(settings: BrokerAddress) -> ConnectFailure | None:
    """Return the failure of a port that speaks HTTP, as websockets do, None where it does not."""
    if not _speaks_http(settings.host, settings.port, settings.tls):
        return None
    return ConnectFailure(
        "refused: that port is for websockets or HTTP",
        "expected a port of the broker for MQTT itself, usually 1883, or 8883 with TLS (key mqtt.port); edgepose does not use websockets",
    )


def describe(error: OSError | UnicodeError) -> str:
    """Return the system's description of an error, in a few words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def _by_certificate(error: ssl.SSLCertVerificationError, settings: BrokerAddress) -> ConnectFailure:
    words = _CERTIFICATES.get(error.verify_code, f"is not accepted: {error.verify_message}")
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    if error.verify_code == _NOT_YET_VALID:
        expected = f"expected this device's clock to be set, which shows {now}, or a certificate that is valid already"
    elif "valid" in words or "expired" in words:
        expected = f"expected one that is valid now, and it is {now} by this device's clock"
    elif "host" in words:
        expected = f"expected mqtt.host ({settings.host}) to be a name in it"
    elif settings.ca_file is not None:
        expected = f"expected one signed by an authority in {settings.ca_file} (key mqtt.tls.ca_file)"
    else:
        expected = "expected one signed by an authority that the system knows, or its authority in mqtt.tls.ca_file"
    return ConnectFailure(f"refused: the broker's certificate {words}", expected)


def _speaks_http(host: str, port: int, tls: ssl.SSLContext | None) -> bool:
    try:
        plain = socket.create_connection((host, port), PROBE_S)
        with plain, plain if tls is None else tls.wrap_socket(plain, server_hostname=host) as probe:
            probe.sendall(_UPGRADE.format(host=host).encode("ascii", "replace"))
            return probe.recv(5) == b"HTTP/"
    except (OSError, UnicodeError, ValueError):
        return False


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent over this connection
    try:
        with socket.create_connection((host, port), PROBE_S) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLError as error:
        return "_ALERT_" in (error.reason or "")  # it expects other parameters, but it speaks TLS
    except (OSError, UnicodeError):
        return False
