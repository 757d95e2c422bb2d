"""A stand-in for the bindings of TensorRT and of CUDA, at the boundary: what our code calls, and nothing else.

A machine without a GPU cannot run an engine. The stand-in "builds" a plan that holds the ONNX file and "runs" it with ONNX Runtime, so that
engines give true results; and it fails as the real ones are documented to fail. `tests/engine/tensorrt/test_bindings.py` shows that every
attribute here exists in the real bindings.

Failures, with their sources:

- `build_serialized_network` returns None (docstring of `Builder.build_serialized_network`: a pointer to an IHostMemory; NVIDIA's samples
  check for None), with an error in the log.
- `Builder` and `Runtime` raise "TypeError: pybind11::init(): factory function returned nullptr" where CUDA cannot be initialized, and log
  "CUDA initialization failure with error: 35" (https://github.com/NVIDIA/TensorRT/issues/2913).
- `deserialize_cuda_engine` returns None (its docstring: "The ICudaEngine, or None if it could not be deserialized"), and logs, of
  another version: "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed"; without a driver: "CUDA initialization
  failure with error: 35" (seen with tensorrt_rtx 1.7 here).
- `create_execution_context` returns None where its memory cannot be allocated ("[Error] ... Error Code 2: OutOfMemory").
- `execute_async_v3`, `set_input_shape` and `set_tensor_address` return False (their docstrings).
- CUDA functions return an error and None (CUDA Runtime API); `cudaErrorMemoryAllocation` is 2, `cudaErrorIllegalAddress` 700.
"""

import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

VERSION = "10.3.0"


@dataclass
class World:
    """What goes wrong, and what happened.

    Attributes:
        fail: how often calls fail from now on (-1: always), by name: `Builder`, `Runtime`, `build`, `parse`, `deserialize`, `context`,
            `execute`, `shape`, `address`, `profile`, or a CUDA function; `cuda` is every CUDA function: a device that is lost.
        orders: file of JSON that this process takes up when it appears: an update of `fail`.
        errors: what the library logs when a call of that name fails.
        scale: what the engine's outputs are multiplied by: an engine that was built wrongly.
        builds, captures, launches, allocated, pinned: counted.
        version: of the library; an engine of another one is refused.
        dla_cores, dla_takes: of the device.
        on_step: called at each step of a build.
    """

    fail: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    scale: float = 1.0
    version: str = VERSION
    builds: int = 0
    captures: int = 0
    launches: int = 0
    workspaces: list[int] = field(default_factory=list)
    allocated: dict[int, Any] = field(default_factory=dict)
    pinned: dict[int, Any] = field(default_factory=dict)
    streams: set[int] = field(default_factory=set)
    graphs: set[int] = field(default_factory=set)
    dla_cores: int = 0
    dla_takes: bool = False
    timing_caches: list[bytes] = field(default_factory=list)
    capturing: list[Callable[[], None]] | None = None
    on_step: Callable[[int], None] = lambda step: None
    devices: int = 1
    free_bytes: int = 2 << 30
    orders: Path | None = None

    def fails(self, name: str) -> bool:
        """Return whether a call fails now, and count it down."""
        if self.orders is not None and self.orders.exists():
            self.fail.update(json.loads(self.orders.read_text()))
            self.orders.unlink()
        left = self.fail.get(name, 0)
        if left > 0:
            self.fail[name] = left - 1
        return left != 0

    def do(self, work: Callable[[], None]) -> None:
        """Do a stream's work, or record it."""
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            work()


def tensorrt(world: World, name: str = "tensorrt") -> types.ModuleType:
    """Return a module like `tensorrt` or `tensorrt_rtx`."""
    module = types.ModuleType(name)
    error = "Severity.ERROR"

    class ILogger:
        def log(self, severity: object, msg: str) -> None:
            raise NotImplementedError

    class IProgressMonitor:
        pass

    class NetworkDefinitionCreationFlag(IntEnum):
        STRONGLY_TYPED = 1

    class MemoryPoolType(Enum):
        WORKSPACE = 0

    class ProfilingVerbosity(Enum):
        DETAILED = 2

    class TensorIOMode(Enum):
        INPUT = 1
        OUTPUT = 2

    class DeviceType(Enum):
        GPU = 0
        DLA = 1

    class BuilderFlag(Enum):
        GPU_FALLBACK = 2

    class LayerType(Enum):
        CONVOLUTION = 0
        QUANTIZE = 43
        DEQUANTIZE = 44

    def told(logger: ILogger, what: str, text: str) -> None:
        logger.log(error, world.errors.get(what, text))

    def factory(kind: str, logger: ILogger) -> None:
        if world.fails(kind):
            told(logger, kind, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    class Tensor:
        def __init__(self, name: str, shape: tuple[int, ...]) -> None:
            self.name, self.shape = name, shape

    class Layer:
        def __init__(self, name: str, kind: LayerType) -> None:
            self.name, self.type = name, kind

    class Network:
        model = b""
        layers: list[Layer]

        def get_input(self, index: int) -> Tensor:
            value = onnx.load_from_string(self.model).graph.input[index]
            return Tensor(
                value.name, tuple(side.dim_value if side.HasField("dim_value") else -1 for side in value.type.tensor_type.shape.dim)
            )

        @property
        def num_layers(self) -> int:
            return len(self.layers)

        def get_layer(self, index: int) -> Layer:
            return self.layers[index]

    class ParserError:
        def desc(self) -> str:
            return "Non-zero zero point is not supported"

        def node_name(self) -> str:
            return "q1"

        def node_operator(self) -> str:
            return "QuantizeLinear"

    class OnnxParser:
        num_errors = 0

        def __init__(self, network: Network, logger: ILogger) -> None:
            self._network = network

        def parse(self, model: bytes) -> bool:
            if world.fails("parse"):
                self.num_errors = 1
                return False
            self._network.model = model
            self._network.layers = [Layer("conv1", LayerType.CONVOLUTION)]
            return True

        def get_error(self, index: int) -> ParserError:
            return ParserError()

    class OptimizationProfile:
        def __init__(self) -> None:
            self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

        def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
            self.shapes[input] = (tuple(min), tuple(opt), tuple(max))

    class TimingCache:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def serialize(self) -> bytes:
            return self.data + b"+"

    class BuilderConfig:
        profiling_verbosity: ProfilingVerbosity
        progress_monitor: Any = None
        default_device_type = DeviceType.GPU
        DLA_core = -1

        def __init__(self) -> None:
            self.profile = OptimizationProfile()
            self.cache = TimingCache(b"")

        def add_optimization_profile(self, profile: OptimizationProfile) -> int:
            self.profile = profile
            return -1 if world.fails("profile") else 0

        def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
            world.workspaces.append(pool_size)

        def set_flag(self, flag: BuilderFlag) -> None:
            pass

        def can_run_on_DLA(self, layer: Layer) -> bool:  # noqa: N802
            return world.dla_takes

        def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
            world.timing_caches.append(serialized_timing_cache)
            return TimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            self.cache = cache
            return True

        def get_timing_cache(self) -> TimingCache:
            return self.cache

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            factory("Builder", logger)
            self._logger = logger

        @property
        def num_DLA_cores(self) -> int:  # noqa: N802
            return world.dla_cores

        def create_network(self, flags: int) -> Network:
            assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            return Network()

        def create_builder_config(self) -> BuilderConfig:
            return BuilderConfig()

        def create_optimization_profile(self) -> OptimizationProfile:
            return OptimizationProfile()

        def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes | None:
            world.builds += 1
            monitor = config.progress_monitor
            monitor.phase_start("Building engine", None, 2)
            monitor.phase_start("Tactics", "Building engine", 4)
            for step in range(4):
                world.on_step(step)
                assert monitor.step_complete("Tactics", step)
            monitor.phase_finish("Tactics")
            monitor.step_complete("Building engine", 0)
            monitor.phase_finish("Building engine")
            self._logger.log("Severity.WARNING", "a warning")
            if world.fails("build"):
                told(self._logger, "build", "Error Code 2: OutOfMemory (Requested size was 4194304 bytes.)")
                return None
            head = json.dumps({"version": world.version, "profile": config.profile.shapes, "size": len(network.model)}).encode()
            return head + b"\n" + network.model

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            factory("Runtime", logger)
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> "CudaEngine | None":
            head, _, model = serialized_engine.partition(b"\n")
            if world.fails("deserialize"):
                told(self._logger, "deserialize", "CUDA initialization failure with error: 35")
                return None
            known = json.loads(head)
            if known["version"] != world.version:
                told(self._logger, "version", "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed")
                return None
            return CudaEngine(model, known["profile"], self._logger)

    class CudaEngine:
        def __init__(self, model: bytes, profile: dict[str, Any], logger: ILogger) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self.profile, self.logger = profile, logger
            self.inputs, self.outputs = self.session.get_inputs(), self.session.get_outputs()

        @property
        def num_io_tensors(self) -> int:
            return len(self.inputs) + len(self.outputs)

        def get_tensor_name(self, index: int) -> str:
            return str([*self.inputs, *self.outputs][index].name)

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name in [entry.name for entry in self.inputs] else TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> str:
            return str(next(entry.type for entry in [*self.inputs, *self.outputs] if entry.name == name))

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> tuple[tuple[int, ...], ...]:
            if name in self.profile:
                return tuple(tuple(part) for part in self.profile[name])
            shape = tuple(next(entry.shape for entry in self.inputs if entry.name == name))
            return shape, shape, shape

        def create_execution_context(self) -> "ExecutionContext | None":
            if world.fails("context"):
                told(self.logger, "context", "Error Code 2: OutOfMemory")
                return None
            return ExecutionContext(self)

    class ExecutionContext:
        def __init__(self, engine: CudaEngine) -> None:
            self._engine = engine
            self._addresses: dict[str, int] = {}
            self._input: tuple[int, ...] = ()
            self._outputs: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            least, _, most = self._engine.get_tensor_profile_shape(name, 0)
            fits = all(low <= side <= high for low, side, high in zip(least, shape, most, strict=True))
            if not fits or world.fails("shape"):
                told(self._engine.logger, "shape", "Static dimension mismatch while setting input shape")
                return False
            self._input = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if world.fails("open_shape"):
                return (-1, 4)
            if self._input not in self._outputs:
                first = self._engine.inputs[0]
                zeros = np.zeros(self._input, _numpy(first.type))
                found = self._engine.session.run(None, {first.name: zeros})
                self._outputs[self._input] = {entry.name: part.shape for entry, part in zip(self._engine.outputs, found, strict=True)}
            return self._outputs[self._input][name]

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return not world.fails("address")

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert stream_handle in world.streams
            if world.fails("execute"):
                told(self._engine.logger, "execute", "Cuda Runtime (an illegal memory access was encountered)")
                return False
            shape, addresses = self._input, dict(self._addresses)

            def work() -> None:
                first = self._engine.inputs[0]
                image = world.allocated[addresses[first.name]]
                size = int(np.prod(shape)) * np.dtype(_numpy(first.type)).itemsize
                tensor = np.frombuffer(image, _numpy(first.type), count=int(np.prod(shape)), offset=0).reshape(shape)
                assert size <= len(image)
                for entry, values in zip(self._engine.outputs, self._engine.session.run(None, {first.name: tensor}), strict=True):
                    data = (values * np.asarray(world.scale, values.dtype)).tobytes()
                    world.allocated[addresses[entry.name]][: len(data)] = data

            world.do(work)
            return True

    for kind in (
        *(ILogger, IProgressMonitor, NetworkDefinitionCreationFlag, MemoryPoolType, ProfilingVerbosity, TensorIOMode, DeviceType),
        *(BuilderFlag, LayerType, OnnxParser, Builder, Runtime),
    ):
        setattr(module, kind.__name__, kind)
    vars(module).update(__version__=world.version, nptype=_numpy, __spec__=ModuleSpec(name, None))
    return module


def _numpy(kind: str) -> Any:
    return {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}[kind]


def install(world: World, monkeypatch: Any, *, memory: str = "cuda-python", name: str = "tensorrt") -> None:
    """Make the stand-ins what this process imports; `memory` is `cuda-python`, `pycuda` or empty for neither."""
    from testing.cuda_stand_in import cuda_runtime, pycuda_driver

    for module in ("tensorrt", "tensorrt_rtx", "pycuda", "pycuda.driver", "cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, module, None)  # not installed
    monkeypatch.setitem(sys.modules, name, tensorrt(world, name))
    monkeypatch.setattr("edgepose.engine.device_memory.DRIVER", ANY_LIBRARY)
    packages = {"cuda-python": ("cuda", "cuda.bindings"), "pycuda": ("pycuda",), "": ()}[memory]
    for package in packages:
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    if memory == "cuda-python":
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda_runtime(world))
    elif memory == "pycuda":
        monkeypatch.setitem(sys.modules, "pycuda.driver", pycuda_driver(world))


def write_packages(folder: Path, *, step_s: float = 0.0, fail: str = "", gates: Path | None = None) -> Path:
    """Write packages `tensorrt` and `cuda` that are the stand-ins, for the PYTHONPATH of other processes; return their folder.

    Args:
        step_s: how long each of four steps of a build takes, seconds.
        fail: a call of the library that always fails.
        gates: folder in which the last step of a build waits for a file `finish`, and in which a file `orders` is `World.orders`.
    """
    common = "import sys, time\nfrom pathlib import Path\nfrom testing import cuda_stand_in, tensorrt_stand_in\n"
    common += f"world = tensorrt_stand_in.SHARED\nworld.on_step = lambda step: time.sleep({step_s})\n"
    if gates is not None:
        common += f"world.orders, gate = Path({str(gates / 'orders')!r}), Path({str(gates / 'finish')!r})\n"
        common += f"def wait(step):\n    time.sleep({step_s})\n    while step == 3 and not gate.exists():\n        time.sleep(0.02)\n"
        common += "world.on_step = wait\n"
    common += f"world.fail.update({{{fail!r}: -1}} if {fail!r} else {{}})\n"
    (folder / "tensorrt").mkdir(parents=True)
    (folder / "tensorrt" / "__init__.py").write_text(common + "sys.modules[__name__] = tensorrt_stand_in.tensorrt(world)\n")
    (folder / "sitecustomize.py").write_text(f"from edgepose.engine import device_memory\ndevice_memory.DRIVER = {ANY_LIBRARY!r}\n")
    (folder / "cuda" / "bindings").mkdir(parents=True)
    for package in ("cuda", "cuda/bindings"):
        (folder / package / "__init__.py").write_text("")
    (folder / "cuda" / "bindings" / "runtime.py").write_text(common + "sys.modules[__name__] = cuda_stand_in.cuda_runtime(world)\n")
    return folder


ANY_LIBRARY = "libc.so.6"
"""Stands in for the library of the driver, which is only looked for."""

SHARED = World()
"""The world of `write_packages`: one for both packages of a process."""
