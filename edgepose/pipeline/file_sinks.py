"""The configured files, each as a sink of frames."""

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from edgepose.capture.files.listing import IMAGE_SUFFIXES
from edgepose.config.retention import DAY_NS, kept_days
from edgepose.config.schema import Config
from edgepose.encryption.files import state_files
from edgepose.errors import UsageError
from edgepose.frame import Frame
from edgepose.messages.structs import PosesMessage
from edgepose.output.files import STANDARD_OUTPUT, CsvWriter, JsonLinesWriter, of_file
from edgepose.output.lines_limit import LinesLimit
from edgepose.output.overlay import draw
from edgepose.output.video import ImageWriter, VideoWriter
from edgepose.person import Person
from edgepose.pipeline.delivery import Sink
from edgepose.pixels import PixelGate, ReleasedImage
from edgepose.tile import TileLook
from edgepose.validation.inputs import OfflineInput
from edgepose.validation.output_paths import refuse_clashes, refuse_overwriting, video_paths

if TYPE_CHECKING:
    from edgepose.output.coco import CocoWriter

_log = logging.getLogger(__name__)

DEFAULT_IMAGES = "annotated"
"""Folder for annotated images where no output was named."""


def open_sinks(config: Config, *, overwrite: bool = False) -> list[Sink]:
    """Open the files of a configuration; their earlier contents stay until the first frame.

    Args:
        overwrite: whether the first frame then replaces the contents; otherwise poses are appended, and a video takes a free name.

    Raises:
        ConfigError: a file is a camera's source, or is named twice.
        OutputError: a file cannot be written.
    """
    refuse_clashes(config)
    files = config.files
    limit = LinesLimit(files.limit_mb * 1_000_000, int(kept_days(config) * DAY_NS))
    sinks: list[Sink] = []
    with ExitStack() as opened:  # where one cannot be opened, those before it are closed again
        for path, writer in ((files.jsonl, JsonLinesWriter), (files.csv, CsvWriter)):
            if path is not None:
                sinks.append(_Messages(writer(path, overwrite=overwrite, limit=limit)))
                opened.callback(sinks[-1].close)
        if files.video is not None or files.images is not None:
            sinks.append(_Annotated(config, overwrite=overwrite))
        opened.pop_all()
    return sinks


def open_offline_sinks(config: Config, inputs: Sequence[OfflineInput], *, coco: Path | None = None, default: bool = False) -> list[Sink]:
    """Open the files of a run over files, which name the source of each frame; earlier contents stay until the first frame.

    Args:
        config: with one camera for each input.
        inputs: in order.
        coco: file of COCO results; None for none.
        default: whether to write what people expect who named no output: `NAME.annotated.mp4` for each video, and the folder `annotated`
            for images, both in the current folder; nothing for a stream.

    Raises:
        ConfigError: a file would be overwritten, or is named twice.
        UsageError: no output is named, and no image may be written.
        OutputError: a file cannot be written.
    """
    from edgepose.output.coco import CocoWriter, numbers_in_names, table_path

    refuse_clashes(config)
    files = config.files
    videos = video_paths(config)
    images = files.images
    if default:
        if config.privacy.pixels == "never":
            raise UsageError("privacy.pixels is never, so there is no annotated image to write; expected --output, --csv or --coco")
        videos = _default_videos(inputs)
        images = DEFAULT_IMAGES if any(one.still for one in inputs) else None
    read = [path for one in inputs for path in one.paths()]
    tables = [] if coco is None else [coco, table_path(coco)]
    named = [Path(path) for path in (files.jsonl, files.csv) if path is not None and path not in STANDARD_OUTPUT]
    refuse_overwriting(read, [*named, *videos.values(), *tables])
    sinks: list[Sink] = []
    with ExitStack() as opened:
        if files.jsonl is not None:
            sinks.append(_FileMessages(JsonLinesWriter(files.jsonl, overwrite=True)))
            opened.callback(sinks[-1].close)
        if files.csv is not None:
            sinks.append(_FileMessages(CsvWriter(files.csv, overwrite=True, names_files=True)))
            opened.callback(sinks[-1].close)
        if coco is not None:
            numbers = numbers_in_names(read) if all(one.still for one in inputs) else None
            sinks.append(_Coco(CocoWriter(coco, numbers)))
            opened.callback(sinks[-1].close)
        if videos or images is not None:
            writer = ImageWriter(images) if images is not None else None
            sinks.append(_AnnotatedFiles(config, writer, videos, {one.camera for one in inputs if one.still} if default else None, read))
        opened.pop_all()
    return sinks


def default_names(inputs: Sequence[OfflineInput]) -> list[str]:
    """Return what `open_offline_sinks` writes by default."""
    folder = [f"{DEFAULT_IMAGES}/"] if any(one.still for one in inputs) else []
    return [*map(str, _default_videos(inputs).values()), *folder]


def source_of(frame: Frame) -> str:
    """Return the name of the source of a frame in results: the path of its file, or the name of its stream."""
    return frame.file or frame.camera


def _default_videos(inputs: Sequence[OfflineInput]) -> dict[str, Path]:
    return {one.camera: Path(f"{one.camera}.annotated.mp4") for one in inputs if not one.still and one.paths()}


class _Messages:
    """A file of pose messages."""

    def __init__(self, writer: JsonLinesWriter | CsvWriter) -> None:
        self._writer = writer

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook] = ()) -> None:
        self._writer.write(message)

    def close(self) -> None:
        self._writer.close()


class _FileMessages(_Messages):
    """A file of pose messages that name the file of their frame."""

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook] = ()) -> None:
        super().write(frame, people, of_file(message, source_of(frame)))


class _Coco:
    """COCO results and their table of images."""

    def __init__(self, writer: "CocoWriter") -> None:
        self._writer = writer

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook] = ()) -> None:
        self._writer.write(message, source_of(frame))

    def close(self) -> None:
        self._writer.close()


class _Annotated:
    """Annotated frames, as one video for each camera and as image files."""

    def __init__(self, config: Config, *, overwrite: bool) -> None:
        files = config.files
        self._annotator = _Annotator(config)
        self._images = ImageWriter(files.images) if files.images is not None else None
        self._paths = video_paths(config)
        self._limit_bytes = files.limit_mb * 1_000_000 // (4 * max(1, len(self._paths)))
        self._videos = {name: VideoWriter(path if overwrite else _free(path)) for name, path in self._paths.items()}

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook] = ()) -> None:
        image = self._annotator.image(frame, people, message, looks)
        if self._videos:
            self._video(frame.camera).write(image, frame.captured_at_ns)
        if self._images is not None:
            self._images.write(image, f"{frame.camera}-{frame.epoch}-{frame.sequence:06d}")

    def close(self) -> None:
        for video in self._videos.values():
            video.close()

    def _video(self, camera: str) -> VideoWriter:
        """Return the video of a camera; a large one is completed, and the next one begins, so that old ones can be deleted."""
        video = self._videos[camera]
        if video.size > self._limit_bytes:
            video.close()
            video = self._videos[camera] = VideoWriter(_free(self._paths[camera]))
        return video


class _AnnotatedFiles:
    """Annotated frames of files: a video for each input, and images that are named after their files."""

    def __init__(
        self, config: Config, images: ImageWriter | None, videos: dict[str, Path], stills: set[str] | None, read: Sequence[Path]
    ) -> None:
        """
        Args:
            images: writes the images.
            videos: path of each camera's video.
            stills: cameras whose frames become images; None for all.
            read: files that must not be overwritten.
        """
        self._annotator = _Annotator(config)
        self._images = images
        self._paths = videos
        self._stills = stills
        self._of_images = {str(path) for path in read if path.suffix.lower() in IMAGE_SUFFIXES}
        self._protected = {os.path.realpath(path) for path in read}
        self._names: dict[str, str] = {}  # file by the name of its annotated image
        first = next(iter(videos), None)  # opened now, so that a folder that cannot be written is told before anything is computed
        self._video = None if first is None else (first, VideoWriter(videos[first]))

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook] = ()) -> None:
        image = self._annotator.image(frame, people, message, looks)
        path = self._paths.get(frame.camera)
        if path is not None:
            if self._video is None or self._video[0] != frame.camera:
                self.close()
                self._video = (frame.camera, VideoWriter(path))
            self._video[1].write(image, frame.captured_at_ns)
        if self._images is not None and (self._stills is None or frame.camera in self._stills):
            self._images.write(image, self._name(frame, self._images))

    def close(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video[1].close()

    def _name(self, frame: Frame, images: ImageWriter) -> str:
        """Return a name that no other file of the run has: that of the file, with the number of the frame for a video."""
        if frame.file not in self._of_images:
            return f"{frame.camera}-{frame.sequence:06d}"
        path = Path(frame.file)
        names = [f"{path.stem}-{number}" for number in range(2, len(self._names) + 3)]
        if frame.file not in self._names.values():  # not a further frame of an animation
            same_name = any(Path(file).name == path.name for file in self._names.values())
            names = [path.stem, f"{path.parent.name}-{path.stem}" if same_name else path.name, *names]
        for name in names:
            unique = name if os.path.realpath(images.path_of(name)) not in self._protected else f"{name}.annotated"
            if unique not in self._names:
                self._names[unique] = frame.file
                return unique
        raise AssertionError("more names than files")


class _Annotator:
    """What is drawn on a frame, once it has passed the pixel gate."""

    def __init__(self, config: Config) -> None:
        self._threshold = config.pose.keypoint_threshold
        self._gate = PixelGate(config.privacy.pixels, self._threshold)

    def image(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook]) -> ReleasedImage:
        caption = f"{frame.camera}  {message.captured_at[11:22]}  {len(people)} people"
        released = self._gate.release(frame.image, people)
        return released.derived(draw(released.image, people, keypoint_threshold=self._threshold, caption=caption, looks=looks))


def _free(path: Path) -> Path:
    """Return the path, or the first numbered one that is free: a restart must not destroy the last video, which cannot be continued."""
    place = state_files().place
    if not place(path).is_file():  # a device can be written more than once
        return path
    free = next(numbered for number in count(2) if not place(numbered := path.with_stem(f"{path.stem}-{number}")).exists())
    _log.info("%s exists already: the annotated video goes to %s", path, free)
    return free
