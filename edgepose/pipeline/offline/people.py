"""The people in every frame of a source, in order."""

import queue
import threading
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from edgepose.capture.source import Source
from edgepose.config.schema import Config
from edgepose.engine.backend import Backend
from edgepose.errors import EndOfStream
from edgepose.frame import Frame
from edgepose.model.file import ModelInfo
from edgepose.person import Person
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import PreparedFrame, Preprocessor
from edgepose.pipeline.tiles import TileVisitor
from edgepose.telemetry.metrics import Metrics

_TURN_S = 0.2


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
    tiles = TileVisitor(config, info, metrics) if config.tiles.enabled else None
    people: list[Person] = []
    for prepared in _read_ahead(source, preprocessor, stop):
        with metrics.timed("engine"):
            candidates, visited = backend.run(prepared.images), None
        if tiles is not None:
            candidates, visited = tiles.candidates(prepared, candidates, backend, people, None)
        people = postprocessor.people(prepared, candidates, visited=visited)
        yield prepared.frame, people


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
