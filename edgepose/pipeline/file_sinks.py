"""The configured files, each as a sink of frames."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from edgepose.config.schema import Config
from edgepose.frame import Frame
from edgepose.messages.structs import PosesMessage
from edgepose.output.files import CsvWriter, JsonLinesWriter
from edgepose.output.overlay import draw
from edgepose.output.video import ImageWriter, VideoWriter
from edgepose.person import Person
from edgepose.pipeline.delivery import Sink
from edgepose.validation.output_paths import refuse_clashes, video_paths

_log = logging.getLogger(__name__)


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
    sinks: list[Sink] = []
    with ExitStack() as opened:  # where one cannot be opened, those before it are closed again
        for path, writer in ((files.jsonl, JsonLinesWriter), (files.csv, CsvWriter)):
            if path is not None:
                sinks.append(_Messages(writer(path, overwrite=overwrite)))
                opened.callback(sinks[-1].close)
        if files.video is not None or files.images is not None:
            sinks.append(_Annotated(config, overwrite=overwrite))
        opened.pop_all()
    return sinks


class _Messages:
    """A file of pose messages."""

    def __init__(self, writer: JsonLinesWriter | CsvWriter) -> None:
        self._writer = writer

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage) -> None:
        self._writer.write(message)

    def close(self) -> None:
        self._writer.close()


class _Annotated:
    """Annotated frames, as one video for each camera and as image files."""

    def __init__(self, config: Config, *, overwrite: bool) -> None:
        files = config.files
        self._threshold = config.pose.keypoint_threshold
        self._images = ImageWriter(files.images) if files.images is not None else None
        self._videos = {name: VideoWriter(path if overwrite else _free(path)) for name, path in video_paths(config).items()}

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage) -> None:
        caption = f"{frame.camera}  {message.captured_at[11:22]}  {len(people)} people"
        image = draw(frame.image, people, keypoint_threshold=self._threshold, caption=caption)
        if self._videos:
            self._videos[frame.camera].write(image, frame.captured_at_ns)
        if self._images is not None:
            self._images.write(image, f"{frame.camera}-{frame.epoch}-{frame.sequence:06d}")

    def close(self) -> None:
        for video in self._videos.values():
            video.close()


def _free(path: Path) -> Path:
    """Return the path, or the first numbered one that is free: a restart must not destroy the last video, which cannot be continued."""
    if not path.is_file():  # a device can be written more than once
        return path
    free = next(numbered for number in count(2) if not (numbered := path.with_stem(f"{path.stem}-{number}")).exists())
    _log.info("%s exists already: the annotated video goes to %s", path, free)
    return free
