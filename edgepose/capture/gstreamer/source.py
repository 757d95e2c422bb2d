"""Source of CSI and V4L2 cameras, network cameras decoded in hardware, and custom pipelines, through GStreamer."""

import atexit
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

from edgepose.capture import tls
from edgepose.capture.gstreamer import launch as pipelines
from edgepose.capture.gstreamer.failures import bus_error
from edgepose.capture.gstreamer.launch import Launch
from edgepose.capture.gstreamer.library import HARDWARE_DECODER, Library, load
from edgepose.capture.gstreamer.nvmm import surface_library
from edgepose.capture.gstreamer.pipeline import GstPipeline
from edgepose.capture.limits import MB
from edgepose.capture.network.rtsp_relay import RtspRoute
from edgepose.capture.redact import show
from edgepose.capture.stream import DecodedFrame
from edgepose.capture.video import VideoSource
from edgepose.config import schema
from edgepose.errors import EdgeposeError, SourceError, UnavailableError

_log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 1.0
"""Longest wait of `close` for a pipeline to stop; usually that takes milliseconds, with a frozen RTSP server 0.1 s."""

_PROPERTY_VALUE = re.compile(r"=\s*(\"[^\"]{4,}\"|'[^']{4,}'|[^\s!\"',;]{4,})")

_ARGUS_HINT = "the journal of nvargus-daemon may have details, and restarting that service frees a camera that a program left open"


class GStreamerSource(VideoSource):
    """A source that GStreamer reads: `csi://`, `v4l2://`, `rtsp://`, `rtsps://`, or `gst:` and a pipeline.

    All pipelines are stopped before the program exits, unless it is killed: a CSI camera whose pipeline was not stopped stays occupied
    until NVIDIA's camera service is restarted.

    Args:
        camera: name in the configuration.
        settings: configuration of the camera.
        epoch: number of times this camera was opened before.

    Raises:
        SourceError: the source cannot be opened within `open_timeout_s`.
    """

    def __init__(self, camera: str, settings: schema.CameraConfig, *, epoch: int = 0) -> None:
        url = show(settings.source)
        where = f"camera {camera}: {url}"
        self._address = settings.source if settings.source.lower().startswith("rtsp") else None
        self._route: RtspRoute | None = None
        pipeline = GstPipeline(self._launch, where, self._bus_failure)
        if self._address is not None:
            self._route = RtspRoute(
                self._address,
                where,
                ca_file=settings.ca_file,
                timeout_s=settings.open_timeout_s,
                limit_bytes=settings.frame_limit_mb * MB,
            )
            pipeline = _RoutedPipeline(self._route, self._launch, where, self._bus_failure)
        super().__init__(
            camera, url, settings, pipeline, epoch=epoch, close_timeout_s=_CLOSE_TIMEOUT_S, live_clock=lambda: pipeline.live_clock
        )

    def close(self) -> None:
        """Stop the pipeline from any thread, which ends a waiting `read` immediately; idempotent."""
        super().close()
        if not self.stop(0):
            _log.warning("%s does not stop within %g s; waiting for it again at the program's end", self._where, _CLOSE_TIMEOUT_S)

    def stop(self, within_s: float) -> bool:
        """Stop the pipeline and return whether it stopped within a time; 0 does not wait."""
        self._release()
        return self._worker.join(within_s)

    def _launch(self, library: Library) -> Launch:
        _started.add(self)  # immediately before the pipeline starts
        address = self._route.connect() if self._route is not None else None
        return _launch(self._settings, library, self._where, address)

    def _bus_failure(self, error: Any, debug: str | None) -> SourceError:
        failure = bus_error(error, debug, self._where, self._address, self._settings.ca_file, opening=not self._sequence)
        return _without_values(failure, self._settings.source)

    def _failure(self, error: Exception, opening: bool) -> SourceError:
        if isinstance(error, SourceError):
            if self._settings.source.lower().startswith("csi:") and error.cause in ("failed", "no_video", "ended"):
                return SourceError(f"{error}; {_ARGUS_HINT}", error.cause)
            return error
        if isinstance(error, UnavailableError):
            return SourceError(f"{self._where}: {error}", "unsupported")
        return SourceError(f"{self._where}: unexpected {type(error).__name__}", "failed")


class _RoutedPipeline(GstPipeline):
    """A pipeline of a network camera, whose connection is made here and relayed to GStreamer."""

    def __init__(
        self, route: RtspRoute, launch: Callable[[Library], Launch], where: str, failure: Callable[[Any, str | None], SourceError]
    ) -> None:
        super().__init__(launch, where, failure)
        self._route = route

    def open(self) -> None:
        """Start the pipeline, where its server redirects to."""
        self._route.open(super().open)

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame, or None at the end."""
        try:
            decoded = super().next_frame()
        except SourceError:
            if self._route.failure is not None:
                raise self._route.failure from None
            raise
        self._route.frame_came()
        return decoded

    def close(self) -> None:
        """Stop the pipeline, and end the session at its server."""
        super().close()
        self._route.close()


_started: WeakSet[GStreamerSource] = WeakSet()


@atexit.register
def stop_all(within_s: float = 2.0) -> None:
    """Stop every pipeline that still runs or is being opened; waits at most `within_s` in total."""
    deadline_s = time.monotonic() + within_s
    running = [source for source in list(_started) if not source.stop(0)]
    for source in running:
        source.stop(max(0.0, deadline_s - time.monotonic()))


def opening_error(camera: str, settings: schema.CameraConfig) -> EdgeposeError | None:
    """Return why this machine cannot read a camera through GStreamer, None where nothing is known; starts nothing."""
    where = f"camera {camera}: {show(settings.source)}"
    try:
        library = load()
        launch = _launch(settings, library, where)
        try:
            library.gst.parse_launch_full(launch.text, None, library.gst.ParseFlags.FATAL_ERRORS)
        except library.glib.Error as error:
            return _without_values(bus_error(error, None, where), settings.source)
    except (SourceError, UnavailableError) as error:
        return error
    return None


def _without_values(error: SourceError, source: str) -> SourceError:
    """Return an error without the values of properties in the pipeline that the source may be: GStreamer quotes them anywhere."""
    if not pipelines.is_pipeline(source):
        return error
    text = str(error)
    for value in _PROPERTY_VALUE.findall(source):
        text = text.replace(value.strip("\"'"), "***")
    return SourceError(text, error.cause)


def _launch(settings: schema.CameraConfig, library: Library, where: str, address: str | None = None) -> Launch:
    """Return the pipeline of a camera; `address` replaces the URL of a network camera whose connection is relayed."""
    source = address or settings.source
    if pipelines.is_pipeline(source):
        return pipelines.custom(source)
    scheme = source.partition("://")[0].lower()
    if scheme == "csi":
        launch = pipelines.csi(source)
        if not launch.nvmm or surface_library() is not None:
            return launch
        _log.warning("%s: memory=nvmm needs NVIDIA's libnvbufsurface, which is missing; its frames are copied", where)
        return pipelines.csi(source.replace("memory=nvmm", "memory=system"))
    hardware = library.has(HARDWARE_DECODER)
    if scheme == "v4l2":
        launch = pipelines.v4l2(source, hardware=hardware)
        _check_device(launch.device, where)
        return launch
    secure = tls.is_secure(source)  # not where the connection is relayed, which is encrypted and verified then
    authority = tls.options(settings.ca_file, where)["ca_file"] if secure else None
    database = library.gio.TlsFileDatabase.new(authority) if authority is not None else None
    # RTP over UDP would bypass the encryption.
    udp = settings.rtsp_transport == "udp" and not tls.is_secure(settings.source)
    return pipelines.rtsp(source, udp=udp, hardware=hardware, tls_database=database)


def _check_device(device: Path | None, where: str) -> None:
    """Raise a clearer error than GStreamer's where a device file is missing or not accessible."""
    if device is None:
        return
    if not device.exists():
        raise SourceError(f"{where} does not exist; expected a camera: v4l2-ctl --list-devices lists those that exist", "not_found")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"{where} is not accessible to this user; expected membership of the group video", "unauthorized")
