"""A stand-in for the bindings of CUDA: `cuda.bindings.runtime` and `pycuda.driver` over memory of this process."""

import ctypes
import types
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np

from testing.tensorrt_stand_in import World


class CudaError(IntEnum):
    """As `cudaError_t`."""

    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorDevicesUnavailable = 46  # noqa: N815
    cudaErrorNoDevice = 100  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815
    cudaErrorLaunchFailure = 719  # noqa: N815
    cudaErrorStreamCaptureUnsupported = 900  # noqa: N815


def cuda_runtime(world: World) -> types.ModuleType:
    """Return a module like `cuda.bindings.runtime`."""
    module = types.ModuleType("cuda.bindings.runtime")
    counter = iter(range(1, 1 << 30))
    ok = CudaError.cudaSuccess
    graphs: dict[int, list[Callable[[], None]]] = {}
    code = {"cudaMalloc": CudaError.cudaErrorMemoryAllocation, "cudaHostAlloc": CudaError.cudaErrorMemoryAllocation}
    code |= {"cudaStreamBeginCapture": CudaError.cudaErrorStreamCaptureUnsupported, "cudaSetDevice": CudaError.cudaErrorDevicesUnavailable}

    def call(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        def called(*arguments: Any) -> tuple[Any, ...]:
            if world.fails("cuda"):
                return CudaError.cudaErrorLaunchFailure, None
            if world.fails(function.__name__):
                return code.get(function.__name__, CudaError.cudaErrorIllegalAddress), None
            result = function(*arguments)
            return (ok, *result) if isinstance(result, tuple) else (ok, result)

        return called

    def cudaGetDeviceCount() -> int:  # noqa: N802
        return world.devices

    def cudaSetDevice(device: int) -> tuple[()]:  # noqa: N802
        return ()

    def cudaGetDeviceProperties(device: int) -> Any:  # noqa: N802
        return types.SimpleNamespace(name=b"Stand-in", major=8, minor=7, totalGlobalMem=8 << 30)

    def cudaDriverGetVersion() -> int:  # noqa: N802
        return 12060

    def cudaMemGetInfo() -> tuple[int, int]:  # noqa: N802
        return world.free_bytes, 8 << 30

    def cudaMalloc(size: int) -> int:  # noqa: N802
        address = next(counter) << 12
        world.allocated[address] = bytearray(size)
        return address

    def cudaFree(address: int) -> tuple[()]:  # noqa: N802
        del world.allocated[address]
        return ()

    def cudaHostAlloc(size: int, flags: int) -> int:  # noqa: N802
        buffer = ctypes.create_string_buffer(size)
        world.pinned[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def cudaFreeHost(address: int) -> tuple[()]:  # noqa: N802
        del world.pinned[address]
        return ()

    def cudaStreamCreateWithFlags(flags: int) -> int:  # noqa: N802
        stream = next(counter)
        world.streams.add(stream)
        return stream

    def cudaStreamDestroy(stream: int) -> tuple[()]:  # noqa: N802
        world.streams.remove(stream)
        return ()

    def cudaStreamSynchronize(stream: int) -> tuple[()]:  # noqa: N802
        return ()

    def cudaMemcpyAsync(dst: int, src: int, count: int, kind: object, stream: int) -> tuple[()]:  # noqa: N802
        def work() -> None:
            if dst in world.allocated:
                world.allocated[dst][:count] = ctypes.string_at(src, count)
            else:
                ctypes.memmove(dst, bytes(world.allocated[src][:count]), count)

        world.do(work)
        return ()

    def cudaStreamBeginCapture(stream: int, mode: object) -> tuple[()]:  # noqa: N802
        world.capturing = []
        world.captures += 1
        return ()

    def cudaStreamEndCapture(stream: int) -> int:  # noqa: N802
        graph = next(counter)
        graphs[graph], world.capturing = world.capturing or [], None
        return graph

    def cudaGraphInstantiate(graph: int, flags: int) -> int:  # noqa: N802
        executable = next(counter)
        graphs[executable] = graphs[graph]
        world.graphs.add(executable)
        return executable

    def cudaGraphDestroy(graph: int) -> tuple[()]:  # noqa: N802
        del graphs[graph]
        return ()

    def cudaGraphExecDestroy(graph: int) -> tuple[()]:  # noqa: N802
        del graphs[graph]
        world.graphs.remove(graph)
        return ()

    def cudaGraphLaunch(graph: int, stream: int) -> tuple[()]:  # noqa: N802
        world.launches += 1
        for work in graphs[graph]:
            work()
        return ()

    for function in [value for name, value in locals().items() if name.startswith("cuda")]:
        setattr(module, function.__name__, call(function))
    vars(module).update(
        cudaStreamNonBlocking=1,
        cudaMemcpyKind=types.SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
        cudaStreamCaptureMode=types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
        cudaGetErrorString=lambda error: (ok, CudaError(error).name.encode()),
        cudaGetLastError=lambda: (ok,),
    )
    return module


def pycuda_driver(world: World) -> types.ModuleType:
    """Return a module like `pycuda.driver`, over the same memory."""
    module = types.ModuleType("pycuda.driver")
    runtime = cuda_runtime(world)

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    def value(function: str, *arguments: Any) -> Any:
        error, *results = getattr(runtime, function)(*arguments)
        if error:
            raise (MemoryError if int(error) == 2 else Error)(f"{function} failed: {'out of memory' if int(error) == 2 else 'no reason'}")
        return results[0] if results else None

    class DeviceAllocation:
        def __init__(self, size: int) -> None:
            self._address = value("cudaMalloc", size)

        def __int__(self) -> int:
            return int(self._address)

        def free(self) -> None:
            value("cudaFree", self._address)

    class Stream:
        def __init__(self) -> None:
            self.handle = value("cudaStreamCreateWithFlags", 1)

        def synchronize(self) -> None:
            value("cudaStreamSynchronize", self.handle)

        def __del__(self) -> None:
            world.streams.discard(self.handle)

    class Context:
        depth = 0

        def push(self) -> None:
            value("cudaSetDevice", 0)
            Context.depth += 1

        @staticmethod
        def pop() -> None:
            Context.depth -= 1

    class Device:
        def __init__(self, number: int) -> None:
            pass

        @staticmethod
        def count() -> int:
            return int(value("cudaGetDeviceCount"))

        def name(self) -> str:
            return "Stand-in"

        def compute_capability(self) -> tuple[int, int]:
            return 8, 7

        def total_memory(self) -> int:
            return 8 << 30

        def retain_primary_context(self) -> Context:
            return Context()

    def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream) -> None:
        value("cudaMemcpyAsync", dest, src.ctypes.data, src.nbytes, 1, stream.handle)

    def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream) -> None:
        value("cudaMemcpyAsync", dest.ctypes.data, src, dest.nbytes, 2, stream.handle)

    def init() -> None:
        if world.fails("init"):
            raise Error("cuInit failed: no CUDA-capable device is detected")

    vars(module).update(
        Error=Error,
        MemoryError=MemoryError,
        Stream=Stream,
        Context=Context,
        Device=Device,
        init=init,
        mem_alloc=DeviceAllocation,
        mem_get_info=lambda: (world.free_bytes, 8 << 30),
        pagelocked_empty=lambda shape, dtype: np.empty(shape, dtype),
        memcpy_htod_async=memcpy_htod_async,
        memcpy_dtoh_async=memcpy_dtoh_async,
        get_driver_version=lambda: 12060,
    )
    return module
