"""A video as PyAV reads it, one blocking step at a time: open, next frame, close."""

import struct
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import cv2
import msgspec
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from numpy.typing import NDArray

from edgepose.capture.clock import NS_PER_S, Instant
from edgepose.capture.limits import maximum_pixels, read_header, refuse_large_video
from edgepose.capture.presentation import Gray16Span, Orientation, RgbConverter, choose_track, display_width, usable_aspect
from edgepose.errors import SourceError

_PRODUCER_REFERENCE_TIME = struct.Struct("<qi")  # struct AVProducerReferenceTime: wall clock in microseconds, flags

_GRAY16 = ("gray16le", "gray16be")
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS of FFmpeg's avformat.h

_ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
"""From version 17, PyAV converts formats in one thread per core for each stream by default: more work for the same frames."""

_HEADER_BYTES = 65_536

_ONE_THREAD_UP_TO_PX = 1280 * 720
"""Up to this size one thread decodes faster than any network runs; a second one costs 10 to 20 % more CPU for the same frames."""


class DecodedFrame(msgspec.Struct, frozen=True, eq=False):
    """A decoded frame in the decoder's format; `Video.image` converts it to RGB when needed.

    Attributes:
        decoded: the frame object of the library.
        pts_ns: presentation time in its stream, where known.
        sender_ns: capture time according to RTCP sender reports, ns since the Unix epoch, where there was a report.
        arrival: time of arrival of its packet.
    """

    decoded: Any
    pts_ns: int | None
    sender_ns: int | None
    arrival: Instant


class Stream:
    """A video read by PyAV; one thread owns it, except for the counters and `abandon`.

    Args:
        target: URL, or `file:` and a path.
        options: options of FFmpeg's demuxer and protocol.
        where: name of the source in messages, redacted.
        open_timeout_s: time after which PyAV gives up opening.
        read_timeout_s: time after which PyAV gives up waiting for a packet; it takes up to twice as long.
        is_file: whether it is known to be a file, which ends.
        low_delay: decode for latency (slices in parallel) rather than for throughput (frames in parallel).
        limit_bytes: most memory of one frame.
        rate: frames per second of a file without timestamps; 0 for what the stream says.
        gray16_span: of 16-bit gray; None follows the frames.
    """

    late_by_nature = False
    """Whether its frames may be late by any time, since they come in segments."""

    def __init__(
        self,
        target: str,
        options: dict[str, str],
        where: str,
        *,
        open_timeout_s: float,
        read_timeout_s: float,
        is_file: bool,
        low_delay: bool,
        limit_bytes: int,
        rate: float = 0.0,
        gray16_span: tuple[float, float] | None = None,
    ) -> None:
        self.target = target
        self.options = options
        self.where = where
        self._timeouts = (open_timeout_s, read_timeout_s)
        self._is_file = is_file
        self._low_delay = low_delay
        self.limit_bytes = limit_bytes
        self._rate = rate
        self._span = Gray16Span(gray16_span)
        self._container: Any = None
        self._stream: Any = None
        self._packets: Iterator[Any] = iter(())
        self._decoded: deque[Any] = deque()
        self._arrival = Instant(0, 0)
        self._sender_zero_ns: int | None = None
        self._sender_reported = False
        self._timed = True
        self._pixel_aspect: Fraction | float = 1
        self._colors = RgbConverter(**_ONE_THREAD)
        self._abandoned = False
        self.finite = False
        """Whether it is a file, local or on a web server, and not a camera."""
        self.interval_ns = 0
        """Nominal time between two frames."""
        self.patience_s = 0.0
        """How much longer than an ordinary stream it may wait for a frame."""
        self.decoding = False
        """Whether a frame is being decoded, which is no wait."""
        self._skips = False  # as the decoder does now
        self.corrupt_frames = 0
        """Number of damaged frames."""
        self.superseded_frames = 0
        """Always 0: FFmpeg delivers every frame."""
        self.skips_unreferenced = False
        """Whether frames that no other frame needs are not decoded; set by any thread."""
        self.skipped_frames = 0
        """Number of frames that were not decoded for that reason."""
        self.packets_without_frame = 0
        """Number of packets since the last frame."""
        self.notes: list[str] = []
        """Sentences about choices that were made when it was opened."""

    def open(self) -> None:
        """Open the video, or reopen it at its start.

        Raises:
            SourceError: it has no video stream that can be decoded, or is a picture in tiles.
            av.FFmpegError: or any other exception of PyAV.
        """
        self.close()
        container = self._open_container()
        self._container = container
        self.notes = []
        stream, choice = choose_track(container, self.where)
        if choice is not None:
            self.notes.append(choice)
        if stream.codec_context is None:
            raise SourceError(f"{self.where} has video in a format that cannot be decoded; expected H.264, H.265 or MJPEG", "unsupported")
        # The decoder refuses larger frames before it allocates them, also where they become larger later.
        stream.codec_context.options = {"max_pixels": str(maximum_pixels(self.limit_bytes))}
        refuse_large_video(stream.codec_context.width, stream.codec_context.height, self.limit_bytes, self.where)
        stream.thread_type = "SLICE" if self._low_delay else "AUTO"
        small = stream.codec_context.width * stream.codec_context.height <= _ONE_THREAD_UP_TO_PX
        stream.thread_count = 1 if small else 2  # the cores of a drone are needed for the network
        self.finite = self._is_file or container.duration is not None  # a file without an index has no known duration
        # Where the format has no timestamps, FFmpeg counts frames at a guessed rate, which is useless for a live stream.
        timeless = int(container.format.flags) & _NO_TIMESTAMPS or container.format.name.endswith("_pipe")
        self._timed = not timeless
        self.interval_ns = self._interval(stream)
        self._pixel_aspect = usable_aspect(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio)
        self._sender_zero_ns = None
        self._sender_reported = False
        self._skips = False
        self._stream = stream
        self._packets = container.demux(stream)

    def seek(self, pts_ns: int) -> None:
        """Go on at the last key frame that is not after a presentation time; of a file that is open."""
        base = self._stream.time_base
        self._container.seek(pts_ns * int(base.denominator) // (int(base.numerator) * NS_PER_S), stream=self._stream, backward=True)
        self._decoded.clear()
        self._packets = self._container.demux(self._stream)

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame, or None at the end.

        Raises:
            av.FFmpegError: or any other exception of PyAV; not for damaged frames, which are counted.
        """
        while not self._decoded:
            if self._abandoned:
                return None
            packet = next(self._packets, None)
            if packet is None:
                return None
            self._arrival = Instant.now()
            self._note_sender_report(packet)
            self.decoding = True
            skips = self.skips_unreferenced
            try:
                if skips != self._skips:
                    self._skips = skips
                    self._stream.codec_context.skip_frame = "NONREF" if skips else "DEFAULT"
                decoded = packet.decode()
                self.skipped_frames += skips and not decoded and bool(packet.size)
            except (av.FFmpegError, ValueError):
                self._refuse_large_picture(packet)
                self.corrupt_frames += 1
                decoded = []
            finally:
                self.decoding = False
            for frame in decoded:
                # FFmpeg fills in missing parts from the previous frame: half a person of now, half one of then.
                if frame.is_corrupt:
                    self.corrupt_frames += 1
                else:
                    self._decoded.append(frame)
            self.packets_without_frame += 1
        self.packets_without_frame = 0
        return self._decoded_frame(self._decoded.popleft())

    def image(self, frame: DecodedFrame) -> NDArray[np.uint8]:
        """Return the image of a frame as uint8 (H, W, 3), RGB: turned, mirrored and with square pixels, as it is meant to be shown."""
        decoded = frame.decoded
        if decoded.format.name in _GRAY16:
            return self._thermal_image(decoded)
        width = display_width(decoded.width, self._pixel_aspect)
        image = self._colors.convert(decoded, width)  # (H, W, 3)
        # A phone held upright records a turned image with this mark. Not `decoded.side_data`: the frame keeps that, and it the frame, so
        # that only garbage collection would return the memory of each frame to the decoder.
        side_data: Any = SideDataContainer  # PyAV's annotations do not know its argument
        matrix = side_data(decoded).get(Type.DISPLAYMATRIX)
        return np.ascontiguousarray(image) if matrix is None else Orientation.of_matrix(bytes(matrix)).apply(image)

    def _thermal_image(self, decoded: Any) -> NDArray[np.uint8]:
        """Return 16-bit gray within its span; a conversion to RGB would drop the lower byte, which is all that differs in a scene."""
        image = self._span.image(decoded.to_ndarray())
        width = display_width(decoded.width, self._pixel_aspect)
        return image if width == decoded.width else np.asarray(cv2.resize(image, (width, decoded.height)), np.uint8)

    @property
    def pixel_aspect(self) -> float:
        """Width of a stored pixel divided by its height; images have square pixels."""
        return float(self._pixel_aspect)

    def abandon(self) -> None:
        """Let a `next_frame` in progress end at its next packet; callable from any thread."""
        self._abandoned = True

    def close(self) -> None:
        """Close the video, and end an RTSP session at its server."""
        self._decoded.clear()
        self._packets = iter(())
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _refuse_large_picture(self, packet: Any) -> None:
        """Raise `SourceError` where a picture could not be decoded since it is too large: its decoder says neither why nor how large."""
        header = read_header(bytes(packet)[:_HEADER_BYTES]) if packet.size else None
        if header is not None:
            refuse_large_video(header.width, header.height, self.limit_bytes, self.where)

    def _open_container(self) -> Any:
        """Return the open container of PyAV."""
        options = {"max_pixels": str(maximum_pixels(self.limit_bytes))} | self.options
        # "ignore": names in the metadata of a camera need not be UTF-8.
        return av.open(self.target, options=options, timeout=self._timeouts, metadata_errors="ignore")

    def _interval(self, stream: Any) -> int:
        """Return the nominal time between two frames, ns. Where the format has no timestamps, the stream itself may say it."""
        if not self._timed and self.finite:
            said = stream.codec_context.framerate  # FFmpeg's demuxer claims 25 for all of them
            if not self._rate and not said:
                self.notes.append(
                    f"{self.where} has no timestamps and names no rate; its frames follow at 25 frames/s (`rate` or --rate changes this)"
                )
            return int(NS_PER_S / (self._rate or said or 25))
        rate = stream.average_rate or stream.guessed_rate
        return int(NS_PER_S / rate) if rate else NS_PER_S // 25

    def _note_sender_report(self, packet: Any) -> None:
        # Not `container.start_time_realtime`: that is only the first report, and a camera's two clocks drift apart within an hour.
        if packet.pts is None or not packet.has_sidedata("prft"):
            return
        if not self._sender_reported:
            # The frame that was being assembled when the first report arrived carries the time of the next frame.
            self._sender_reported = True
            return
        captured_us, _ = _PRODUCER_REFERENCE_TIME.unpack_from(bytes(packet.get_sidedata("prft")))
        self._sender_zero_ns = captured_us * 1000 - _nanoseconds(packet.pts, packet.time_base)

    def _decoded_frame(self, frame: Any) -> DecodedFrame:
        pts_ns = None if frame.pts is None or not self._timed else _nanoseconds(frame.pts, frame.time_base)
        sender_ns = None if pts_ns is None or self._sender_zero_ns is None else self._sender_zero_ns + pts_ns
        return DecodedFrame(frame, pts_ns, sender_ns, self._arrival)


def _nanoseconds(ticks: int, time_base: Any) -> int:
    return int(ticks) * int(time_base.numerator) * NS_PER_S // int(time_base.denominator)
