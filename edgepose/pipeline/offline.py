"""A file from its first to its last frame, as fast as the network allows, into files."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from msgspec.structs import replace

from edgepose.capture.images import IMAGE_SUFFIXES
from edgepose.capture.source import Source, open_source, path_of
from edgepose.config.schema import CameraConfig, Config, FilesConfig
from edgepose.engine.backend import Backend, open_backend, pose_model
from edgepose.errors import EndOfStream
from edgepose.frame import Frame
from edgepose.messages.compose import poses_message
from edgepose.model.file import ModelInfo
from edgepose.person import Person
from edgepose.pipeline.file_sinks import open_sinks
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import PreparedFrame, Preprocessor
from edgepose.telemetry.metrics import Metrics

_TURN_S = 0.2


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of a run.

    Attributes:
        frames: frames written.
        corrupt: frames that could not be decoded.
        people: people in all frames.
        refined: people refined in all frames, None without a refiner.
        over_limit: people who were left out since a frame had more than `pose.maximum_people`.
        frames_per_second: over the whole run, opening not included.
        model, refiner: file names; `refiner` is None where nobody is refined.
        backend: name of the engine's backend.
        interrupted: whether the run was stopped before the end of a file; a stream ends in no other way.
    """

    frames: int
    corrupt: int
    people: int
    refined: int | None
    over_limit: int
    frames_per_second: float
    model: str
    refiner: str | None
    backend: str
    interrupted: bool


def run(config: Config, *, advance: Callable[[], None] = lambda: None, stop: Callable[[], bool] = lambda: False) -> Summary:
    """Write the poses of the only camera of a configuration to its files, every frame.

    Args:
        advance: called after each frame.
        stop: called after each frame, so that all files end with the same frame; True ends the run.

    Raises:
        ConfigError, ModelError, SourceError, EngineError, OutputError: something cannot be opened, or fails.
    """
    with OfflineRun(config) as offline:
        return offline.run(advance, stop)


class OfflineRun:
    """A run with everything open; a context manager, for callers that do something between opening and running."""

    def __init__(self, config: Config) -> None:
        """Open source, network, refiner and files; files keep their earlier contents until the first frame.

        Args:
            config: with one camera, and at least one file.

        Raises:
            ConfigError, ModelError, SourceError, EngineError, OutputError: something cannot be opened.
        """
        ((name, camera),) = config.cameras.items()
        self._config = config
        self._metrics = Metrics()
        self._model = pose_model(config.model)
        self._refiner = Refiner.configured(config, self._metrics)
        with ExitStack() as opened:  # where one thing cannot be opened, those before it are closed again
            self._source = open_source(name, camera)
            opened.callback(self._source.close)
            self._backend = open_backend(self._model, config.model)
            opened.callback(self._backend.close)
            if self._refiner is not None:
                self._refiner.open()
                opened.callback(self._refiner.close)
            self._sinks = open_sinks(config, overwrite=True)
            for sink in reversed(self._sinks):
                opened.callback(sink.close)
            self._opened = opened.pop_all()

    def __enter__(self) -> "OfflineRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the files and close the rest."""
        self._opened.close()

    def run(self, advance: Callable[[], None], stop: Callable[[], bool]) -> Summary:
        """Write every frame, complete the files and return the summary; see `run`."""
        frames = people = 0
        stopped = False
        start_s = time.monotonic()
        with self._opened, suppress(BrokenPipeError):  # a pipe whose reader has closed it ends the run in order
            for frame, found in people_in(self._source, self._backend, self._model.info, self._config, self._metrics, self._refiner):
                message = poses_message(frame, found, time.time_ns())
                for sink in self._sinks:
                    sink.write(frame, found, message)
                frames += 1
                people += len(found)
                advance()
                stopped = stop()
                if stopped:
                    break
        elapsed_s = time.monotonic() - start_s
        return Summary(
            frames=frames,
            corrupt=self._source.corrupt_frames,
            people=people,
            refined=self._refined(),
            over_limit=sum(counts.over_limit for counts in self._metrics.stats().cameras.values()),
            frames_per_second=round(frames / elapsed_s, 1) if elapsed_s > 0 else 0.0,
            model=self._model.path.name,
            refiner=self._refiner.model.path.name if self._refiner is not None else None,
            backend=self._backend.name,
            interrupted=stopped and not self._source.live,
        )

    def _refined(self) -> int | None:
        if self._refiner is None:
            return None
        counts = self._metrics.refinement()
        return counts.accepted + counts.disagreed if counts is not None else 0


def offline_config(
    config: Config,
    source: str,
    files: FilesConfig,
    *,
    model: str | None = None,
    refiner: str | None = None,
    refine_people: int | None = None,
    track: bool | None = None,
) -> Config:
    """Return a configuration for a run over one source.

    Args:
        config: for everything that is not given here.
        source: video file, image, folder of images or stream; the camera is named after its file.
        files: to write.
        model: name or file of the pose network; None for the configured one.
        refiner: name or file of the refiner, for as many people as configured, or everybody where none are; None for the configured one.
        refine_people: maximum number of people refined in a frame; None for the configured number.
        track: whether people get track numbers; None for the configured choice on videos, and False on still images.
    """
    camera = "stream" if path_of(source) is None else Path(source).stem or "source"
    config = replace(config, cameras={camera: CameraConfig(source=source)}, files=files)
    if model is not None:
        config = replace(config, model=replace(config.model, path=model))
    if refiner is not None:
        config = replace(config, refine=replace(config.refine, path=refiner, people=config.refine.people or config.pose.maximum_people))
    if refine_people is not None:
        config = replace(config, refine=replace(config.refine, people=refine_people))
    if track is None:
        track = config.track.enabled and not _is_still(source)
    return replace(config, track=replace(config.track, enabled=track))


def people_in(
    source: Source, backend: Backend, info: ModelInfo, config: Config, metrics: Metrics, refiner: Refiner | None
) -> Iterator[tuple[Frame, list[Person]]]:
    """Yield each frame of a source with its people, in order; meanwhile the next frames are decoded.

    A source without an end is followed until the caller stops. The source is closed at the end.

    Args:
        refiner: opened; None where nobody is refined.

    Raises:
        SourceError: the source failed before its end.
        EngineError: the engine failed.
    """
    preprocessor = Preprocessor(info, config.model.input_size, metrics.took)
    # The callers do not need events, so they are off.
    config = replace(config, events=replace(config.events, enabled=False))
    postprocessor = Postprocessor(next(iter(config.cameras), "source"), config, metrics, refiner)
    for prepared in _read_ahead(source, preprocessor):
        with metrics.timed("engine"):
            candidates = backend.run(prepared.images)
        yield prepared.frame, postprocessor.people(prepared, candidates)


def _is_still(source: str) -> bool:
    path = Path(source)
    return path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES


def _read_ahead(source: Source, preprocessor: Preprocessor) -> Iterator[PreparedFrame]:
    """Yield the frames of a source, read and prepared by a thread that is at most two frames ahead."""
    read: queue.Queue[PreparedFrame | Exception] = queue.Queue(maxsize=2)
    stop = threading.Event()

    def put(item: PreparedFrame | Exception) -> None:
        while not stop.is_set():
            try:
                read.put(item, timeout=_TURN_S)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            while not stop.is_set():
                put(preprocessor.prepare(source.read()))
        except Exception as error:  # raised again in the caller's thread
            put(error)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = read.get()
            if isinstance(item, EndOfStream):
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        source.close()
        thread.join(1)
