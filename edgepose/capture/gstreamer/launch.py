"""GStreamer pipelines for `csi://`, `v4l2://`, `rtsp://` and `gst:` sources, as text; nothing is opened."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from edgepose.capture.redact import show

SCHEMES = ("csi", "v4l2")
"""Schemes that only GStreamer supports."""

PREFIX = "gst:"
"""Prefix of a source that is a pipeline in GStreamer's own syntax."""

RTSP_SOURCE = "camera"
"""Name of the element `rtspsrc`: its address and password are set as properties, not in the text, which may be logged."""

_RGB = "videoconvert ! video/x-raw,format=RGB ! appsink"

# NVIDIA's elements keep frames in their own memory (NVMM); only nvvidconv copies them out, and it does not support three-byte RGB.
_OUT_OF_NVMM = f"nvvidconv ! video/x-raw,format=BGRx ! {_RGB}"

_IN_NVMM = "nvvidconv ! video/x-raw(memory:NVMM),format=RGBA ! appsink"
"""The same without a copy: the frames stay in NVIDIA's memory (`edgepose.capture.gstreamer.nvmm`)."""

_UDP_REORDER_MS = 100
"""Longest wait for a UDP packet that arrives out of order; TCP keeps the order. GStreamer's default of 2 s suits viewers only."""

_RANGES = {"width": (16, 16384), "height": (16, 16384), "rate": (1, 1000), "flip": (0, 7)}
_CSI_PARAMETERS = ("width", "height", "rate", "flip", "memory")
_V4L2_PARAMETERS = ("width", "height", "rate", "format")
_MEMORIES = ("nvmm", "system")
_V4L2_FORMATS = {"mjpeg": ("image/jpeg",), "h264": ("video/x-h264",), "raw": ("video/x-raw",)}
_CSI_DEFAULTS = {"width": 1280, "height": 720, "rate": 30}

_APPSINK = re.compile(r"(?:^|!)\s*appsink\b")


@dataclass(frozen=True, slots=True)
class Launch:
    """A pipeline to start.

    Attributes:
        text: the pipeline in the syntax of gst-launch-1.0, without credentials.
        properties: properties to set on named elements before the start, element -> property -> value; may hold credentials.
        of_this_host: whether the timestamps of a live pipeline are on this host's clock, rather than on a network camera's.
        device: device file that must exist.
        nvmm: whether the frames that it delivers are surfaces in NVIDIA's memory.
    """

    text: str
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    of_this_host: bool = True
    device: Path | None = None
    nvmm: bool = False


def is_pipeline(source: str) -> bool:
    """Return whether a camera's source is a pipeline in GStreamer's own syntax."""
    return source[: len(PREFIX)].lower() == PREFIX


def validation_error(source: str) -> str | None:
    """Return why a `csi://`, `v4l2://` or `gst:` source can never be opened, in one sentence; None where it is valid."""
    try:
        if is_pipeline(source):
            custom(source)
        elif source.lower().startswith("csi:"):
            csi(source)
        else:
            v4l2(source, hardware=False)
    except ValueError as error:
        return str(error)
    return None


def csi(url: str) -> Launch:
    """Return the pipeline of a camera on a Jetson's CSI connector: `csi://0?width=1280&height=720&rate=30&flip=2`.

    With `memory=nvmm` the frames are read in NVIDIA's own memory rather than copied out of it.

    Raises:
        ValueError: the URL is invalid; the text is a sentence.
    """
    parts = _split(url)
    if not re.fullmatch(r"[0-9]{1,3}", parts.netloc) or parts.path not in ("", "/"):
        raise ValueError(f"{show(url)} names no sensor; expected a sensor number, such as csi://0?width=1280&height=720&rate=30")
    wanted = _parameters(url, _CSI_PARAMETERS)
    if ("width" in wanted) != ("height" in wanted):
        raise ValueError(f"{show(url)} has only one of width and height; expected both or neither")
    size = _CSI_DEFAULTS | wanted
    if int(size["width"]) % 2 or int(size["height"]) % 2:
        raise ValueError(
            f"{show(url)} asks for {size['width']}x{size['height']}; expected even numbers, since color is sampled at every other pixel"
        )
    flip = f" flip-method={wanted['flip']}" if "flip" in wanted else ""
    nvmm = wanted.get("memory") == "nvmm"
    after = _IN_NVMM if nvmm else _OUT_OF_NVMM
    return Launch(
        f"nvarguscamerasrc sensor-id={int(parts.netloc)}"
        f" ! video/x-raw(memory:NVMM),format=NV12,width={size['width']},height={size['height']},framerate={size['rate']}/1"
        f" ! {after.replace('nvvidconv', f'nvvidconv{flip}')}",
        nvmm=nvmm,
    )


def v4l2(url: str, *, hardware: bool) -> Launch:
    """Return the pipeline of a V4L2 device: `v4l2:///dev/video0?width=1280&height=720&rate=30&format=mjpeg`.

    Without a format, MJPEG is preferred to H.264, and H.264 to raw: raw frames of a usable size are slow over USB.

    Args:
        url: the source.
        hardware: whether a decoder may leave its frames in NVIDIA's memory.

    Raises:
        ValueError: the URL is invalid; the text is a sentence.
    """
    parts = _split(url)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or path == "/" or not path.isprintable():
        raise ValueError(
            f"{show(url)} names no device; expected three slashes and a path, such as v4l2:///dev/video0?width=1280&height=720"
        )
    wanted = _parameters(url, _V4L2_PARAMETERS)
    formats = (str(wanted["format"]),) if "format" in wanted else tuple(_V4L2_FORMATS)
    size = "".join(f",{key}={wanted[key]}" for key in ("width", "height") if key in wanted)
    rate = f",framerate={wanted['rate']}/1" if "rate" in wanted else ""
    caps = ";".join(f"{caps}{size}{rate}" for name in formats for caps in _V4L2_FORMATS[name])
    after = _OUT_OF_NVMM if hardware else _RGB
    return Launch(f'v4l2src device={_quoted(path)} ! capsfilter caps="{caps}" ! decodebin ! {after}', device=Path(path))


def rtsp(url: str, *, udp: bool, hardware: bool, tls_database: Any = None) -> Launch:
    """Return the pipeline of a network camera.

    The timestamps are the camera's, not smoothed against the host's clock (`buffer-mode=none`): `LiveClock` does that, and both together
    are off by 50 ms. decodebin uses the decoder of the highest rank: NVIDIA's on a Jetson, elsewhere another hardware decoder or the best
    software decoder.

    Args:
        url: `rtsp://` or `rtsps://`, with credentials.
        udp: whether RTP travels over UDP rather than inside the RTSP connection.
        hardware: whether the decoder leaves its frames in NVIDIA's memory.
        tls_database: CA certificates that `rtsps://` is verified against (Gio.TlsDatabase); None uses the system's.
    """
    parts = urlsplit(url)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    properties: dict[str, Any] = {"location": urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))}
    if user:
        properties |= {"user-id": unquote(user), "user-pw": unquote(password)}
    if tls_database is not None:
        properties["tls-database"] = tls_database
    # Since GStreamer 1.22: attaches the camera's own clock, from its RTCP sender reports, to every frame.
    properties["add-reference-timestamp-meta"] = True
    transport = f"protocols=udp latency={_UDP_REORDER_MS}" if udp else "protocols=tcp latency=0"
    after = _OUT_OF_NVMM if hardware else _RGB
    return Launch(
        f"rtspsrc name={RTSP_SOURCE} {transport} buffer-mode=none ! application/x-rtp,media=video ! decodebin ! {after}",
        properties={RTSP_SOURCE: properties},
        of_this_host=False,
    )


def custom(source: str) -> Launch:
    """Return a pipeline in GStreamer's own syntax (`gst:videotestsrc is-live=true`), with an appsink added where it has none.

    Raises:
        ValueError: the pipeline is missing or invalid; the text is a sentence.
    """
    text = source[len(PREFIX) :].strip().rstrip("!").strip()
    if not text or text.startswith("/") or "\0" in text:
        raise ValueError(
            "gst: is followed by no pipeline; expected one in the syntax of gst-launch-1.0, such as gst:videotestsrc is-live=true"
            " (the conversion to RGB and the appsink are added)"
        )
    sinks = len(_APPSINK.findall(text))
    if sinks > 1:
        raise ValueError(f"gst: is followed by a pipeline with {sinks} appsinks; expected one, or none, since it is then added")
    # These elements replace the timestamps of network streams with smoothed ones on a drifting clock.
    remote = re.search(r"\b(rtspsrc|rtpbin|rtpjitterbuffer|uridecodebin3?|playbin3?)\b", text) is not None
    return Launch(text if sinks else f"{text} ! {_RGB}", of_this_host=not remote)


def _parameters(url: str, known: tuple[str, ...]) -> dict[str, int | str]:
    parts = _split(url)
    values: dict[str, int | str] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True) + ([("#" + parts.fragment, "")] if parts.fragment else []):
        if name not in known:
            raise ValueError(f"{show(url)} has an unknown parameter; expected {', '.join(known)}")
        if name in values:
            raise ValueError(f"{show(url)} has {name} twice; expected it once")
        if name in ("format", "memory"):
            accepted = tuple(_V4L2_FORMATS) if name == "format" else _MEMORIES
            if text not in accepted:
                raise ValueError(f"{show(url)} has an unknown {name}; expected {', '.join(accepted)}")
            values[name] = text
            continue
        low, high = _RANGES[name]
        if not re.fullmatch(r"[0-9]{1,6}", text) or not low <= int(text) <= high:
            raise ValueError(f"{show(url)} has {name}={_number(text)}; expected a whole number from {low} to {high}")
        values[name] = int(text)
    return values


def _number(text: str) -> str:
    """Return a value for an error message, hidden unless it is a number."""
    return text if re.fullmatch(r"[0-9.-]{0,8}", text, re.ASCII) else "***"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{show(url)} is not a URL; expected one such as csi://0 or v4l2:///dev/video0") from error


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
