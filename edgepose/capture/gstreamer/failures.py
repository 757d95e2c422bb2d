"""Mapping of errors on a GStreamer pipeline's bus to a `SourceError` with a cause."""

import errno
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from edgepose.capture import tls
from edgepose.capture.redact import scrub
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
    (_RESOURCE, 10): "ended",  # write: keep-alive of the session
    (_RESOURCE, 13): "unsupported",  # settings: a size, a rate or a transport that the source does not offer
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

# A syntax error, an invalid property or link, an empty bin or text: every GstParseError except a missing element.
_INVALID_PIPELINE = tuple((_PARSE, code) for code in (0, 2, 3, 4, 5, 6, 7))

_SENTENCES = {
    "refused": "{where} is in use by another program ({reason}); expected a free device",
    "not_found": "{where} does not exist ({reason}); check the path",
    "unauthorized": "{where} denied access ({reason}); check the user name, the password and the permissions",
    "ended": "{where} ended the connection ({reason})",
    "no_video": "{where} has no video stream ({reason}); expected a source with video",
    "unsupported": "{where} provides no video that this GStreamer can decode ({reason}); check the plugins and the requested format",
    "failed": "{where} failed ({reason})",
}

_MISSING = re.compile(r'no element "(.+)"')
_FROM_JETPACK = "it is part of JetPack (package nvidia-l4t-gstreamer) and works only on a Jetson"
_FROM_GOOD = "it is part of the package gstreamer1.0-plugins-good"
_PACKAGES = {"nvarguscamerasrc": _FROM_JETPACK, "nvvidconv": _FROM_JETPACK, "rtspsrc": _FROM_GOOD, "v4l2src": _FROM_GOOD}

_QUOTED = re.compile(r"(?P<quote>[\"'])(?P<text>.*?)(?P=quote)")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")  # of an element, a property or a type
_VALUE = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]*\s*=\s*)(?!\()[^\s,;!]+")
_LOCATION = re.compile(r"\S*[/\\@]\S+")

_PROBE_S = 2.0
_LONGEST_REASON = 160  # characters; GStreamer may quote whole session descriptions


def bus_error(
    error: Any, debug: str | None, where: str, address: str | None = None, ca_file: str | None = None, *, opening: bool = True
) -> SourceError:
    """Return the `SourceError` for an error of a pipeline.

    Args:
        error: GLib.Error with `domain`, `code` and `message`.
        debug: where in GStreamer it arose, and often a better reason in its last line.
        where: name of the source in messages, redacted.
        address: URL of a network camera, which is contacted to learn why connecting failed, since GStreamer does not report it.
        ca_file: CA certificates that `rtsps://` is verified against.
        opening: whether no frame has arrived yet.
    """
    code, reason = (error.domain, error.code), reason_of(error.message, debug)
    missing = _MISSING.search(reason) if code == (_PARSE, 1) else None
    if missing is not None:
        hint = _PACKAGES.get(missing[1], "gst-inspect-1.0 lists the installed elements")
        return SourceError(f"{where} needs the element {missing[1]}, which this GStreamer does not have; {hint}", "unsupported")
    if code in _INVALID_PIPELINE:
        return SourceError(f"{where} is not a valid pipeline ({reason}); expected one in the syntax of gst-launch-1.0", "unsupported")
    if error.domain == _RESOURCE and error.code in _OPEN and not opening:
        return SourceError(_SENTENCES["ended"].format(where=where, reason=reason), "ended")
    if address is not None and error.domain == _RESOURCE and error.code in _OPEN:
        return connection_error(address, where, ca_file) or SourceError(_SENTENCES["failed"].format(where=where, reason=reason), "failed")
    cause = _CAUSES.get(code, "failed")
    if cause == "failed" and "not-negotiated" in reason:
        cause = "unsupported"
    elif cause == "failed" and ("not-linked" in reason or "o supported stream" in reason):
        cause = "no_video"
    elif error.domain == _RESOURCE and error.code in _OPEN and "ermission" in reason:
        cause = "unauthorized"
    return SourceError(_SENTENCES[cause].format(where=where, reason=reason), cause)


def connection_error(address: str, where: str, ca_file: str | None) -> SourceError | None:
    """Connect to a network camera and return why that fails, None where it succeeds; waits at most 2 s for each step."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    secure = tls.is_secure(address)
    try:
        with socket.create_connection((host, parts.port or (322 if secure else 554)), _PROBE_S):
            pass
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return SourceError(f"{where} has a host name that cannot be resolved ({reason}); check the name and the DNS server", "not_found")
    except TimeoutError:
        return SourceError(f"{where} did not answer in time; check the address", "timeout")
    except ConnectionRefusedError:
        return SourceError(f"{where} refused the connection; check that the server runs and that the port is right", "refused")
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
            reason = str(error.strerror).lower()
            return SourceError(f"{where} cannot be reached ({reason}); check the network, its cable and the address", "no_route")
        return SourceError(_SENTENCES["failed"].format(where=where, reason=error.strerror or error), "failed")
    return tls.handshake_error(address, tls.options(ca_file, where)["ca_file"], where) if secure else None


def reason_of(message: str, debug: str | None) -> str:
    """Return the last line of the developer text where it holds the reason, since the message is often only a heading; redacted."""
    last = (debug or "").strip().rpartition("\n")[2].strip()
    # A line that only names a place in the source code is no reason.
    reason = last if last and "(): /Gst" not in last else message
    reason = _without_values(scrub(reason)).strip().rstrip(".")
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}…"
    return reason[:1].lower() + reason[1:]


def _without_values(text: str) -> str:
    """Return a text of GStreamer without what it quotes of a pipeline: values of properties, paths, anything but names."""
    text = _QUOTED.sub(lambda found: found[0] if _NAME.fullmatch(found["text"]) else f"{found['quote']}***{found['quote']}", text)
    text = _VALUE.sub(lambda found: f"{found['name']}***", text)
    return _LOCATION.sub("***", text)
