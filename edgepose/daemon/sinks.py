"""The files that a configuration asks for, each as something that takes frame after frame."""

from collections.abc import Sequence
from pathlib import Path

from edgepose.config import Config
from edgepose.daemon.delivery import Sink
from edgepose.errors import OutputError
from edgepose.frame import Frame
from edgepose.output.files import CsvWriter, JsonLinesWriter
from edgepose.output.messages import PosesMessage
from edgepose.output.overlay import draw
from edgepose.output.video import ImageWriter, VideoWriter
from edgepose.person import Person


def open_sinks(config: Config, *, afresh: bool = False) -> list[Sink]:
    """Opens the files of a configuration.

    Args:
        afresh: whether poses that are in the files already make place for the new ones; otherwise they are added to.

    Raises:
        OutputError: one cannot be written.
    """
    files = config.files
    sinks: list[Sink] = []
    for path, writer in ((files.jsonl, JsonLinesWriter), (files.csv, CsvWriter)):
        if path is not None:
            if afresh:
                _make_place(Path(path))
            sinks.append(_Messages(writer(path)))
    if files.video is not None or files.images is not None:
        sinks.append(_Annotated(config))
    return sinks


class _Messages:
    """A file of messages."""

    def __init__(self, writer: JsonLinesWriter | CsvWriter) -> None:
        self._writer = writer

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage) -> None:
        self._writer.write(message)

    def close(self) -> None:
        self._writer.close()


class _Annotated:
    """Pictures with people drawn on them, as a film a camera and as single files."""

    def __init__(self, config: Config) -> None:
        files = config.files
        self._threshold = config.pose.keypoint_threshold
        self._images = ImageWriter(files.images) if files.images is not None else None
        self._videos: dict[str, VideoWriter] = {}
        if files.video is not None:
            path = Path(files.video)
            several = len(config.cameras) > 1
            for name in config.cameras or ("",):
                self._videos[name] = VideoWriter(path.with_stem(f"{path.stem}-{name}") if several else path)

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage) -> None:
        caption = f"{frame.camera}  {message.captured_at[11:22]}  {len(people)} people"
        picture = draw(frame.image, people, keypoint_threshold=self._threshold, caption=caption)
        if self._videos:
            self._videos.get(frame.camera, next(iter(self._videos.values()))).write(picture, frame.captured_at)
        if self._images is not None:
            self._images.write(picture, f"{frame.camera}-{frame.epoch}-{frame.sequence:06d}")

    def close(self) -> None:
        for video in self._videos.values():
            video.close()


def _make_place(path: Path) -> None:
    if path.is_file():
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(f"Cannot write over {path}: {error.strerror}; a file that may be replaced is needed.") from error
