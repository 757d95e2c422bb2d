"""A video as GStreamer reads it, one blocking step at a time: open, next frame, close."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.capture.clock import NS_PER_S, Instant, LiveClock
from edgepose.capture.gstreamer.failures import reason_of
from edgepose.capture.gstreamer.launch import Launch
from edgepose.capture.gstreamer.library import Library, load
from edgepose.capture.gstreamer.nvmm import read_surface, surface_library
from edgepose.capture.stream import DecodedFrame
from edgepose.errors import SourceError

_log = logging.getLogger(__name__)

_POLL_NS = NS_PER_S // 20
"""Length of one wait for a frame; errors on the bus and `abandon` are noticed after it."""

_MAXIMUM_AGE_NS = 5 * NS_PER_S
"""A frame that is older than this when it leaves the pipeline has a timestamp with another meaning."""

_UNIX_BEFORE_NTP_NS = {"timestamp/x-ntp": 2_208_988_800 * NS_PER_S, "timestamp/x-unix": 0}
"""Accepted reference timestamps, with the time from their epoch to 1970."""


class GstPipeline:
    """A GStreamer pipeline that ends in an appsink; one thread owns it, except for the counters and `abandon`.

    GStreamer does not report a camera that stops sending: the caller of `next_frame` needs a deadline.

    Args:
        launch: returns the pipeline to start; called by `open`, since it may query GStreamer's registry.
        where: name of the source in messages, redacted.
        failure: makes a `SourceError` from GLib.Error and the developer text that came with it.
    """

    late_by_nature = False

    def __init__(self, launch: Callable[[Library], Launch], where: str, failure: Callable[[Any, str | None], SourceError]) -> None:
        self._launch = launch
        self._where = where
        self._failure = failure
        self._abandoned = False
        self._library: Any = None
        self._pipeline: Any = None
        self._sink: Any = None
        self._bus: Any = None
        self._first: Any = None  # the frame that `open` waits for
        self._nvmm = False
        self._caps: Any = None
        self._info: Any = None
        self._delivered = 0
        self.finite = False
        """Whether it delivers frames as fast as they are read: a file, not a camera."""
        self.interval_ns = NS_PER_S // 25
        """Nominal time between two frames."""
        self.patience_s = 0.0
        """How much longer than an ordinary stream it may wait for a frame."""
        self.decoding = False
        """Always False: elements decode in threads of their own."""
        self.pixel_aspect = 1.0
        """Width of a stored pixel divided by its height; not known here."""
        self.live_clock = LiveClock()
        """Clock for the capture times of a live pipeline; a new one for each `open`."""
        self.corrupt_frames = 0
        """Number of frames that decoders marked as damaged."""
        self.packets_without_frame = 0
        """Number of damaged frames since the last good one."""
        self.superseded_frames = 0
        """Number of frames of a live stream that a newer one replaced before they were requested."""

    def open(self) -> None:
        """Start the pipeline, or restart it, and wait for its first frame.

        Raises:
            SourceError: the pipeline cannot be created, or fails before its first frame.
            UnavailableError: GStreamer is not installed.
        """
        self.close()
        library = self._library = load()
        launch = self._launch(library)
        self._nvmm = launch.nvmm
        self._sink = self._make(launch)
        # No local variable: the traceback of an error would keep the bus and its file descriptors alive.
        self._bus = self._pipeline.get_bus()
        self._delivered = 0
        _log.debug("%s: starting its pipeline of %d elements", self._where, launch.text.count("!") + 1)
        if self._pipeline.set_state(library.gst.State.PLAYING) == library.gst.StateChangeReturn.FAILURE:
            self._read_bus()
            raise SourceError(f"{self._where} does not start and reports no reason", "failed")
        self._first = self._next_sample()
        if self._first is None:
            raise SourceError(f"{self._where} ended before its first frame; expected a source with video", "no_video")
        self.finite = not self._is_live()
        # A slow reader must not block a live pipeline: only the newest frame is kept.
        self._sink.set_property("drop", not self.finite)
        self.interval_ns = self._interval_ns(self._first)
        self.live_clock = self._new_clock(self._first, launch.of_this_host)

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame, or None at the end.

        Raises:
            SourceError: the pipeline has failed.
        """
        while True:
            sample, self._first = self._first, None
            if sample is None:
                sample = self._next_sample()
            if sample is None:
                return None
            self._count()
            buffer = sample.get_buffer()
            if not buffer.has_flags(self._library.gst.BufferFlags.CORRUPTED):
                break
            self.corrupt_frames += 1
            self.packets_without_frame += 1
        self.packets_without_frame = 0
        return DecodedFrame(sample, self._running_ns(sample), self._sender_ns(buffer), Instant.now())

    def image(self, frame: DecodedFrame) -> NDArray[np.uint8]:
        """Return the image of a frame as uint8 (H, W, 3), RGB, not writable."""
        sample = frame.decoded
        if self._nvmm:
            return self._surface(sample.get_buffer())
        caps = sample.get_caps()
        video = self._library.video
        if self._caps is None or not caps.is_equal(self._caps):
            self._caps, self._info = caps, video.VideoInfo.new_from_caps(caps)
        buffer = sample.get_buffer()
        height, width, stride, offset = self._info.height, self._info.width, self._info.stride[0], self._info.offset[0]
        meta = video.buffer_get_video_meta(buffer)
        if meta is not None:  # elements that pad rows for their hardware describe that here
            stride, offset = meta.stride[0], meta.offset[0]
        mapped, memory = buffer.map(self._library.gst.MapFlags.READ)
        if not mapped:
            raise SourceError(f"{self._where} delivered a frame whose memory cannot be read", "failed")
        try:
            pixels = memory.data  # bytes: a copy that outlives the buffer; another copy would cost as much as decoding
        finally:
            buffer.unmap(memory)
        rows: NDArray[np.uint8] = np.ndarray((height, width, 3), np.uint8, pixels, offset, (stride, 3, 1))
        image = np.ascontiguousarray(rows)  # without the padding of rows, if any
        image.flags.writeable = False
        return image

    def _surface(self, buffer: Any) -> NDArray[np.uint8]:
        mapped, memory = buffer.map(self._library.gst.MapFlags.READ)
        try:
            image = read_surface(bytes(memory.data) if mapped else b"", surface_library())
        except ValueError as error:
            raise SourceError(f"{self._where} cannot be read in NVMM: {error}, or no memory=nvmm", "unsupported") from error
        finally:
            if mapped:
                buffer.unmap(memory)
        image.flags.writeable = False
        return image

    def abandon(self) -> None:
        """Let a `next_frame` in progress end within 50 ms; callable from any thread."""
        self._abandoned = True

    def close(self) -> None:
        """Stop the pipeline and free its sensors, sessions and decoders."""
        pipeline, self._pipeline = self._pipeline, None
        self._sink = self._bus = self._first = self._caps = self._info = None
        if pipeline is not None:
            pipeline.set_state(self._library.gst.State.NULL)

    def _make(self, launch: Launch) -> Any:
        """Create the pipeline and return its appsink."""
        gst = self._library.gst
        try:
            pipeline = gst.parse_launch_full(launch.text, None, gst.ParseFlags.FATAL_ERRORS)
        except self._library.glib.Error as error:
            raise self._failure(error, None) from error
        if not isinstance(pipeline, gst.Pipeline):
            raise SourceError(f"{self._where} is a single element; expected a source and the elements after it", "unsupported")
        self._pipeline = pipeline
        for name, properties in launch.properties.items():
            element = pipeline.get_by_name(name)
            for key, value in properties.items():
                if element.find_property(key) is not None:  # older releases lack some properties
                    element.set_property(key, value)
        found, sink = pipeline.iterate_all_by_element_factory_name("appsink").next()
        if found != gst.IteratorResult.OK:
            raise SourceError(f"{self._where} has an element that is only named appsink; expected the element appsink", "unsupported")
        sink.set_property("caps", gst.Caps.from_string("video/x-raw(memory:NVMM),format=RGBA" if launch.nvmm else "video/x-raw,format=RGB"))
        sink.set_property("max-buffers", 1)
        sink.set_property("drop", False)
        sink.set_property("sync", False)
        sink.set_property("enable-last-sample", False)  # which would keep one more frame in memory
        return sink

    def _next_sample(self) -> Any:
        """Wait for the next sample and return it; None at the end, or when the pipeline was abandoned."""
        while not self._abandoned:
            sample = self._sink.try_pull_sample(_POLL_NS)
            if sample is not None:
                return sample
            self._read_bus()
            if self._sink.is_eos():
                return None
        return None

    def _read_bus(self) -> None:
        """Empty the bus, which would otherwise grow without bound, and raise an error that is on it."""
        gst = self._library.gst
        while (message := self._bus.pop_filtered(gst.MessageType.ERROR | gst.MessageType.WARNING)) is not None:
            if message.type == gst.MessageType.ERROR:
                raise self._failure(*message.parse_error())
            error, debug = message.parse_warning()
            _log.debug("%s: GStreamer warns: %s", self._where, reason_of(error.message, debug))

    def _is_live(self) -> bool:
        query = self._library.gst.Query.new_latency()
        # The query goes upstream of the appsink, which does not wait and therefore does not count as live.
        return bool(self._sink.get_static_pad("sink").peer_query(query) and query.parse_latency()[0])

    def _new_clock(self, sample: Any, of_this_host: bool) -> LiveClock:
        """Return the clock for the capture times of a pipeline whose first frame is a sample.

        Timestamps of a local camera are on the host's clock: the delay of a frame in the pipeline is known exactly. Timestamps of a network
        camera are on a clock that drifts against the host's: its fastest frame is the anchor.
        """
        running_ns = self._running_ns(sample)
        if not of_this_host or running_ns is None:
            return LiveClock()
        now = Instant.now()
        age_ns = self._pipeline.get_pipeline_clock().get_time() - self._pipeline.get_base_time() - running_ns
        if not 0 <= age_ns <= _MAXIMUM_AGE_NS:
            return LiveClock()
        clock = LiveClock(drift=0)
        clock.stamp(running_ns, None, Instant(now.monotonic_ns - age_ns, now.wall_ns - age_ns))
        return clock

    def _interval_ns(self, sample: Any) -> int:
        known, numerator, denominator = sample.get_caps().get_structure(0).get_fraction("framerate")
        return NS_PER_S * denominator // numerator if known and numerator else self.interval_ns

    def _count(self) -> None:
        """Count the frames that the appsink dropped since the last one."""
        stats = self._sink.get_property("stats")
        known, rendered = stats.get_uint64("rendered") if stats is not None else (False, 0)
        self._delivered += 1
        # A frame that arrived after this one was taken is waiting, not superseded.
        if known and self._sink.get_property("drop") and rendered - 1 > self._delivered:
            self.superseded_frames += rendered - 1 - self._delivered
            self._delivered = rendered - 1

    def _running_ns(self, sample: Any) -> int | None:
        """Return the time of a frame since the pipeline's start, None where it has no timestamp."""
        gst = self._library.gst
        pts = sample.get_buffer().pts
        if pts == gst.CLOCK_TIME_NONE:
            return None
        running = sample.get_segment().to_running_time(gst.Format.TIME, pts)
        return None if running == gst.CLOCK_TIME_NONE else int(running)

    def _sender_ns(self, buffer: Any) -> int | None:
        """Return the capture time by the sender's clock, ns since the Unix epoch; None before its first report."""
        meta = buffer.get_reference_timestamp_meta(None)
        if meta is None:
            return None
        before_unix_ns = _UNIX_BEFORE_NTP_NS.get(meta.reference.get_structure(0).get_name())
        return None if before_unix_ns is None else int(meta.timestamp) - before_unix_ns
