"""A file from beginning to end, every frame of it, as fast as the engine allows."""

import queue
import threading
from collections.abc import Iterator

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
from edgepose.telemetry.metrics import Metrics

_TURN_S = 0.2


def people_in(
    source: Source, backend: Backend, info: ModelInfo, config: Config, metrics: Metrics, refiner: Refiner | None
) -> Iterator[tuple[Frame, list[Person]]]:
    """Each frame of a source with its people, in order; the next frames are decoded meanwhile.

    A source that never ends is followed until the caller stops asking. The source is closed in the end.

    Args:
        refiner: opened; None where nobody is looked at again.

    Raises:
        SourceError: the source broke off before its end.
        EngineError: the engine failed.
    """
    inputs = Preprocessor(info, config.model.input_size, metrics.took)
    # Nobody asks for events here, so nobody pays for them.
    people = Postprocessor("", replace(config, events=replace(config.events, enabled=False)), metrics, refiner)
    for prepared in _read_ahead(source, inputs):
        with metrics.timed("engine"):
            candidates = backend.run(prepared.images)
        yield prepared.frame, people.people(prepared, candidates)


def _read_ahead(source: Source, inputs: Preprocessor) -> Iterator[PreparedFrame]:
    """Frames of a source, read and laid out by a thread of their own that is at most two frames ahead."""
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
                put(inputs.prepare(source.read()))
        except Exception as error:  # raised again where it is waited for
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
