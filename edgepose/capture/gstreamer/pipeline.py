"""What GStreamer does, one blocking step at a time: open, next picture, close."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.capture.clock import NS_PER_S, Instant, LiveClock
from edgepose.capture.gstreamer.launch import Launch
from edgepose.capture.gstreamer.library import Library, load
from edgepose.capture.stream import DecodedFrame
from edgepose.errors import SourceError

_log = logging.getLogger(__name__)

_TURN_NS = NS_PER_S // 20
"""How long one wait for a picture takes: errors on the bus and `abandon` are noticed after it."""

_BELIEVED_AGE_NS = 5 * NS_PER_S
"""A picture that is older when it comes out of the pipeline has a time-stamp that means something else."""

_UNIX_BEFORE_NTP_NS = {"timestamp/x-ntp": 2_208_988_800 * NS_PER_S, "timestamp/x-unix": 0}
"""Reference time-stamps that are believed, with what their epoch lies before 1970."""


class GstPipeline:
    """A GStreamer pipeline that ends in an appsink; all of it, but the counters and `abandon`, belongs to one thread.

    GStreamer says nothing of a camera that falls silent: whoever waits for `next_picture` has to have a deadline.

    Args:
        launch: what to start; called when it is opened, since it may look into GStreamer's registry.
        where: name of the source in messages, redacted.
        failure: makes a `SourceError` of GLib.Error and the text for developers that came with it.
    """

    def __init__(self, launch: Callable[[Library], Launch], where: str, failure: Callable[[Any, str | None], SourceError]) -> None:
        self._launch = launch
        self._where = where
        self._failure = failure
        self._abandoned = False
        self._library: Any = None
        self._pipeline: Any = None
        self._sink: Any = None
        self._bus: Any = None
        self._first: Any = None  # the picture that opening waits for
        self._caps: Any = None
        self._info: Any = None
        self._given = 0
        self.finite = False
        """Whether it gives pictures as fast as they are taken: a file, not a camera."""
        self.interval_ns = NS_PER_S // 25
        """Nominal time between two pictures."""
        self.live_clock = LiveClock()
        """Clock for the capture times of a live pipeline; anew whenever it is opened."""
        self.corrupt_frames = 0
        """Pictures that decoders marked as damaged."""
        self.packets_without_picture = 0
        """Damaged pictures since the last good one."""
        self.superseded_frames = 0
        """Pictures of a live stream that a newer one replaced before they were asked for."""

    def open(self) -> None:
        """Start the pipeline and wait for its first picture; again, to begin from its start.

        Raises:
            SourceError: it cannot be made, or fails before its first picture.
            UnavailableError: there is no GStreamer.
        """
        self.close()
        library = self._library = load()
        launch = self._launch(library)
        self._sink = self._make(launch)
        # No local name for it: the traceback of an error would keep it, and its file descriptors, for longer than we do.
        self._bus = self._pipeline.get_bus()
        self._given = 0
        _log.debug("starting %s", launch.text)
        if self._pipeline.set_state(library.gst.State.PLAYING) == library.gst.StateChangeReturn.FAILURE:
            self._read_bus()
            raise SourceError(f"{self._where} does not start and does not say why", "failed")
        self._first = self._next_sample()
        if self._first is None:
            raise SourceError(f"{self._where} ended before its first picture; a source with video is accepted", "no_video")
        self.finite = not self._is_live()
        # A live pipeline must not stand still behind a slow reader: only the newest picture is kept.
        self._sink.set_property("drop", not self.finite)
        self.interval_ns = self._interval_ns(self._first)
        self.live_clock = self._new_clock(self._first, launch.of_this_host)

    def next_picture(self) -> DecodedFrame | None:
        """Return the next picture, or None at the end.

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
            self.packets_without_picture += 1
        self.packets_without_picture = 0
        return DecodedFrame(sample, self._running_ns(sample), self._sender_ns(buffer), Instant.now())

    def image(self, picture: DecodedFrame) -> NDArray[np.uint8]:
        """Return a picture as uint8 (H, W, 3), RGB, not writable."""
        sample = picture.decoded
        caps = sample.get_caps()
        video = self._library.video
        if self._caps is None or not caps.is_equal(self._caps):
            self._caps, self._info = caps, video.VideoInfo.new_from_caps(caps)
        buffer = sample.get_buffer()
        height, width, stride, offset = self._info.height, self._info.width, self._info.stride[0], self._info.offset[0]
        meta = video.buffer_get_video_meta(buffer)
        if meta is not None:  # elements that pad rows for their hardware say so here
            stride, offset = meta.stride[0], meta.offset[0]
        mapped, memory = buffer.map(self._library.gst.MapFlags.READ)
        if not mapped:
            raise SourceError(f"{self._where} gave a picture whose memory cannot be read", "failed")
        try:
            pixels = memory.data  # bytes: a copy, which outlives the buffer; one more would cost as much as decoding
        finally:
            buffer.unmap(memory)
        rows: NDArray[np.uint8] = np.ndarray((height, width, 3), np.uint8, pixels, offset, (stride, 3, 1))
        image = np.ascontiguousarray(rows)  # without what fills rows up, where there is any
        image.flags.writeable = False
        return image

    def abandon(self) -> None:
        """Let a `next_picture` in progress end within 50 ms; from any thread."""
        self._abandoned = True

    def close(self) -> None:
        """Stop the pipeline and free what it held: sensors, sessions, decoders."""
        pipeline, self._pipeline = self._pipeline, None
        self._sink = self._bus = self._first = self._caps = self._info = None
        if pipeline is not None:
            pipeline.set_state(self._library.gst.State.NULL)

    def _make(self, launch: Launch) -> Any:
        """Make the pipeline and return its appsink."""
        gst = self._library.gst
        try:
            pipeline = gst.parse_launch_full(launch.text, None, gst.ParseFlags.FATAL_ERRORS)
        except self._library.glib.Error as error:
            raise self._failure(error, None) from error
        if not isinstance(pipeline, gst.Pipeline):
            raise SourceError(f"{self._where} is a single element; expected a source and what comes after it", "unsupported")
        self._pipeline = pipeline
        for name, properties in launch.properties.items():
            element = pipeline.get_by_name(name)
            for key, value in properties.items():
                if element.find_property(key) is not None:  # older releases lack some
                    element.set_property(key, value)
        found, sink = pipeline.iterate_all_by_element_factory_name("appsink").next()
        if found != gst.IteratorResult.OK:
            raise SourceError(f"{self._where} has an appsink by name only; expected the element appsink", "unsupported")
        sink.set_property("caps", gst.Caps.from_string("video/x-raw,format=RGB"))
        sink.set_property("max-buffers", 1)
        sink.set_property("drop", False)
        sink.set_property("sync", False)
        sink.set_property("enable-last-sample", False)  # which would be one more picture in memory
        return sink

    def _next_sample(self) -> Any:
        """Wait for the next sample; None at the end, or when the pipeline was abandoned."""
        while not self._abandoned:
            sample = self._sink.try_pull_sample(_TURN_NS)
            if sample is not None:
                return sample
            self._read_bus()
            if self._sink.is_eos():
                return None
        return None

    def _read_bus(self) -> None:
        """Empty the bus, which would grow for ever; raise the error that is on it."""
        gst = self._library.gst
        while (message := self._bus.pop_filtered(gst.MessageType.ERROR | gst.MessageType.WARNING)) is not None:
            if message.type == gst.MessageType.ERROR:
                raise self._failure(*message.parse_error())
            error, debug = message.parse_warning()
            _log.debug("GStreamer warns: %s (%s)", error.message, debug)

    def _is_live(self) -> bool:
        query = self._library.gst.Query.new_latency()
        # What is before the appsink is asked: it itself waits for nobody, and so does not count as live.
        return bool(self._sink.get_static_pad("sink").peer_query(query) and query.parse_latency()[0])

    def _new_clock(self, sample: Any, of_this_host: bool) -> LiveClock:
        """Return the clock for the capture times of a pipeline that began with a sample.

        Times of a camera in this computer are on this computer's clock already: what a picture took to come out of the pipeline is
        known exactly. Times of a network camera are on a clock that drifts against ours: its fastest picture is the anchor.
        """
        running_ns = self._running_ns(sample)
        if not of_this_host or running_ns is None:
            return LiveClock()
        now = Instant.now()
        age_ns = self._pipeline.get_pipeline_clock().get_time() - self._pipeline.get_base_time() - running_ns
        if not 0 <= age_ns <= _BELIEVED_AGE_NS:
            return LiveClock()
        clock = LiveClock(drift=0)
        clock.stamp(running_ns, None, Instant(now.monotonic_ns - age_ns, now.wall_ns - age_ns))
        return clock

    def _interval_ns(self, sample: Any) -> int:
        known, numerator, denominator = sample.get_caps().get_structure(0).get_fraction("framerate")
        return NS_PER_S * denominator // numerator if known and numerator else self.interval_ns

    def _count(self) -> None:
        """Count the pictures that the appsink let go of since the last one."""
        stats = self._sink.get_property("stats")
        known, rendered = stats.get_uint64("rendered") if stats is not None else (False, 0)
        self._given += 1
        # One that came since this one was taken is waiting, not overtaken.
        if known and self._sink.get_property("drop") and rendered - 1 > self._given:
            self.superseded_frames += rendered - 1 - self._given
            self._given = rendered - 1

    def _running_ns(self, sample: Any) -> int | None:
        """Time of a picture since the pipeline's start, where it has one."""
        gst = self._library.gst
        pts = sample.get_buffer().pts
        if pts == gst.CLOCK_TIME_NONE:
            return None
        running = sample.get_segment().to_running_time(gst.Format.TIME, pts)
        return None if running == gst.CLOCK_TIME_NONE else int(running)

    def _sender_ns(self, buffer: Any) -> int | None:
        """When a picture was taken according to the sender, ns since the Unix epoch, where its reports were heard already."""
        meta = buffer.get_reference_timestamp_meta(None)
        if meta is None:
            return None
        before_unix_ns = _UNIX_BEFORE_NTP_NS.get(meta.reference.get_structure(0).get_name())
        return None if before_unix_ns is None else int(meta.timestamp) - before_unix_ns
