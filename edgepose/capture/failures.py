"""Mapping of PyAV's exceptions to a `SourceError` with a cause."""

import errno
import socket
from urllib.parse import urlsplit

from edgepose.errors import SourceError

CAUSES = (
    "refused",
    "no_route",
    "not_found",
    "unauthorized",
    "tls",
    "forbidden",
    "too_large",
    "timeout",
    "no_video",
    "unsupported",
    "stalled",
    "frozen",
    "ended",
    "failed",
    "closed",
)
"""Every `SourceError.cause` of this package except `end_of_stream`."""

CAUSE_BY_EXCEPTION = {
    "ArgumentError": "failed",
    "BSFNotFoundError": "unsupported",
    "BlockingIOError": "failed",
    "BrokenPipeError": "ended",
    "BufferTooSmallError": "failed",
    "BugError": "failed",
    "ChildProcessError": "failed",
    "ConnectionAbortedError": "ended",
    "ConnectionRefusedError": "refused",
    "ConnectionResetError": "ended",
    "DecoderNotFoundError": "unsupported",
    "DemuxerNotFoundError": "unsupported",
    "EOFError": "ended",
    "EncoderNotFoundError": "unsupported",
    "ExitError": "stalled",  # PyAV's own timeouts
    "ExperimentalError": "unsupported",
    "ExternalError": "failed",
    "FFmpegError": "failed",
    "FileExistsError": "failed",
    "FileNotFoundError": "not_found",
    "FilterNotFoundError": "unsupported",
    "HTTPBadRequestError": "failed",
    "HTTPClientError": "failed",
    "HTTPError": "failed",
    "HTTPForbiddenError": "unauthorized",
    "HTTPNotFoundError": "not_found",
    "HTTPOtherClientError": "failed",
    "HTTPServerError": "failed",
    "HTTPTooManyRequestsError": "refused",
    "HTTPUnauthorizedError": "unauthorized",
    "InputChangedError": "failed",
    "InterruptedError": "failed",
    "InvalidDataError": "unsupported",
    "IsADirectoryError": "unsupported",
    "LookupError": "unsupported",
    "MemoryError": "failed",
    "MuxerNotFoundError": "unsupported",
    "NotADirectoryError": "not_found",
    "NotImplementedError": "unsupported",
    "OSError": "failed",
    "OptionNotFoundError": "unsupported",
    "OutputChangedError": "failed",
    "OverflowError": "failed",
    "PatchWelcomeError": "unsupported",
    "PermissionError": "unauthorized",
    "ProcessLookupError": "failed",
    "ProtocolNotFoundError": "unsupported",
    "PyAVCallbackError": "failed",
    "TimeoutError": "stalled",
    "UndefinedError": "failed",
    "UnknownError": "failed",
}
"""Cause of each exception class of `av.error`, by name, since some releases lack some of them."""

_CAUSE_BY_NUMBER = dict.fromkeys((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN), "no_route")
"""Cause by error number, for errors that PyAV has no class for."""

_SENTENCES = {
    "no_route": "{where} cannot be reached ({reason}); check the address, the cable or radio link, and the routes",
    "refused": "{where} refused the connection ({reason}); check that the server runs and that the port is right",
    "not_found": "{where} does not exist ({reason}); check the path",
    "unauthorized": "{where} denied access ({reason}); check the user name, the password and the permissions",
    "timeout": "{where} did not answer in time ({reason})",
    "stalled": "{where} stopped sending ({reason})",
    "ended": "{where} ended the connection ({reason})",
    "unsupported": "{where} is not a readable video ({reason}); expected H.264, H.265, MJPEG or another format that FFmpeg decodes",
    "failed": "{where} failed ({reason})",
}


def source_error(error: Exception, where: str, *, opening: bool) -> SourceError:
    """Return the `SourceError` for an exception of PyAV.

    Args:
        error: the exception.
        where: name of the source in messages, redacted.
        opening: whether the source was being opened, rather than read.
    """
    if isinstance(error, SourceError):
        return error
    cause = "failed"
    if type(error).__module__ == "av.error":
        cause = _CAUSE_BY_NUMBER.get(getattr(error, "errno", 0), CAUSE_BY_EXCEPTION.get(type(error).__name__, "failed"))
    if opening and cause == "stalled":
        cause = "timeout"
    # Only the text that belongs to the error's number: the rest of FFmpeg's, and any other library's, may repeat the URL.
    reason = str(getattr(error, "strerror", None) or type(error).__name__)
    return SourceError(_SENTENCES[cause].format(where=where, reason=reason[:1].lower() + reason[1:]), cause)


def connection_failure(error: Exception, where: str, *, opening: bool) -> SourceError:
    """Return the `SourceError` for an exception of a socket or of `http.client`; parameters as in `source_error`."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, socket.gaierror | UnicodeError):
        return unresolved(error, where)
    import http.client

    cause, reason = "failed", type(error).__name__
    if isinstance(error, TimeoutError):
        cause, reason = ("timeout" if opening else "stalled"), "no data arrived"
    elif isinstance(error, ConnectionRefusedError):
        cause, reason = "refused", "connection refused"
    elif isinstance(error, ConnectionError | http.client.RemoteDisconnected | http.client.IncompleteRead):
        cause, reason = "ended", "connection closed"
    elif isinstance(error, http.client.HTTPException):
        cause, reason = "unsupported", "its answer is not HTTP"
    elif isinstance(error, OSError):
        cause = _CAUSE_BY_NUMBER.get(error.errno or 0, "failed" if opening else "ended")
        reason = (error.strerror or reason) if error.errno in errno.errorcode else reason
    return SourceError(_SENTENCES[cause].format(where=where, reason=reason[:1].lower() + reason[1:]), cause)


def http_failure(status: int, where: str) -> SourceError:
    """Return the `SourceError` for the status of an HTTP server's answer."""
    import http.client

    cause = {401: "unauthorized", 403: "unauthorized", 404: "not_found", 410: "not_found", 429: "refused"}.get(status, "failed")
    known = http.client.responses.get(status)  # the server's own words may repeat the request
    said = f"server returned {status}{f' {known}' if known else ''}"
    return SourceError(_SENTENCES[cause].format(where=where, reason=said), cause)


def unknown_protocol(url: str, where: str) -> SourceError:
    """Return the error for a protocol that this build of FFmpeg lacks."""
    scheme = url.partition("://")[0].lower()
    hint = '; `gst:` and a pipeline with srtsrc, of GStreamer\'s "bad" plugins, can read it' if scheme == "srt" else ""
    return SourceError(f"{where} begins with {scheme}://, which this build of FFmpeg cannot read{hint}", "unsupported")


def unresolved_host(url: str, where: str) -> SourceError | None:
    """Return the error for a host name that cannot be resolved, which FFmpeg reports as an input/output error; None where it can."""
    try:
        host = urlsplit(url).hostname
        if host is not None:
            socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError) as error:
        return unresolved(error, where)
    except ValueError:
        return SourceError(f"{where} is not a URL; expected one such as rtsp://host:port/path", "unsupported")
    return None


def unresolved(error: Exception, where: str) -> SourceError:
    """Return the error for a host name that cannot be resolved."""
    reason = getattr(error, "strerror", None) or "it is no host name"
    return SourceError(f"{where} has a host name that cannot be resolved ({reason}); check the name and the DNS server", "not_found")
