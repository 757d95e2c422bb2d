"""What PyAV raises, said as a `SourceError` with a cause."""

import errno
import socket
from urllib.parse import urlsplit

from edgepose.capture.redact import redact
from edgepose.errors import SourceError

CAUSES = (
    "refused",
    "no_route",
    "not_found",
    "unauthorized",
    "tls",
    "timeout",
    "no_video",
    "unsupported",
    "stalled",
    "frozen",
    "ended",
    "failed",
    "closed",
)
"""Every `SourceError.cause` of this room, apart from `end_of_stream`."""

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
    "ExitError": "stalled",  # PyAV's own time-outs
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
"""Cause of each exception class of `av.error`, by name: older and newer releases lack some of them."""

_CAUSE_BY_NUMBER = dict.fromkeys((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN), "no_route")
"""Cause by error number, of what PyAV has no class for."""

_SENTENCES = {
    "no_route": "{where} cannot be reached ({why}); check the address, the cable or radio link, and the routes",
    "refused": "{where} refused the connection ({why}); check that the server runs and that the port is right",
    "not_found": "{where} does not exist ({why}); check the path",
    "unauthorized": "{where} does not let us in ({why}); check the user name, the password and the permissions",
    "timeout": "{where} did not answer in time ({why})",
    "stalled": "{where} sends no more ({why})",
    "ended": "{where} ended the connection ({why})",
    "unsupported": "{where} is not a video that can be read ({why}); H.264, H.265, MJPEG and whatever else FFmpeg decodes is accepted",
    "failed": "{where} failed ({why})",
}


def source_error(error: Exception, where: str, *, opening: bool) -> SourceError:
    """Return what an exception of PyAV, while opening or reading `where` (redacted), means to an operator."""
    if isinstance(error, SourceError):
        return error
    cause = "failed"
    if type(error).__module__ == "av.error":
        cause = _CAUSE_BY_NUMBER.get(getattr(error, "errno", 0), CAUSE_BY_EXCEPTION.get(type(error).__name__, "failed"))
    if opening and cause == "stalled":
        cause = "timeout"
    # Of what FFmpeg says only the reason: the rest of its text repeats the URL with its password.
    why = redact(str(getattr(error, "strerror", None) or error or type(error).__name__))
    return SourceError(_SENTENCES[cause].format(where=where, why=why[:1].lower() + why[1:]), cause)


def unknown_protocol(url: str, where: str) -> SourceError:
    """Say that this build of FFmpeg lacks a protocol."""
    scheme = url.partition("://")[0].lower()
    hint = '; `gst:` and a pipeline with srtsrc, of GStreamer\'s "bad" plugins, can' if scheme == "srt" else ""
    return SourceError(f"{where} begins with {scheme}://, which this build of FFmpeg cannot read{hint}", "unsupported")


def unresolved_host(url: str, where: str) -> SourceError | None:
    """Say that a host name cannot be resolved, which FFmpeg reports as a mere input/output error; None where that is not the matter."""
    try:
        host = urlsplit(url).hostname
        if host is not None:
            socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError) as unresolved:
        why = getattr(unresolved, "strerror", None) or unresolved
        return SourceError(f"{where} has a host name that cannot be resolved ({why}); check the name and the name server", "not_found")
    except ValueError:
        return SourceError(f"{where} is not a URL; rtsp://host:port/path is accepted", "unsupported")
    return None
