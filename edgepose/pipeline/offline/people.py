"""The people in every frame of a source, in order."""

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext

from msgspec.structs import replace

from edgepose.capture.source import Source
from edgepose.config.schema import Config
from edgepose.engine.backend import Backend
from edgepose.errors import EndOfStream
from edgepose.event import Event
from edgepose.flight.service import FlightService
from edgepose.frame import Frame
from edgepose.ground import Aircraft
from edgepose.model.file import ModelInfo
from edgepose.person import Person
from edgepose.pipeline.postprocessor import PersonRefiner, Postprocessor
from edgepose.pipeline.stages import PreparedFrame, Preprocessor
from edgepose.pipeline.tiles import TileVisitor
from edgepose.telemetry.metrics import Metrics

_TURN_S = 0.2
_ALONE: AbstractContextManager[object] = nullcontext()


class FramePeople:
    """A function from a prepared frame to its people, for the frames of one source, in order; used by one thread at a time.

    Attributes:
        aircraft: what carried the camera at the last frame; None where nobody is placed.
    """

    def __init__(
        self,
        camera: str,
        backend: Backend,
        info: ModelInfo,
        config: Config,
        metrics: Metrics,
        refiner: PersonRefiner | None,
        turn: AbstractContextManager[object] = _ALONE,
        take_events: Callable[[list[Event]], None] | None = None,
    ) -> None:
        """
        Args:
            camera: name of the source.
            refiner: None where nobody is refined.
            turn: held while a frame is computed, where other threads use the same networks.
            take_events: receives the events of each frame; None where the caller does not need events, which are then off.
        """
        if take_events is None:
            config = replace(config, events=replace(config.events, enabled=False))
        self._take_events = take_events
        self._backend = backend
        self._metrics = metrics
        self._turn = turn
        # The caller has set the limit, and a summary counts who is left out.
        # Other telemetry is that of now, and not of the time when a file was recorded.
        flight = FlightService(config) if config.flight.source == "fixed" else None
        self._postprocessor = Postprocessor(camera, config, metrics, refiner, tells_limit=False, flight=flight)
        sizes = None if flight is None else flight.expected_sizes(camera)
        self._tiles = TileVisitor(config, info, metrics, sizes) if config.tiles.enabled else None
        self._people: list[Person] = []  # of the frame before
        self.aircraft: Aircraft | None = None

    def __call__(self, prepared: PreparedFrame) -> list[Person]:
        """Return the people of the next frame; EngineError where the engine fails."""
        with self._turn:
            with self._metrics.timed("engine"):
                candidates, visited = self._backend.run(prepared.images), None
            if self._tiles is not None:
                candidates, visited = self._tiles.candidates(prepared, candidates, self._backend, self._people, None)
            self._people = self._postprocessor.people(prepared, candidates, visited=visited)
            self.aircraft = self._postprocessor.aircraft
            if self._take_events is not None:
                self._take_events(self._postprocessor.events)
        return self._people


def people_in(
    source: Source,
    backend: Backend,
    info: ModelInfo,
    config: Config,
    metrics: Metrics,
    refiner: PersonRefiner | None,
    *,
    stop: Callable[[], bool] = lambda: False,
    turn: AbstractContextManager[object] = _ALONE,
    take_events: Callable[[list[Event]], None] | None = None,
) -> Generator[tuple[Frame, list[Person], Aircraft | None], None, None]:
    """Yield each frame of a source with its people and what carries the camera, in order; meanwhile the next frames are decoded.

    A source without an end is followed until the caller stops. The source is closed at the end.

    Args:
        refiner: opened; None where nobody is refined.
        stop: asked while no frame comes; True ends the frames.
        turn, take_events: as in `FramePeople`.

    Raises:
        SourceError: the source failed before its end.
        EngineError: the engine failed.
    """
    preprocessor = Preprocessor(info, config.model.input_size, metrics.took)
    find = FramePeople(next(iter(config.cameras), "source"), backend, info, config, metrics, refiner, turn, take_events)
    with closing(_read_ahead(source, preprocessor, stop)) as frames:
        for prepared in frames:
            people = find(prepared)
            yield prepared.frame, people, find.aircraft


def _read_ahead(source: Source, preprocessor: Preprocessor, stop_asked: Callable[[], bool]) -> Generator[PreparedFrame, None, None]:
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
