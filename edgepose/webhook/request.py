"""One request of the webhook, bounded in time, and signed as Standard Webhooks describes (standardwebhooks.com, version 1).

The signature is the HMAC-SHA256 (RFC 2104) of `ID.TIMESTAMP.BODY`, so that a receiver can refuse forged, changed and old requests.
"""

import base64
import hashlib
import hmac
import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Literal

from edgepose import __version__
from edgepose.supervision.socket_deadline import SocketDeadline
from edgepose.webhook.settings import WebhookSettings

FailureCause = Literal["unreachable", "certificate", "timeout", "status"]
"""Reasons why a request failed: no connection; a certificate that is not trusted; no answer in time; an answer other than 2xx."""

_TRY_AGAIN = (408, 425, 429)  # of the answers that are the client's fault


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """A request that failed.

    Attributes:
        cause: as counted.
        detail: a few words for the log.
        received: whether the receiver may have had the event; otherwise no connection was made.
        final: whether another attempt is pointless, since the receiver does not want this event.
        retry_after_s: wait that the receiver asks for, seconds.
    """

    cause: FailureCause
    detail: str
    received: bool = True
    final: bool = False
    retry_after_s: float = 0.0


def post(settings: WebhookSettings, event_id: str, body: bytes, now_s: int) -> RequestFailure | None:
    """Post one event; return None where the receiver accepts it, otherwise why it did not.

    Redirects are not followed. It takes at most `settings.timeout_s` for each address of the host, and the time to resolve its name.

    Args:
        settings: of the receiver.
        event_id: identifier of the event, by which a receiver recognizes a repeated one.
        body: the event as JSON.
        now_s: seconds since the Unix epoch, for the signature.
    """
    deadline_s = time.monotonic() + settings.timeout_s
    try:
        sock = socket.create_connection((settings.host, settings.port), settings.timeout_s)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is not valid
        timed_out = isinstance(error, TimeoutError)
        return RequestFailure("timeout" if timed_out else "unreachable", _words(error), received=False)
    with SocketDeadline(sock, deadline_s) as deadline:
        try:
            if settings.tls is not None:
                deadline.watch(settings.tls.wrap_socket(sock, server_hostname=settings.host, do_handshake_on_connect=False))
            return _exchange(settings, deadline, event_id, body, now_s)
        except ssl.SSLCertVerificationError as error:
            return RequestFailure("certificate", error.verify_message, received=False)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a socket that was closed meanwhile
            if deadline.passed or isinstance(error, TimeoutError):
                return RequestFailure("timeout", f"no answer within {settings.timeout_s:g} s")
            return RequestFailure("unreachable", _words(error), received=not isinstance(error, ssl.SSLError))


def signature(secret: bytes, event_id: str, now_s: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    digest = hmac.new(secret, f"{event_id}.{now_s}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _exchange(settings: WebhookSettings, deadline: SocketDeadline, event_id: str, body: bytes, now_s: int) -> RequestFailure | None:
    if isinstance(deadline.sock, ssl.SSLSocket):
        deadline.sock.do_handshake()
    connection = http.client.HTTPConnection(settings.host, settings.port)
    connection.sock = deadline.sock
    headers = {
        "Host": settings.origin.partition("://")[2],
        "Content-Type": "application/json",
        "User-Agent": f"edgepose/{__version__}",
        "webhook-id": event_id,
        "webhook-timestamp": str(now_s),
        "Connection": "close",
    }
    if settings.secret is not None:
        headers["webhook-signature"] = signature(settings.secret, event_id, now_s, body)
    connection.request("POST", settings.target, body, headers)
    answer = connection.getresponse()
    if 200 <= answer.status < 300:
        return None
    again = answer.status >= 500 or answer.status in _TRY_AGAIN
    wait = answer.getheader("Retry-After", "")
    wait_s = float(wait) if wait.isascii() and wait.isdigit() else 0.0
    return RequestFailure("status", f"answer {answer.status}", final=not again, retry_after_s=wait_s)


def _words(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
