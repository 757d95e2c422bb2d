"""Annotated frames as a video file (MP4) or as single image files."""

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.encryption.files import StateFile, state_files, write_whole
from edgepose.errors import OutputError
from edgepose.pixels import ReleasedImage, encode_picture, video_frame

_TIME_BASE = Fraction(1, 60_000)
"""Exact for milliseconds and for 24, 25, 30, 50 and 60 frames per second. The finest time base of mpeg4 is 1/65535."""

_KEYFRAME_INTERVAL = 60  # frames

KIND = "picture"
"""What `edgepose.encryption` calls a video and an image."""


class VideoWriter:
    """Writer of an MP4 file with H.264, or with MPEG-4 part 2 if the library lacks libx264. Every frame keeps its own time.

    The size is that of the first frame, made even by repeating the last row and column, as H.264 requires. Later frames of another
    size are scaled to fit, with black borders. The file is fragmented until it is closed, so a killed process leaves a playable video.

    Args:
        path: path of the file. The first frame overwrites an existing file; without a frame, no file is left.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._closed = False
        self._size = (0, 0)  # height, width
        self._begin_ns = 0
        self._last_pts = -1
        self._interval = _TIME_BASE.denominator // 25  # of the last two frames, in units of the time base
        self._held: av.Packet | None = None  # until the time of the next one gives its duration
        self._stream: av.VideoStream | None = None
        place = state_files().place(self.path)
        self._is_new = not os.path.lexists(place)
        try:
            place.open("ab").close()  # check now: FFmpeg opens the file with the first frame only
            if place == self.path:
                options = {"movflags": "hybrid_fragmented", "flush_packets": "1"}
                self._container = av.open(str(self.path), "w", format="mp4", container_options=options)
            else:  # nothing is written twice: a file of fragments alone
                options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
                self._container = av.open(_Appended(self.path), "w", format="mp4", container_options=options)
        except (OSError, av.error.FFmpegError) as error:
            raise OutputError(f"{self.path} cannot be written: {_reason(error)}; expected a writable file in an existing folder") from error

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def write(self, image: ReleasedImage, time_ns: int) -> None:
        """Append one frame.

        Args:
            image: what the pixel gate has released.
            time_ns: capture time on any clock; the video begins with the first frame. If it stands still or goes back, the frame
                follows the previous one by one unit of the time base.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            stream = self._stream if self._stream is not None else self._begin(image, time_ns)
            frame = video_frame(image.derived(self._fit(image.image)))
            frame.time_base = _TIME_BASE
            pts = max(self._last_pts + 1, round((time_ns - self._begin_ns) * _TIME_BASE.denominator / 1e9))
            if self._last_pts >= 0:
                self._interval = pts - self._last_pts
            frame.pts = self._last_pts = pts
            self._mux(stream.encode(frame))
        except (OSError, av.error.FFmpegError) as error:
            raise OutputError(f"{self.path} cannot be written: {_reason(error)}; expected room on the disk") from error

    @property
    def size(self) -> int:
        """Bytes on the disk so far."""
        try:
            return state_files().place(self.path).stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Finish the file. Further calls have no effect."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._stream is not None:
                self._mux(self._stream.encode(None))
                if self._held is not None:
                    self._held.duration = self._interval
                    self._container.mux(self._held)
            self._container.close()
            if self._stream is None and self._is_new:
                state_files().place(self.path).unlink(missing_ok=True)
        except (OSError, av.error.FFmpegError) as error:
            raise OutputError(f"{self.path} cannot be written: {_reason(error)}; expected room on the disk") from error

    def _mux(self, packets: "list[av.Packet]") -> None:
        """Write all packets but the last: a packet lasts until the next one, and the last as long as the one before it."""
        for packet in packets:
            if self._held is not None:
                assert self._held.pts is not None
                assert packet.pts is not None
                self._held.duration = packet.pts - self._held.pts
                self._container.mux(self._held)
            self._held = packet

    def _begin(self, image: ReleasedImage, time_ns: int) -> "av.VideoStream":
        self._begin_ns = time_ns
        self._size = (image.height + image.height % 2, image.width + image.width % 2)
        # No B-frames: frames are written in the order of their times, and a truncated file lacks none in between.
        options = {"preset": "veryfast", "crf": "21"} if self.codec == "libx264" else {"qscale": "4"}
        stream = self._container.add_stream(self.codec, options=options)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.gop_size = _KEYFRAME_INTERVAL
        stream.codec_context.max_b_frames = 0
        self._stream = stream
        return stream

    def _fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frame in the size of the video."""
        height, width = self._size
        bottom, right = height - image.shape[0], width - image.shape[1]
        if (bottom, right) == (0, 0):
            return image
        if bottom in (0, 1) and right in (0, 1):
            return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        scale = min(height / image.shape[0], width / image.shape[1])
        small = cv2.resize(
            image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))), interpolation=cv2.INTER_AREA
        )
        fitted = np.zeros((height, width, 3), np.uint8)
        fitted[: small.shape[0], : small.shape[1]] = small[:height, :width]
        return fitted


class _Appended:
    """A file that FFmpeg only appends to, opened with the first bytes."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._file: StateFile | None = None

    def write(self, data: bytes) -> int:
        """Append bytes and return their number."""
        if self._file is None:
            self._file = state_files().open(self._path, KIND, mode=0o666, truncate=True)
        self._file.append(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class ImageWriter:
    """Writer of single image files to a folder, which is created if it is missing.

    Args:
        folder: folder of the files.
        suffix: `.jpg` or `.png`.

    Raises:
        OutputError: the suffix is unknown, or the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], suffix: str = ".jpg") -> None:
        if suffix not in (".jpg", ".png"):
            raise OutputError(f"images cannot be written as {suffix!r}; expected .jpg or .png")
        self.folder = Path(folder)
        self._suffix = suffix
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be written: {error.strerror}; expected a writable folder, or a path where one can be created"
            ) from error

    def path_of(self, name: str) -> Path:
        """Return the path of an image with this name."""
        return self.folder / f"{name}{self._suffix}"

    def write(self, image: ReleasedImage, name: str) -> Path:
        """Write one image and return its path.

        Args:
            image: what the pixel gate has released.
            name: file name without suffix, such as `front-000812`.

        Raises:
            OutputError: the file cannot be written.
        """
        path = self.path_of(name)
        try:
            write_whole(path, encode_picture(image, self._suffix), KIND, mode=0o666, sync=False)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}; expected room on the disk") from error
        return path


def _reason(error: OSError | av.error.FFmpegError) -> str:
    return error.strerror or str(error)
