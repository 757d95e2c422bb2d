"""Which library reads which camera, for `edgepose doctor`."""

import av

from edgepose.capture.gstreamer.library import CSI_SOURCE, HARDWARE_DECODER, load
from edgepose.capture.readers import reader_of
from edgepose.config.schema import CameraConfig
from edgepose.diagnostics.preflight import CheckResult
from edgepose.errors import UnavailableError


def gstreamer() -> CheckResult:
    """Whether GStreamer is there and what it finds of a Jetson; good either way, since most cameras do without."""
    try:
        library = load()
    except UnavailableError as error:
        return CheckResult("gstreamer", True, f"not used: {error}")
    decoder = f"{HARDWARE_DECODER} found: RTSP is decoded in hardware" if library.has(HARDWARE_DECODER) else f"{HARDWARE_DECODER} not found"
    camera = f"{CSI_SOURCE} {'found' if library.has(CSI_SOURCE) else 'not found'}"
    return CheckResult("gstreamer", True, f"{library.version}, through gi {library.gi_version} in {library.place}; {decoder}; {camera}")


def reader(name: str, camera: CameraConfig) -> CheckResult:
    """What reads a camera, and why."""
    chosen = reader_of(camera)
    version = f"FFmpeg (PyAV {av.__version__})" if chosen.name == "ffmpeg" else "GStreamer"
    return CheckResult(f"reader {name}", True, f"{version}: {chosen.why}")
