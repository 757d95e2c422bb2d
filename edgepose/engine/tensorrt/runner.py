"""Runs an engine: pinned buffers, one stream, asynchronous copies, and a CUDA graph for each shape where it captures."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engine.device_memory import DeviceMemory
from edgepose.engine.tensorrt.library import LibraryLog, TensorRtLibrary
from edgepose.errors import EdgeposeError, EngineError

_log = logging.getLogger(__name__)

_SHAPES_KEPT = 8  # shapes of input with buffers and a graph: cameras, tiles and batches of crops


class _Shape:
    """Buffers for one shape of input, and the graph of its work."""

    def __init__(self, memory: DeviceMemory) -> None:
        self.memory = memory
        self.host: dict[str, NDArray[np.uint8]] = {}  # pinned bytes
        self.arrays: dict[str, NDArray[Any]] = {}  # the same memory, with shape and type
        self.device: dict[str, int] = {}
        self.graph: object | None = None

    def add(self, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
        size = max(1, int(np.prod(shape, dtype=np.int64)) * kind.itemsize)
        self.host[name] = self.memory.pinned(size)
        self.arrays[name] = self.host[name][: int(np.prod(shape, dtype=np.int64)) * kind.itemsize].view(kind).reshape(shape)
        self.device[name] = self.memory.allocate(size)

    def release(self) -> None:
        """Free everything; an error is logged, since nothing can be done about it."""
        self.arrays.clear()
        steps: list[Callable[[], None]] = [] if self.graph is None else [partial(self.memory.release_graph, self.graph)]
        steps += [partial(self.memory.release, address) for address in self.device.values()]
        steps += [partial(self.memory.release_pinned, array) for array in self.host.values()]
        self.graph, self.device, self.host = None, {}, {}
        for step in steps:
            try:
                step()
            except EdgeposeError as error:  # the device is lost, and its memory with it
                _log.debug("memory cannot be released: %s", error)


class TensorRtRunner:
    """A deserialized engine on one device; used by one thread at a time.

    Attributes:
        input_name: of its only input.
        input_type: numpy type of it.
        maximum_batch: images that it takes in one call.
        graphs: whether the work is captured into graphs; False after a capture has failed.
    """

    def __init__(self, library: TensorRtLibrary, memory: DeviceMemory, plan: bytes) -> None:
        """Load an engine.

        Raises:
            EngineError: the library refuses the plan (another version, another device, damaged), or memory is short.
        """
        trt = library.module
        self._library = library
        self._memory = memory
        self._trt: Any = trt
        self._log = LibraryLog(library)
        self._shapes: OrderedDict[tuple[int, ...], _Shape] = OrderedDict()
        self._stream: int | None = None
        self.graphs = memory.graphs
        with memory.current():
            self._runtime = self._log.make("Runtime")
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:  # its documentation: None if it could not be deserialized
                raise EngineError(f"{library.words} does not load the engine: {self._log.words()}")
            self._context = self._engine.create_execution_context()
            if self._context is None:
                raise EngineError(f"{library.words} gives the engine no context, mostly for lack of memory: {self._log.words()}")
            self._stream = memory.open_stream()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise EngineError(f"the engine has the inputs {', '.join(inputs) or 'none'}; expected one")
        self.input_name: str = inputs[0]
        self.output_names = tuple(name for name in names if name not in inputs)
        self.input_type = np.dtype(trt.nptype(self._engine.get_tensor_dtype(self.input_name)))
        self.maximum_batch = int(next(iter(self._engine.get_tensor_profile_shape(self.input_name, 0)[2])))

    def run(self, tensor: NDArray[Any], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Return copies of the named outputs for one input.

        Args:
            tensor: of `input_type`, in a shape that the engine's profile takes.
            outputs: some of `output_names`.

        Raises:
            EngineError: the shape does not fit the engine, or the device fails.
        """
        if self._stream is None:
            raise EngineError("the engine is closed")
        if tensor.dtype != self.input_type:
            raise EngineError(f"the input is {tensor.dtype}; expected {self.input_type}")
        with self._memory.current():
            shape = self._prepared(tensor.shape)
            shape.arrays[self.input_name][...] = tensor
            if shape.graph is not None:
                self._memory.launch(shape.graph, self._stream)
            else:
                self._enqueue(shape)
            self._memory.wait(self._stream)
            return [shape.arrays[name].copy() for name in outputs]

    def close(self) -> None:
        """Free the engine and its memory; idempotent, and quiet where the device is lost."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            with self._memory.current():
                for shape in self._shapes.values():
                    shape.release()
                self._memory.close_stream(stream)
        except EdgeposeError as error:
            _log.debug("the engine cannot be closed in order: %s", error)
        self._shapes.clear()
        self._context = self._engine = self._runtime = None

    def _prepared(self, shape: tuple[int, ...]) -> _Shape:
        """Return the buffers of a shape, with the context set to it."""
        found = self._shapes.get(shape)
        if found is not None:
            self._shapes.move_to_end(shape)
            if found.graph is None:
                self._bind(shape, found)
            return found
        while len(self._shapes) >= _SHAPES_KEPT:
            _, oldest = self._shapes.popitem(last=False)
            oldest.release()
        made = _Shape(self._memory)
        try:
            self._set_shape(shape)
            made.add(self.input_name, shape, self.input_type)
            for name in self.output_names:
                sides = tuple(int(side) for side in self._context.get_tensor_shape(name))
                if any(side < 0 for side in sides):
                    raise EngineError(f"the size of the output {name} {sides} depends on the image; expected a fixed number of candidates")
                made.add(name, sides, np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name))))
            self._bind(shape, made)
            self._capture(made)
        except EdgeposeError:
            made.release()
            raise
        self._shapes[shape] = made
        return made

    def _set_shape(self, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(self.input_name, shape):
            raise EngineError(f"the engine refuses an input of {shape}: {self._log.words()}")

    def _bind(self, shape: tuple[int, ...], buffers: _Shape) -> None:
        self._set_shape(shape)
        for name, address in buffers.device.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"the engine refuses the buffer of {name}: {self._log.words()}")

    def _enqueue(self, shape: _Shape) -> None:
        assert self._stream is not None
        self._memory.copy_in(shape.device[self.input_name], shape.host[self.input_name], self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(f"{self._library.words} does not run the engine: {self._log.words()}")
        for name in self.output_names:
            self._memory.copy_out(shape.host[name], shape.device[name], self._stream)

    def _capture(self, shape: _Shape) -> None:
        """Capture the work of a shape; the first run outside of it allocates what a capture must not. Without a graph it runs as well."""
        if not self.graphs:
            return
        assert self._stream is not None
        shape.arrays[self.input_name][...] = 0
        self._enqueue(shape)
        self._memory.wait(self._stream)
        try:
            self._memory.begin_capture(self._stream)
            try:
                self._enqueue(shape)
            finally:
                graph = self._memory.end_capture(self._stream)
        except EdgeposeError as error:
            self.graphs = False
            _log.info("the engine runs without CUDA graphs: %s", error)
            return
        shape.graph = graph
