"""Memory of a CUDA device for engines: one protocol, and two thin implementations of it.

pycuda is used where it is installed, otherwise the wheels of cuda-python (decision 22). Both speak to the same driver; pycuda
has no graph capture, so an engine enqueues its work call by call there.

Sources: https://documen.tician.de/pycuda/driver.html, https://nvidia.github.io/cuda-python (module `cuda.bindings.runtime`).
"""

import contextlib
import ctypes
import importlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError, EngineError

DRIVER = "libcuda.so.1"
"""Library of the driver, which every CUDA device needs."""

_DEVICE = 0
_KERNEL_MODULE = Path("/sys/module/nvidia/version")
_MISSING = "expected pycuda or cuda-python to be installed: pip install cuda-python"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A CUDA device.

    Attributes:
        name: as the driver names it, such as `Orin`.
        compute_capability: such as `8.7`.
        driver: CUDA version of the driver, and its own version where the kernel tells: `12.6 (540.4.0)`.
        total_bytes: its memory; on a Jetson it is the machine's.
    """

    name: str
    compute_capability: str
    driver: str
    total_bytes: int


class DeviceMemory(Protocol):
    """The memory of one device, its streams and its graphs.

    Every method raises EngineError where CUDA fails. All but `current` and `device` run inside of `current`.

    Attributes:
        library: name and version of what speaks to the driver.
        graphs: whether a stream's work can be captured.
    """

    library: str
    graphs: bool

    def device(self) -> DeviceInfo:
        """Describe the device."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Make the device that of this thread, until the end."""
        ...

    def free_bytes(self) -> int:
        """Return the free memory."""
        ...

    def allocate(self, size: int) -> int:
        """Return the address of new memory, bytes."""
        ...

    def release(self, address: int) -> None:
        """Free memory of `allocate`."""
        ...

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Return page-locked host memory, bytes."""
        ...

    def release_pinned(self, array: NDArray[np.uint8]) -> None:
        """Free memory of `pinned`."""
        ...

    def open_stream(self) -> int:
        """Return the handle of a new stream."""
        ...

    def close_stream(self, stream: int) -> None:
        """Close a stream."""
        ...

    def copy_in(self, address: int, array: NDArray[np.uint8], stream: int) -> None:
        """Enqueue a copy of pinned bytes to the device."""
        ...

    def copy_out(self, array: NDArray[np.uint8], address: int, stream: int) -> None:
        """Enqueue a copy from the device to pinned bytes."""
        ...

    def wait(self, stream: int) -> None:
        """Wait until a stream's work is done."""
        ...

    def begin_capture(self, stream: int) -> None:
        """Record the stream's work from now on instead of doing it."""
        ...

    def end_capture(self, stream: int) -> object:
        """Return what was recorded as a graph that can be launched."""
        ...

    def launch(self, graph: object, stream: int) -> None:
        """Enqueue a graph."""
        ...

    def release_graph(self, graph: object) -> None:
        """Free a graph."""
        ...


def has_driver() -> bool:
    """Return whether the driver of a CUDA device is installed, at no cost where it is not: the libraries take 12 MiB of memory."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def open_device_memory() -> DeviceMemory:
    """Open the first CUDA device through pycuda, or else through cuda-python.

    Raises:
        ConfigError: neither library is installed, or none can be loaded: what to install.
        EngineError: there is no device, it is busy, or its driver is not ready.
    """
    reasons = []
    for module, kind in (("pycuda.driver", PycudaMemory), ("cuda.bindings.runtime", CudaPythonMemory)):
        try:
            library = importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: the library of the driver cannot be found
            if not isinstance(error, ModuleNotFoundError):
                reasons.append(f"{module.partition('.')[0]} cannot be loaded: {' '.join(str(error).split())}")
            continue
        opened: DeviceMemory = kind(library)
        return opened
    raise ConfigError(f"no library can reach the memory of a CUDA device ({'; '.join(reasons) or 'none is installed'}); {_MISSING}")


class CudaPythonMemory:
    """Device memory through `cuda.bindings.runtime`, whose functions return (error, result, …)."""

    graphs = True

    def __init__(self, runtime: Any) -> None:
        """Take the first device; errors as of `open_device_memory`."""
        self._runtime = runtime
        self.library = f"cuda-python {_version_of('cuda-bindings')}"
        count = self._call("cudaGetDeviceCount")
        if not count:
            raise EngineError("CUDA finds no device; expected a GPU and its driver")
        self._call("cudaSetDevice", _DEVICE)

    def device(self) -> DeviceInfo:
        """Describe the device."""
        properties = self._call("cudaGetDeviceProperties", _DEVICE)
        driver = int(self._call("cudaDriverGetVersion"))
        name = properties.name.decode(errors="replace") if isinstance(properties.name, bytes) else str(properties.name)
        return DeviceInfo(name.rstrip("\0"), f"{properties.major}.{properties.minor}", _driver_text(driver), int(properties.totalGlobalMem))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device that of this thread, until the end."""
        self._call("cudaSetDevice", _DEVICE)
        yield

    def free_bytes(self) -> int:
        """Return the free memory."""
        free, _ = self._call("cudaMemGetInfo")
        return int(free)

    def allocate(self, size: int) -> int:
        """Return the address of new memory, bytes."""
        return int(self._call("cudaMalloc", size))

    def release(self, address: int) -> None:
        """Free memory of `allocate`."""
        self._call("cudaFree", address)

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Return page-locked host memory, bytes."""
        address = int(self._call("cudaHostAlloc", size, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def release_pinned(self, array: NDArray[np.uint8]) -> None:
        """Free memory of `pinned`."""
        self._call("cudaFreeHost", array.ctypes.data)

    def open_stream(self) -> int:
        """Return the handle of a new stream."""
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def close_stream(self, stream: int) -> None:
        """Close a stream."""
        self._call("cudaStreamDestroy", stream)

    def copy_in(self, address: int, array: NDArray[np.uint8], stream: int) -> None:
        """Enqueue a copy of pinned bytes to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def copy_out(self, array: NDArray[np.uint8], address: int, stream: int) -> None:
        """Enqueue a copy from the device to pinned bytes."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def wait(self, stream: int) -> None:
        """Wait until a stream's work is done."""
        self._call("cudaStreamSynchronize", stream)

    def begin_capture(self, stream: int) -> None:
        """Record the stream's work from now on instead of doing it."""
        self._call("cudaStreamBeginCapture", stream, self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)

    def end_capture(self, stream: int) -> object:
        """Return what was recorded as a graph that can be launched."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: object, stream: int) -> None:
        """Enqueue a graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def release_graph(self, graph: object) -> None:
        """Free a graph."""
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, function: str, *arguments: object) -> Any:
        """Call a function; return its result without the error, or several as a tuple."""
        try:
            code, *results = getattr(self._runtime, function)(*arguments)
        except (RuntimeError, OSError) as error:  # the driver's library is not there
            raise EngineError(f"the CUDA driver cannot be reached: {' '.join(str(error).split())}") from error
        if int(code):
            with contextlib.suppress(Exception):
                self._runtime.cudaGetLastError()  # an error that is not sticky must not fail the next call too
            _, text = self._runtime.cudaGetErrorString(code)
            words = text.decode() if isinstance(text, bytes) else str(text)
            raise EngineError(f"CUDA failed in {function}: {words} (error {int(code)}){_hint(int(code))}")
        return results[0] if len(results) == 1 else tuple(results)


class PycudaMemory:
    """Device memory through `pycuda.driver`, in the context that TensorRT uses too."""

    graphs = False

    def __init__(self, driver: Any) -> None:
        """Take the first device; errors as of `open_device_memory`."""
        self._driver = driver
        self.library = f"pycuda {_version_of('pycuda')}"
        self._streams: dict[int, Any] = {}
        self._allocations: dict[int, Any] = {}
        with self._errors("init"):
            driver.init()
            if not driver.Device.count():
                raise EngineError("CUDA finds no device; expected a GPU and its driver")
            self._device = driver.Device(_DEVICE)
            self._context = self._device.retain_primary_context()

    def device(self) -> DeviceInfo:
        """Describe the device."""
        with self._errors("Device"):
            major, minor = self._device.compute_capability()
            driver = _driver_text(int(self._driver.get_driver_version()))
            return DeviceInfo(str(self._device.name()), f"{major}.{minor}", driver, int(self._device.total_memory()))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device that of this thread, until the end."""
        with self._errors("Context.push"):
            self._context.push()
        try:
            yield
        finally:
            with self._errors("Context.pop"):
                self._driver.Context.pop()

    def free_bytes(self) -> int:
        """Return the free memory."""
        with self._errors("mem_get_info"):
            free, _ = self._driver.mem_get_info()
        return int(free)

    def allocate(self, size: int) -> int:
        """Return the address of new memory, bytes."""
        with self._errors("mem_alloc"):
            allocation = self._driver.mem_alloc(size)
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def release(self, address: int) -> None:
        """Free memory of `allocate`."""
        with self._errors("DeviceAllocation.free"):
            self._allocations.pop(address).free()

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Return page-locked host memory, bytes."""
        with self._errors("pagelocked_empty"):
            array: NDArray[np.uint8] = self._driver.pagelocked_empty(size, np.uint8)
        return array

    def release_pinned(self, array: NDArray[np.uint8]) -> None:
        """Free memory of `pinned`: pycuda does that with the array's last reference."""

    def open_stream(self) -> int:
        """Return the handle of a new stream."""
        with self._errors("Stream"):
            stream = self._driver.Stream()
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def close_stream(self, stream: int) -> None:
        """Close a stream: pycuda does that with its last reference."""
        self._streams.pop(stream)

    def copy_in(self, address: int, array: NDArray[np.uint8], stream: int) -> None:
        """Enqueue a copy of pinned bytes to the device."""
        with self._errors("memcpy_htod_async"):
            self._driver.memcpy_htod_async(address, array, self._streams[stream])

    def copy_out(self, array: NDArray[np.uint8], address: int, stream: int) -> None:
        """Enqueue a copy from the device to pinned bytes."""
        with self._errors("memcpy_dtoh_async"):
            self._driver.memcpy_dtoh_async(array, address, self._streams[stream])

    def wait(self, stream: int) -> None:
        """Wait until a stream's work is done."""
        with self._errors("Stream.synchronize"):
            self._streams[stream].synchronize()

    def begin_capture(self, stream: int) -> None:
        """Raise EngineError: pycuda has no graphs."""
        raise EngineError("pycuda captures no graphs")

    def end_capture(self, stream: int) -> object:
        """Raise EngineError: pycuda has no graphs."""
        raise EngineError("pycuda captures no graphs")

    def launch(self, graph: object, stream: int) -> None:
        """Raise EngineError: pycuda has no graphs."""
        raise EngineError("pycuda captures no graphs")

    def release_graph(self, graph: object) -> None:
        """Do nothing: there are no graphs."""

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn pycuda's exceptions into EngineError; all are subclasses of `Error`."""
        try:
            yield
        except self._driver.Error as error:
            text = " ".join(str(error).split())
            raise EngineError(f"CUDA failed in {what}: {text}{_hint_of_text(text)}") from error


# cudaError_t (CUDA Runtime API, "Data types used by CUDA Runtime")
_NO_DEVICE, _OLD_DRIVER, _NO_MEMORY, _BUSY = 100, 35, 2, 46
_HINTS = {
    _NO_DEVICE: "; expected a GPU that this process may use (device files, group video)",
    _OLD_DRIVER: "; expected a driver that is as new as the library",
    _BUSY: "; another program uses the device alone",
}
_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory|insufficient memory|error 2\)|CUDA_ERROR_OUT_OF_MEMORY|bad_alloc", re.IGNORECASE)


def lacks_device_memory(text: str) -> bool:
    """Return whether an error's text means that memory is short."""
    return _OUT_OF_MEMORY.search(text) is not None


def _hint(error: int) -> str:
    return _HINTS.get(error, "")


def _hint_of_text(text: str) -> str:
    return _HINTS[_NO_DEVICE] if "no CUDA-capable device" in text else ""


def _driver_text(version: int) -> str:
    """Return `12.6 (540.4.0)` for 12060, with the version of the kernel's module; a driver that is not there has version 0."""
    cuda = f"{version // 1000}.{version % 1000 // 10}" if version else "none"
    try:
        return f"{cuda} ({_KERNEL_MODULE.read_text().strip()})"
    except OSError:
        return cuda


def _version_of(distribution: str) -> str:
    from importlib import metadata  # which takes 20 ms, and most machines have no device

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(version unknown)"
