"""Files from their first to their last frame, as fast as the network allows, into files."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from msgspec.structs import replace

from edgepose.capture.files.facts import SourceFacts
from edgepose.capture.images import ImageSource
from edgepose.capture.source import Source, open_source, path_of
from edgepose.config.schema import CameraConfig, Config, FilesConfig
from edgepose.engine.backend import Backend, open_backend, pose_model
from edgepose.errors import EndOfStream, SourceError, UsageError
from edgepose.frame import Frame
from edgepose.messages.compose import poses_message
from edgepose.model.file import ModelInfo
from edgepose.person import Person
from edgepose.pipeline.file_sinks import default_names, open_offline_sinks
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import PreparedFrame, Preprocessor
from edgepose.telemetry.metrics import Metrics
from edgepose.validation.inputs import OfflineInput, find_inputs, is_image

_TURN_S = 0.2
_FRAME_LIMIT_MB = 512  # nothing runs beside it, and a photograph may be large

_FILE_PATIENCE_S = 60.0
"""Time-outs of files and pipes at least: a slow disk, or a slow sender, must not end a run that nobody waits for."""


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
        skipped: files that were not read, by cause.
        missing: how much of a cut file is missing, by file.
        time_jumps: places where timestamps went back or leaped.
        notes: choices that were made, in sentences.
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
    skipped: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    time_jumps: int = 0
    notes: list[str] = field(default_factory=list)


def run(config: Config, *, advance: Callable[[], None] = lambda: None, stop: Callable[[], bool] = lambda: False) -> Summary:
    """Write the poses of the cameras of a configuration to its files, every frame, one camera after the other.

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

    def __init__(
        self,
        config: Config,
        inputs: Sequence[OfflineInput] | None = None,
        *,
        coco: Path | None = None,
        default_outputs: bool = False,
        start_ns: int | None = None,
        track_images: bool = True,
    ) -> None:
        """Open the first source, network, refiner and files; files keep their earlier contents until the first frame.

        Args:
            config: with one camera for each input.
            inputs: what is read, in order; None for the cameras of the configuration.
            coco: file of COCO results.
            default_outputs: whether to write what people expect who named no output (`open_offline_sinks`).
            start_ns: capture time of the first frame of each file, ns since the Unix epoch; None for the time of opening. With it, the same
                files give the same bytes: `age_ms` is 0.
            track_images: whether people in images get track numbers where tracking is on.

        Raises:
            ConfigError, ModelError, SourceError, EngineError, OutputError: something cannot be opened.
        """
        self._config = config
        self._inputs = list(inputs) if inputs is not None else [OfflineInput(name, one.source) for name, one in config.cameras.items()]
        self._start_ns = start_ns
        self._track_images = track_images
        self._metrics = Metrics()
        self._model = pose_model(config.model)
        self._refiner = Refiner.configured(config, self._metrics)
        self._frames = self._people = self._corrupt = 0
        self._live = self._stopped = False
        self._began_s = time.monotonic()
        self._facts = SourceFacts()
        self._missing: dict[str, str] = {}
        with ExitStack() as opened:  # where one thing cannot be opened, those before it are closed again
            self._first: Source | None = None if len(self._inputs) > 1 else self._open(self._inputs[0])
            if self._first is not None:
                opened.callback(self._first.close)
            self._backend = open_backend(self._model, config.model)
            opened.callback(self._backend.close)
            if self._refiner is not None:
                self._refiner.open()
                opened.callback(self._refiner.close)
            self._sinks = open_offline_sinks(config, self._inputs, coco=coco, default=default_outputs)
            for sink in reversed(self._sinks):
                opened.callback(sink.close)
            self._opened = opened.pop_all()
        self.written = default_names(self._inputs) if default_outputs else []
        """Files and folders that are written although none was named."""

    def __enter__(self) -> "OfflineRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the files and close the rest."""
        self._opened.close()

    def run(
        self,
        advance: Callable[[], None],
        stop: Callable[[], bool],
        begin: Callable[[str, int | None], None] = lambda name, frames: None,
    ) -> Summary:
        """Write every frame, complete the files and return the summary; see `run`.

        Where there are several inputs, one that cannot be read is skipped; that is an error only where none can.

        Args:
            begin: called for each input with its name, and its number of frames where that is known.
        """
        self._began_s = time.monotonic()
        failure: SourceError | None = None
        with self._opened, suppress(BrokenPipeError):  # a pipe whose reader has closed it ends the run in order
            for number, one in enumerate(self._inputs, 1):
                try:
                    self._run_input(
                        one, f"{one.source} ({number}/{len(self._inputs)})" if len(self._inputs) > 1 else "", advance, stop, begin
                    )
                except SourceError as error:
                    if len(self._inputs) == 1:
                        raise
                    failure = error
                    self._facts.skip("failed", one.source)
                    self._facts.notes.append(str(error))
                if self._stopped:
                    break
        if failure is not None and not self._frames:
            raise failure
        return self.summary()

    def summary(self) -> Summary:
        """Return the summary of what was written so far."""
        elapsed_s = time.monotonic() - self._began_s
        return Summary(
            frames=self._frames,
            corrupt=self._corrupt,
            people=self._people,
            refined=self._refined(),
            over_limit=sum(counts.over_limit for counts in self._metrics.stats().cameras.values()),
            frames_per_second=round(self._frames / elapsed_s, 1) if elapsed_s > 0 else 0.0,
            model=self._model.path.name,
            refiner=self._refiner.model.path.name if self._refiner is not None else None,
            backend=self._backend.name,
            interrupted=self._stopped and not self._live,
            skipped=self._facts.skipped,
            missing=self._missing,
            time_jumps=self._facts.time_jumps,
            notes=self._facts.notes,
        )

    def _open(self, one: OfflineInput) -> Source:
        camera = self._config.cameras[one.camera]
        if one.images:
            source: Source = ImageSource(one.camera, camera, Path(one.source), images=one.images)
        else:
            source = open_source(one.camera, camera, once=True)
        if self._start_ns is not None:
            begin_at = getattr(source, "begin_at", None)
            if source.live or begin_at is None:
                source.close()
                raise UsageError("--start sets the clock of files, but this source is a stream, which has its own; expected a file")
            begin_at(self._start_ns)
        return source

    def _run_input(
        self,
        one: OfflineInput,
        label: str,
        advance: Callable[[], None],
        stop: Callable[[], bool],
        begin: Callable[[str, int | None], None],
    ) -> None:
        source, self._first = self._first or self._open(one), None
        self._live = source.live
        facts: SourceFacts = getattr(source, "facts", None) or SourceFacts()
        begin(label, facts.expected_frames)
        config = replace(self._config, cameras={one.camera: self._config.cameras[one.camera]})
        if one.still and not self._track_images:
            config = replace(config, track=replace(config.track, enabled=False))
        frames = 0
        try:
            for frame, found in people_in(source, self._backend, self._model.info, config, self._metrics, self._refiner, stop=stop):
                message = poses_message(frame, found, frame.captured_at_ns if self._start_ns is not None else time.time_ns())
                for sink in self._sinks:
                    sink.write(frame, found, message)
                frames += 1
                self._frames += 1
                self._people += len(found)
                advance()
                if stop():
                    break
        except SourceError as error:
            if error.cause != "ended" or not frames:
                raise
            self._facts.notes.append(f"{error} after {frames} frames")  # a server that plays a file: its end is an end
        finally:
            source.close()
            self._stopped = stop()
            self._note(one, facts, source.corrupt_frames)

    def _note(self, one: OfflineInput, facts: SourceFacts, corrupt: int) -> None:
        self._corrupt += corrupt
        self._facts.time_jumps += facts.time_jumps
        self._facts.notes.extend(facts.notes)
        for cause, names in facts.skipped.items():
            self._facts.skipped.setdefault(cause, []).extend(names)
        if facts.missing is not None:
            self._missing[one.source] = facts.missing

    def _refined(self) -> int | None:
        if self._refiner is None:
            return None
        counts = self._metrics.refinement()
        return counts.accepted + counts.disagreed if counts is not None else 0


def offline_config(
    config: Config,
    source: str | Sequence[OfflineInput],
    files: FilesConfig,
    *,
    model: str | None = None,
    refiner: str | None = None,
    refine_people: int | None = None,
    track: bool | None = None,
    rate: float | None = None,
    cameras: Sequence[str] = (),
) -> Config:
    """Return a configuration for a run over one or several sources.

    A camera of the configuration lends its settings (transport, certificates, time-outs) to the source that it names, or that is on the
    same host.

    Args:
        config: for everything that is not given here.
        source: video file, image, folder of images or stream, or the inputs of `find_inputs`; each camera is named after its file.
        files: to write.
        model: name or file of the pose network; None for the configured one.
        refiner: name or file of the refiner, for as many people as configured, or everybody where none are; None for the configured one.
        refine_people: maximum number of people refined in a frame; None for the configured number.
        track: whether people get track numbers; None for the configured choice on videos, and False on still images.
        rate: frames per second of images and of files without timestamps; None for the configured rate.
        cameras: names of cameras in the configuration that lend their settings whatever they name.
    """
    inputs = [_input_of(source)] if isinstance(source, str) else source
    settings = {one.camera: _camera(config, one, cameras) for one in inputs}
    if rate is not None:
        settings = {name: replace(camera, rate=rate) for name, camera in settings.items()}
    config = replace(config, cameras=settings, files=files)
    if model is not None:
        config = replace(config, model=replace(config.model, path=model))
    if refiner is not None:
        config = replace(config, refine=replace(config.refine, path=refiner, people=config.refine.people or config.pose.maximum_people))
    if refine_people is not None:
        config = replace(config, refine=replace(config.refine, people=refine_people))
    if track is None:
        track = config.track.enabled and not all(one.still for one in inputs)
    return replace(config, track=replace(config.track, enabled=track))


def people_in(
    source: Source,
    backend: Backend,
    info: ModelInfo,
    config: Config,
    metrics: Metrics,
    refiner: Refiner | None,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Frame, list[Person]]]:
    """Yield each frame of a source with its people, in order; meanwhile the next frames are decoded.

    A source without an end is followed until the caller stops. The source is closed at the end.

    Args:
        refiner: opened; None where nobody is refined.
        stop: asked while no frame comes; True ends the frames.

    Raises:
        SourceError: the source failed before its end.
        EngineError: the engine failed.
    """
    preprocessor = Preprocessor(info, config.model.input_size, metrics.took)
    # The callers do not need events, so they are off.
    config = replace(config, events=replace(config.events, enabled=False))
    postprocessor = Postprocessor(next(iter(config.cameras), "source"), config, metrics, refiner)
    for prepared in _read_ahead(source, preprocessor, stop):
        with metrics.timed("engine"):
            candidates = backend.run(prepared.images)
        yield prepared.frame, postprocessor.people(prepared, candidates)


def _input_of(source: str) -> OfflineInput:
    """Return the input for one source, which need not exist yet."""
    with suppress(SourceError, OSError):
        found = find_inputs([source]).inputs
        if len(found) == 1:
            return found[0]
    path = path_of(source)
    return OfflineInput(
        "stream" if path is None else path.stem or "source", source, still=path is not None and (path.is_dir() or is_image(path))
    )


def _camera(config: Config, one: OfflineInput, named: Sequence[str]) -> CameraConfig:
    """Return the settings for an input, from the camera of the configuration that lends them, or the defaults."""
    name = one.camera if one.camera in named or len(named) != 1 else named[0]
    lender = config.cameras.get(name) if name in named else next(
        (camera for camera in config.cameras.values() if camera.source == one.source),
        next((camera for camera in config.cameras.values() if _is_same_host(camera.source, one.source)), None),
    )  # fmt: skip
    source = str(one.images[0]) if one.images else one.source
    default = CameraConfig(source=source)
    camera = default if lender is None else replace(lender, source=source, loop=False, realtime=False, zones={})
    if camera.frame_limit_mb == default.frame_limit_mb:
        camera = replace(camera, frame_limit_mb=_FRAME_LIMIT_MB)
    if path_of(source) is None or name in named:
        return camera
    patience = {key: max(getattr(camera, key), _FILE_PATIENCE_S) for key in ("open_timeout_s", "read_timeout_s")}
    return replace(camera, **patience)


def _is_same_host(one: str, other: str) -> bool:
    if path_of(one) is not None or path_of(other) is not None:
        return False
    try:
        first, second = urlsplit(one), urlsplit(other)
    except ValueError:
        return False
    return bool(first.hostname) and (first.scheme, first.hostname) == (second.scheme, second.hostname)


def _read_ahead(source: Source, preprocessor: Preprocessor, stop_asked: Callable[[], bool]) -> Iterator[PreparedFrame]:
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
            try:
                item = read.get(timeout=_TURN_S)
            except queue.Empty:
                if stop_asked():
                    return
                continue
            if isinstance(item, EndOfStream):
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        source.close()
        thread.join(1)
