import sys
from pathlib import Path

import numpy as np
import pytest

from edgepose.engine.device_memory import CudaPythonMemory, DeviceMemory, PycudaMemory, lacks_device_memory, open_device_memory
from edgepose.errors import ConfigError, EngineError
from testing.cuda_stand_in import cuda_runtime, pycuda_driver
from testing.tensorrt_stand_in import World, install


def both(world: World) -> list[DeviceMemory]:
    return [CudaPythonMemory(cuda_runtime(world)), PycudaMemory(pycuda_driver(world))]


@pytest.mark.parametrize("which", [0, 1], ids=["cuda-python", "pycuda"])
def test_bytes_go_to_the_device_and_come_back(which: int) -> None:
    world = World()
    memory = both(world)[which]
    with memory.current():
        assert memory.free_bytes() == 2 << 30
        stream, address = memory.open_stream(), memory.allocate(64)
        there, back = memory.pinned(64), memory.pinned(64)
        there[...] = np.arange(64)
        memory.copy_in(address, there, stream)
        memory.copy_out(back, address, stream)
        memory.wait(stream)
        np.testing.assert_array_equal(back, np.arange(64))
        for array in (there, back):
            memory.release_pinned(array)
        memory.release(address)
        memory.close_stream(stream)
    assert (world.allocated, world.pinned, world.streams) == ({}, {}, set())


def test_a_device_describes_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("edgepose.engine.device_memory._KERNEL_MODULE", tmp_path / "version")
    infos = [memory.device() for memory in both(World())]
    assert infos[0] == infos[1]
    assert (infos[0].name, infos[0].compute_capability, infos[0].driver) == ("Stand-in", "8.7", "12.6")
    (tmp_path / "version").write_text("540.4.0\n")
    assert both(World())[0].device().driver == "12.6 (540.4.0)"


def test_work_is_captured_and_launched_again_and_again() -> None:
    world = World()
    memory = CudaPythonMemory(cuda_runtime(world))
    stream, address = memory.open_stream(), memory.allocate(4)
    source, target = memory.pinned(4), memory.pinned(4)
    memory.begin_capture(stream)
    memory.copy_in(address, source, stream)
    memory.copy_out(target, address, stream)
    graph = memory.end_capture(stream)
    for number in (3, 9):
        source[...] = number
        memory.launch(graph, stream)
        memory.wait(stream)
        assert target.tolist() == [number] * 4
    memory.release_graph(graph)
    assert world.graphs == set()


def test_pycuda_has_no_graphs() -> None:
    memory = PycudaMemory(pycuda_driver(World()))
    assert not memory.graphs
    for call in (lambda: memory.begin_capture(1), lambda: memory.end_capture(1), lambda: memory.launch(object(), 1)):
        with pytest.raises(EngineError, match="pycuda captures no graphs"):
            call()
    memory.release_graph(object())


def test_pycuda_is_preferred_and_cuda_python_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    install(world, monkeypatch, memory="cuda-python")
    assert isinstance(open_device_memory(), CudaPythonMemory)
    monkeypatch.setitem(sys.modules, "pycuda.driver", pycuda_driver(world))
    assert isinstance(open_device_memory(), PycudaMemory)


def test_without_a_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(World(), monkeypatch, memory="")
    with pytest.raises(ConfigError, match=r"no library can reach .*; expected pycuda or cuda-python to be installed: pip install"):
        open_device_memory()
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").write_text("")
    (tmp_path / "pycuda" / "driver.py").write_text("raise ImportError('libcurand.so.10: cannot open shared object file')")
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"pycuda cannot be loaded: libcurand.so.10"):
        open_device_memory()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("cudaGetDeviceCount", r"CUDA failed in cudaGetDeviceCount: cudaErrorIllegalAddress \(error 700\)"),
        ("cudaSetDevice", "another program uses the device alone"),
    ],
)
def test_a_device_that_is_not_ready_is_an_error(function: str, message: str) -> None:
    world = World()
    world.fail[function] = -1
    with pytest.raises(EngineError, match=message):
        CudaPythonMemory(cuda_runtime(world))


def test_no_device_is_an_error() -> None:
    world = World(devices=0)
    for open_memory in (lambda: CudaPythonMemory(cuda_runtime(world)), lambda: PycudaMemory(pycuda_driver(world))):
        with pytest.raises(EngineError, match="CUDA finds no device; expected a GPU and its driver"):
            open_memory()
    world = World()
    world.fail["init"] = -1
    with pytest.raises(EngineError, match=r"no CUDA-capable device is detected; expected a GPU that this process may use"):
        PycudaMemory(pycuda_driver(world))


def test_a_driver_without_its_library_is_an_error() -> None:
    runtime = cuda_runtime(World())

    def no_library() -> None:
        raise RuntimeError("libcuda.so.1 is not found")

    vars(runtime)["cudaGetDeviceCount"] = no_library
    with pytest.raises(EngineError, match=r"the CUDA driver cannot be reached: libcuda.so.1 is not found"):
        CudaPythonMemory(runtime)


def test_cuda_python_itself_says_that_there_is_no_device() -> None:
    """The real library, on a machine without a GPU."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="the wheel cuda-python is not installed")
    if int(runtime.cudaGetDeviceCount()[0]) == 0:
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError, match=r"CUDA failed in cudaGetDeviceCount: CUDA driver version is insufficient .*; expected a driver"):
        CudaPythonMemory(runtime)


def test_texts_about_memory_are_known() -> None:
    assert lacks_device_memory("Error Code 2: OutOfMemory (Requested size was 1 bytes.)")
    assert not lacks_device_memory("Error Code 9: Skipping tactic")
