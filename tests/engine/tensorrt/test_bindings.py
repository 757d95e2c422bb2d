"""Nothing of the stand-in is invented: what our code uses of the bindings exists in the real ones, with these names of arguments."""

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from testing.cuda_stand_in import cuda_runtime, pycuda_driver
from testing.tensorrt_stand_in import World, tensorrt

ROOM = Path(__file__).resolve().parents[3] / "edgepose" / "engine"

# By class of the bindings: what `build.py` and `runner.py` use of it.
BUILD = {
    "": ("ILogger", "IProgressMonitor", "Builder", "OnnxParser", "Runtime", "nptype", "__version__"),
    "Builder": ("build_serialized_network", "create_builder_config", "create_network", "create_optimization_profile", "num_DLA_cores"),
    "INetworkDefinition": ("get_input", "get_layer", "num_layers"),
    "ILayer": ("name", "type"),
    "ITensor": ("name", "shape"),
    "OnnxParser": ("get_error", "num_errors", "parse"),
    "ParserError": ("desc", "node_name", "node_operator"),
    "IOptimizationProfile": ("set_shape",),
    "IBuilderConfig": (
        *("DLA_core", "add_optimization_profile", "can_run_on_DLA", "create_timing_cache", "default_device_type", "get_timing_cache"),
        *("profiling_verbosity", "progress_monitor", "set_flag", "set_memory_pool_limit", "set_timing_cache"),
    ),
    "ITimingCache": ("serialize",),
    "IProgressMonitor": ("phase_start", "step_complete", "phase_finish"),
    "ILogger": ("log",),
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "MemoryPoolType": ("WORKSPACE",),
    "ProfilingVerbosity": ("DETAILED",),
    "BuilderFlag": ("GPU_FALLBACK",),
    "DeviceType": ("DLA",),
    "LayerType": ("CONVOLUTION", "QUANTIZE", "DEQUANTIZE"),
}
RUN = {
    "": ("ILogger", "Runtime", "nptype", "__version__"),
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (
        *("create_execution_context", "get_tensor_dtype", "get_tensor_mode", "get_tensor_name", "get_tensor_profile_shape"),
        "num_io_tensors",
    ),
    "IExecutionContext": ("execute_async_v3", "get_tensor_shape", "set_input_shape", "set_tensor_address"),
    "TensorIOMode": ("INPUT",),
}
SIGNATURES = {  # as the docstrings of the bindings give them
    "Builder.build_serialized_network": ["network", "config"],
    "OnnxParser.parse": ["model", "path"],
    "IOptimizationProfile.set_shape": ["input", "min", "opt", "max"],
    "IBuilderConfig.set_memory_pool_limit": ["pool", "pool_size"],
    "IBuilderConfig.create_timing_cache": ["serialized_timing_cache"],
    "IBuilderConfig.set_timing_cache": ["cache", "ignore_mismatch"],
    "IProgressMonitor.phase_start": ["phase_name", "parent_phase", "num_steps"],
    "IProgressMonitor.step_complete": ["phase_name", "step"],
    "IProgressMonitor.phase_finish": ["phase_name"],
    "Runtime.deserialize_cuda_engine": ["serialized_engine"],
    "ICudaEngine.get_tensor_profile_shape": ["name", "profile_index"],
    "IExecutionContext.execute_async_v3": ["stream_handle"],
    "IExecutionContext.set_input_shape": ["name", "shape"],
    "IExecutionContext.set_tensor_address": ["name", "memory"],
}
CUDA_RESULTS = {  # number of results besides the error
    "cudaGetDeviceCount": 1,
    "cudaMalloc": 1,
    "cudaMemGetInfo": 2,
    "cudaDriverGetVersion": 1,
    "cudaStreamCreateWithFlags": 1,
}


def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="the wheel tensorrt-rtx is not installed")


def lean() -> Any:
    return pytest.importorskip("tensorrt_lean", reason="the wheel tensorrt-lean is not installed")


def lacking(module: Any, used: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{kind}.{name}"
        for kind, names in used.items()
        for name in names
        if not hasattr(module if not kind else getattr(module, kind, None), name)
    ]


def test_all_that_builds_exists_in_tensorrt_rtx() -> None:
    assert lacking(rtx(), {**BUILD, **RUN}) == []


def test_all_that_runs_exists_in_tensorrt_lean() -> None:
    assert lacking(lean(), RUN) == []


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_have_these_names(name: str) -> None:
    kind, _, method = name.partition(".")
    text = getattr(getattr(rtx(), kind), method).__doc__ or ""
    signature = re.search(rf"{method}\(self: [\w.]+, (.*?)\) ->", text)
    if signature is None:  # methods that a subclass replaces have prose only
        assert method in ("phase_start", "step_complete", "phase_finish") or text
        return
    found = re.findall(r"(?:^|, )(\w+):", signature[1])
    assert found[: len(SIGNATURES[name])] == SIGNATURES[name]


def used_attributes(module: str) -> set[str]:
    """Return the attributes of the names `trt` and `self._trt` that a module of ours uses."""
    found = set()
    for node in ast.walk(ast.parse((ROOM / module).read_text())):
        if isinstance(node, ast.Attribute) and (
            (isinstance(node.value, ast.Name) and node.value.id == "trt")
            or (isinstance(node.value, ast.Attribute) and node.value.attr in ("_trt", "module"))
        ):
            found.add(node.attr)
    return found


def test_the_lists_above_are_complete() -> None:
    listed = {*BUILD, *RUN, *BUILD[""], *RUN[""]}
    for module in ("tensorrt/build.py", "tensorrt/runner.py", "tensorrt/library.py"):
        assert used_attributes(module) <= listed, module


def test_the_stand_in_has_what_is_listed_and_no_more() -> None:
    module = tensorrt(World())
    assert lacking(module, {"": BUILD[""]}) == []
    public = {name for name in vars(module) if not name.startswith("_")}
    assert public <= {*BUILD, *RUN, *BUILD[""], *RUN[""]}


def stand_in_functions(module: ModuleType, prefix: str) -> set[str]:
    return {name for name in vars(module) if name.startswith(prefix)}


def test_the_functions_of_cuda_exist_in_cuda_python() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", reason="the wheel cuda-python is not installed")
    used = set(re.findall(r'"(cuda[A-Z]\w+)"', (ROOM / "device_memory.py").read_text()))
    assert used <= stand_in_functions(cuda_runtime(World()), "cuda")
    assert [name for name in stand_in_functions(cuda_runtime(World()), "cuda") if not hasattr(real, name)] == []
    for name, count in CUDA_RESULTS.items():  # without a driver the error is a value, followed by as many results
        arguments = [16] if name == "cudaMalloc" else [1] if "Flags" in name else []
        assert len(getattr(real, name)(*arguments)) == 1 + count
    assert hasattr(real.cudaMemcpyKind, "cudaMemcpyHostToDevice")
    assert hasattr(real.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")
    assert hasattr(real.cudaDeviceProp(), "totalGlobalMem")


def test_the_stand_in_of_pycuda_has_what_is_used() -> None:
    """pycuda does not build here: its names are those of https://documen.tician.de/pycuda/driver.html and its wrap_cudadrv.cpp."""
    module = pycuda_driver(World())
    used = set(re.findall(r"_?driver\.(\w+)", inspect.getsource(__import__("edgepose.engine.device_memory", fromlist=["x"]).PycudaMemory)))
    assert used <= set(vars(module)) | {"Device"}
