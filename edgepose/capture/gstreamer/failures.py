"""What GStreamer says on a pipeline's bus, said as a `SourceError` with a cause."""

import errno
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from edgepose.capture import tls
from edgepose.capture.redact import redact
from edgepose.errors import SourceError

_RESOURCE = "gst-resource-error-quark"
_STREAM = "gst-stream-error-quark"
_CORE = "gst-core-error-quark"
_PARSE = "gst_parse_error"

# Numbers of GstResourceError, GstStreamError, GstCoreError and GstParseError: fixed parts of GStreamer's interface.
_OPEN = (5, 6, 7)
_CAUSES = {
    (_RESOURCE, 3): "not_found",
    (_RESOURCE, 4): "refused",  # busy
    (_RESOURCE, 9): "ended",  # read
    (_RESOURCE, 10): "ended",  # write: keeping the session alive
    (_RESOURCE, 13): "unsupported",  # settings: a size, a rate, a transport that it does not offer
    (_RESOURCE, 15): "unauthorized",
    (_STREAM, 3): "unsupported",  # not implemented
    (_STREAM, 4): "unsupported",  # type not found
    (_STREAM, 5): "unsupported",  # wrong type
    (_STREAM, 6): "unsupported",  # codec not found
    (_STREAM, 11): "unsupported",  # format
    (_CORE, 7): "unsupported",  # negotiation
    (_CORE, 12): "unsupported",  # missing plugin
    (_PARSE, 0): "unsupported",
    (_PARSE, 1): "unsupported",
    (_PARSE, 2): "unsupported",
    (_PARSE, 3): "unsupported",
    (_PARSE, 4): "unsupported",
}

# A syntax error, a property or a link that cannot be, an empty bin or text: GstParseError but for a missing element.
_NO_PIPELINE = tuple((_PARSE, code) for code in (0, 2, 3, 4, 5, 6, 7))

_SENTENCES = {
    "refused": "{where} is in use by another program ({why}); expected it free",
    "not_found": "{where} does not exist ({why}); check the path",
    "unauthorized": "{where} does not let us in ({why}); check the user name, the password and the permissions",
    "ended": "{where} ended the connection ({why})",
    "no_video": "{where} has no video stream ({why}); a source with video is accepted",
    "unsupported": "{where} gives nothing that this GStreamer can make pictures of ({why}); check the plugins and what is asked for",
    "failed": "{where} failed ({why})",
}

_MISSING = re.compile(r'no element "(.+)"')
_FROM_JETPACK = "it comes with JetPack, in the package nvidia-l4t-gstreamer, and works on a Jetson only"
_FROM_GOOD = "it comes with the package gstreamer1.0-plugins-good"
_PACKAGES = {"nvarguscamerasrc": _FROM_JETPACK, "nvvidconv": _FROM_JETPACK, "rtspsrc": _FROM_GOOD, "v4l2src": _FROM_GOOD}

_PROBE_S = 2.0
_LONGEST_REASON = 160  # GStreamer is capable of whole session descriptions


def bus_error(
    error: Any, debug: str | None, where: str, address: str | None = None, ca_file: str | None = None, *, opening: bool = True
) -> SourceError:
    """Return what an error of a pipeline means to an operator.

    Args:
        error: GLib.Error: `domain`, `code`, `message`.
        debug: where in GStreamer it arose, and often the better reason in its last line.
        where: name of the source in messages, redacted.
        address: URL of a network camera, which is asked why it does not let us connect: GStreamer does not tell.
        ca_file: what `rtsps://` is verified against.
        opening: whether no picture has come yet.
    """
    code, why = (error.domain, error.code), _reason(error.message, debug)
    missing = _MISSING.search(why) if code == (_PARSE, 1) else None
    if missing is not None:
        hint = _PACKAGES.get(missing[1], "gst-inspect-1.0 lists those that it has")
        return SourceError(f"{where} needs the element {missing[1]}, which this GStreamer does not have; {hint}", "unsupported")
    if code in _NO_PIPELINE:
        return SourceError(f"{where} is no pipeline ({why}); expected one as gst-launch-1.0 takes it", "unsupported")
    if error.domain == _RESOURCE and error.code in _OPEN and not opening:
        return SourceError(_SENTENCES["ended"].format(where=where, why=why), "ended")
    if address is not None and error.domain == _RESOURCE and error.code in _OPEN:
        return why_unreachable(address, where, ca_file) or SourceError(_SENTENCES["failed"].format(where=where, why=why), "failed")
    cause = _CAUSES.get(code, "failed")
    if cause == "failed" and "not-negotiated" in why:
        cause = "unsupported"
    elif cause == "failed" and ("not-linked" in why or "o supported stream" in why):
        cause = "no_video"
    elif error.domain == _RESOURCE and error.code in _OPEN and "ermission" in why:
        cause = "unauthorized"
    return SourceError(_SENTENCES[cause].format(where=where, why=why), cause)


def why_unreachable(address: str, where: str, ca_file: str | None) -> SourceError | None:
    """Connect to a network camera to learn why GStreamer could not; None where we can. Waits 2 s at most for each step."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    secure = tls.is_secure(address)
    try:
        with socket.create_connection((host, parts.port or (322 if secure else 554)), _PROBE_S):
            pass
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        return SourceError(f"{where} has a host name that cannot be resolved ({why}); check the name and the name server", "not_found")
    except TimeoutError:
        return SourceError(f"{where} did not answer in time; check the address", "timeout")
    except ConnectionRefusedError:
        return SourceError(f"{where} refused the connection; check that the server runs and that the port is right", "refused")
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
            why = str(error.strerror).lower()
            return SourceError(f"{where} cannot be reached ({why}); check the network, its cable and the address", "no_route")
        return SourceError(_SENTENCES["failed"].format(where=where, why=error.strerror or error), "failed")
    return tls.refused(address, tls.options(ca_file, where)["ca_file"], where) if secure else None


def _reason(message: str, debug: str | None) -> str:
    """The last line of what GStreamer adds for developers is its reason, where it has one; its message is often a mere heading."""
    last = (debug or "").strip().rpartition("\n")[2].strip()
    # A line that only says where in the source code it arose is none.
    reason = last if last and "(): /Gst" not in last else message
    reason = redact(reason).strip().rstrip(".")
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}…"
    return reason[:1].lower() + reason[1:]
