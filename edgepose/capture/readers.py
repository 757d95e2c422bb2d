"""Choice of the library that reads a camera, with the reason, for opening it and for reporting it to the operator."""

from typing import Literal

import msgspec

from edgepose.capture.gstreamer import launch as pipelines
from edgepose.config import schema


class Reader(msgspec.Struct, frozen=True):
    """The library that reads a camera.

    Attributes:
        name: `ffmpeg` (through PyAV) or `gstreamer`.
        reason: why this library, as a clause for the operator.
    """

    name: Literal["ffmpeg", "gstreamer"]
    reason: str


def choose_reader(camera: schema.CameraConfig) -> Reader:
    """Choose the reader of a camera; may query GStreamer's registry, but opens nothing."""
    if pipelines.is_pipeline(camera.source):
        return Reader("gstreamer", "the source is a pipeline in its syntax")
    scheme = camera.source.partition("://")[0].lower() if "://" in camera.source else ""
    if scheme in pipelines.SCHEMES:
        return Reader("gstreamer", f"nothing else reads {scheme}://")
    if scheme not in ("rtsp", "rtsps"):
        return Reader("ffmpeg", "it reads files, and streams other than RTSP")
    if camera.reader != "auto":
        return Reader(camera.reader, "the configuration says so")
    from edgepose.capture.gstreamer.library import HARDWARE_DECODER, decodes_in_hardware

    if decodes_in_hardware():
        return Reader("gstreamer", f"it decodes in hardware here: {HARDWARE_DECODER} was found")
    return Reader("ffmpeg", f"GStreamer has no {HARDWARE_DECODER} here, and in software FFmpeg costs less")
