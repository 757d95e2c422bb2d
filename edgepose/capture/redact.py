"""What is told about a source: scheme and host, by an allow-list; everything else in it may be a secret.

Cameras put secrets everywhere: before the host, in the query, in the path (`/user=pilot_password=…`, keys of streams), in properties of a
GStreamer pipeline. Nothing can list all those places, so only the two parts that hold none are shown.
"""

import re
from collections.abc import Iterable
from pathlib import Path

_HIDDEN = "***"

_URL = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*)://"
    # A URL ends at a space or a quote; where an '@' follows that is not in the next URL, these may be part of a password.
    r"(?P<rest>[^\s'\"<>]*(?:(?:(?!://)[^\n])*@[^\s'\"<>]*)?)"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}(?:%25?[A-Za-z0-9._-]{1,16})?\]")
_DEVICE = re.compile(r"/dev/video[0-9]{1,3}")
_PUNCTUATION = ";,.:)!?"
_PIPELINE = "gst:"
_ADDRESS = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?")

_concealed: tuple[tuple[str, str], ...] = ()


def show(source: str) -> str:
    """Return what may be published, logged and stored of a source: `rtsp://camera.local`, `file`, `gst`, `v4l2:///dev/video0`."""
    if source[: len(_PIPELINE)].lower() == _PIPELINE:
        return "gst"
    scheme = _SCHEME.match(source)
    if scheme is None or scheme[1].lower() == "file":
        return "file"
    return _shown(scheme[1], source[scheme.end() :])


def describe(source: str) -> str:
    """Return what the operator's own terminal shows of a source: also the port, and how many parts the path has.

    The names of files and devices are shown whole.
    """
    shown = show(source)
    if shown == "file":
        return source
    if shown == "gst":
        elements = source.count("!") + 1
        return f"{_PIPELINE} a pipeline of {elements} element{'s' * (elements > 1)}"
    authority, path = _split(source[source.index("://") + 3 :])
    if shown.endswith((_HIDDEN, "://")) or shown.lower().startswith(("csi:", "v4l2:")):
        return shown
    address = _ADDRESS.fullmatch(authority.rpartition("@")[2])
    port = f":{address['port']}" if address is not None and address["port"] else ""
    parts = len([part for part in path.partition("?")[0].partition("#")[0].split("/") if part])
    return f"{shown}{port}" + (f" (path of {parts} part{'s' * (parts != 1)})" if parts else "")


def scrub(text: str) -> str:
    """Return a text of any origin in which every URL is reduced to scheme and host, and each concealed source to what is shown of it.

    Passwords of cameras may contain unescaped `@`, `/`, `?` and quotes. Where a URL is ambiguous, too much is hidden rather than too
    little.
    """
    for whole, shown in _concealed:
        if whole in text:
            text = text.replace(whole, shown)
    return _URL.sub(_shown_in_text, text)


def conceal(sources: Iterable[str]) -> None:
    """Let `scrub` hide these sources, and no others: a path has no scheme by which it is found in a text."""
    global _concealed
    found: dict[str, str] = {}
    for source in sources:
        for whole in (source, str(Path(source).expanduser()) if "://" not in source else source):
            if whole != show(source) and len(whole) > 2:
                found[whole] = show(source)
    _concealed = tuple(sorted(found.items(), key=lambda item: -len(item[0])))  # the longest first: one may be part of another


def _shown_in_text(match: re.Match[str]) -> str:
    """Return a URL as it is shown, and the punctuation of the sentence behind it."""
    rest = match["rest"].rstrip(_PUNCTUATION)
    return _shown(match["scheme"], rest) + match["rest"][len(rest) :]


def _shown(scheme: str, rest: str) -> str:
    """Return scheme and host of a URL; no host where it is not certain which part that is."""
    if scheme.lower() == "file":
        return "file"
    if scheme.lower() == "v4l2":
        device = _DEVICE.match(rest)
        return f"{scheme}://{device[0] if device else _HIDDEN}"
    authority, path = _split(rest)
    # `user:pa/ss@host` looks like host `user`, port `pa`: an '@' behind the first '/' may still belong to a password.
    if "@" in path:
        return f"{scheme}://{_HIDDEN}"
    address = _ADDRESS.fullmatch(authority.rpartition("@")[2])
    if not authority or (address is not None and not address["host"]):
        return f"{scheme}://"
    known = address is not None and _HOST.fullmatch(address["host"])
    return f"{scheme}://{address['host'] if address is not None and known else _HIDDEN}"


def _split(rest: str) -> tuple[str, str]:
    """Return the authority of a URL (RFC 3986, 3.2) and what follows it."""
    end = re.search(r"[/?#\\]", rest)
    return (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
