"""A run over files from their first to their last frame, as fast as the network allows, into files."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from msgspec.structs import replace

from edgepose.capture.files.facts import SourceFacts
from edgepose.capture.images import ImageSource
from edgepose.capture.redact import describe, show
from edgepose.capture.source import Source, open_source, path_of
from edgepose.config.schema import Config
from edgepose.engine.backend import Backend, open_backend, pose_model
from edgepose.engine.selection import select, with_settings
from edgepose.errors import SourceError, UsageError
from edgepose.event import Event
from edgepose.messages.compose import poses_message
from edgepose.pipeline.file_sinks import default_names, open_offline_sinks
from edgepose.pipeline.offline.people import people_in
from edgepose.pipeline.refiner import Refiner
from edgepose.telemetry.metrics import Metrics
from edgepose.validation.inputs import OfflineInput


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


def open_input(config: Config, one: OfflineInput) -> Source:
    """Open an input with the settings of its camera; SourceError where that fails."""
    camera = config.cameras[one.camera]
    with naming_the_file(one):
        if one.images:
            return ImageSource(one.camera, camera, Path(one.source), images=one.images)
        return open_source(one.camera, camera, once=True)


@contextmanager
def naming_the_file(one: OfflineInput) -> Iterator[None]:
    """Take the camera out of errors about an input, since nobody gave it its name: they begin with its file, or with what tells its URL."""
    try:
        yield
    except SourceError as error:
        text = str(error).removeprefix(f"camera {one.camera}: ")
        error.args = (text.replace(show(one.source), describe(one.source), 1) if path_of(one.source) is None else text,)
        raise


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
        network: Backend | None = None,
        take_events: Callable[[list[Event]], None] | None = None,
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
            network: open pose network of the configuration, which the caller closes; None opens it.
            take_events: as in `FramePeople`.

        Raises:
            ConfigError, ModelError, SourceError, EngineError, OutputError: something cannot be opened.
        """
        config = with_settings(config, select(config).ready)
        self._config = config
        self._inputs = list(inputs) if inputs is not None else [OfflineInput(name, one.source) for name, one in config.cameras.items()]
        self._start_ns = start_ns
        self._track_images = track_images
        self._take_events = take_events
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
            self._backend = network or open_backend(self._model, config.model)
            if network is None:
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
                label = f"{one.source} ({number}/{len(self._inputs)})" if len(self._inputs) > 1 else ""
                try:
                    self._run_input(one, label, advance, stop, begin)
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
        source = open_input(self._config, one)
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
            with naming_the_file(one):
                for frame, found, aircraft in people_in(
                    source,
                    self._backend,
                    self._model.info,
                    config,
                    self._metrics,
                    self._refiner,
                    stop=stop,
                    take_events=self._take_events,
                ):
                    at_ns = frame.captured_at_ns if self._start_ns is not None else time.time_ns()
                    message = poses_message(frame, found, at_ns, config.privacy.profile, aircraft)
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
        self._facts.notes.extend(note.removeprefix(f"camera {one.camera}: ") for note in facts.notes)
        for cause, names in facts.skipped.items():
            self._facts.skipped.setdefault(cause, []).extend(names)
        if facts.missing is not None:
            self._missing[one.source] = facts.missing

    def _refined(self) -> int | None:
        if self._refiner is None:
            return None
        counts = self._metrics.refinement()
        return counts.accepted + counts.disagreed if counts is not None else 0
