"""Inference with ONNX Runtime on the CPU or CUDA."""

import ctypes
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.engine.native_errors import NATIVE_ERRORS, error_when_loading, lacks_memory, reason
from edgepose.engine.networks import LoadedNetwork, PoseNetwork, RefinerNetwork
from edgepose.errors import ConfigError, EdgeposeError, EngineError, ModelError
from edgepose.model.file import ModelFile

_log = logging.getLogger(__name__)

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_MAXIMUM_DEFAULT_THREADS = 4  # with more threads a network of this size waits more than it computes, and capture needs cores too
_LOG_NOTHING = 4  # but fatal errors: every error of a session is an exception, whose text we report
_GRAY = 114
_TIMED_RUNS = 3


class _OnnxRuntimeSession(LoadedNetwork):
    """A network in one ONNX Runtime session."""

    def __init__(self, model: ModelFile, session: Any, *, name: str, device: str, reason: str) -> None:
        super().__init__(model, name=name, device=device, reason=reason)
        self._session: Any = session
        image = session.get_inputs()[0]
        self._input_name: str = image.name
        self._input_type = np.float16 if image.type == "tensor(float16)" else np.float32

    def close(self) -> None:
        """Free the session; idempotent."""
        self._session = None

    def _compute(self, outputs: Sequence[str], tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        if self._session is None:
            raise EngineError(f"the backend {self.name} is closed")
        try:
            computed: list[NDArray[np.float32]] = self._session.run(list(outputs), {self._input_name: tensor})
        except NATIVE_ERRORS as error:
            raise EngineError(f"{self.name} failed on images {tensor.shape}: {reason(error)}") from error
        return computed


class OnnxRuntimeBackend(_OnnxRuntimeSession, PoseNetwork):
    """A pose network in one ONNX Runtime session."""


class OnnxRuntimeRefinerBackend(_OnnxRuntimeSession, RefinerNetwork):
    """A refiner in one ONNX Runtime session."""


_AnyOnnxNetwork = OnnxRuntimeBackend | OnnxRuntimeRefinerBackend


def open_onnxruntime(model: ModelFile, settings: schema.ModelConfig, *, exact: bool = False) -> _AnyOnnxNetwork:
    """Load a pose network or a refiner with ONNX Runtime on the configured device; errors as in `edgepose.engine.backend.open_backend`.

    `auto` uses the faster of CUDA and the CPU, timed on this model where both work.

    Args:
        exact: whether everything is computed in the types of the file, as a reference is. Otherwise ONNX Runtime makes float weights
            between a DequantizeLinear and a QuantizeLinear INT8 by itself, with one scale for all channels.
    """
    kind_of_network = OnnxRuntimeBackend if model.info.task == "pose" else OnnxRuntimeRefinerBackend
    side_px = model.info.long_side(settings.input_size) if model.info.task == "pose" else model.info.input_size

    def opened(kind: str, reason: str) -> _AnyOnnxNetwork:
        session, device = _open_session(model, settings, kind, exact=exact)
        network = kind_of_network(model, session, name=f"onnxruntime-{kind}", device=device, reason=reason)
        _try_out(network, model, side_px)
        return network

    if settings.backend != "auto":
        try:
            return opened(settings.backend, f"the configuration selects {settings.backend}")
        except EngineError:
            if settings.backend != "cpu":  # if the file fails on the CPU too, it is at fault and not the device
                opened("cpu", "a comparison").close()
            raise
    if _PROVIDERS["cuda"] not in onnxruntime.get_available_providers():  # the usual case on a small machine, and no fault
        _log.debug("this onnxruntime has no cuda; cuda needs %s", _extra("cuda"))
        return opened("cpu", "this onnxruntime has no cuda")
    timed: list[tuple[float, _AnyOnnxNetwork]] = []
    refusals: list[str] = []
    for kind in ("cuda", "cpu"):
        try:
            network = opened(kind, "the only backend that works here")
            alone = kind == "cpu" and not timed  # nothing to compare, so no time and memory for a measurement
            timed.append((0.0 if alone else _time_ms(network, model, side_px), network))
        except (EngineError, ConfigError) as error:
            if kind == "cpu" and not timed:
                raise
            refusals.append(str(error))
    timed.sort(key=lambda entry: entry[0])
    best = timed[0][1]
    if len(timed) > 1:
        best.reason = f"the fastest backend here: {', '.join(f'{network.name} {time_ms:.1f} ms' for time_ms, network in timed)}"
    elif refusals:
        best.fallback = best.name.endswith("-cpu")
        best.reason += f": {'; '.join(refusals)}"
    for _, network in timed[1:]:
        network.close()
    return best


def _try_out(network: _AnyOnnxNetwork, model: ModelFile, side_px: int) -> None:
    """Run one gray image, so that a file that cannot work is refused here and not at every frame.

    Its short side is an odd multiple of the stride: a network of another stride than its file says does not take it.

    Raises:
        ModelError: the network does not run on the CPU, or returns broken outputs: that is a fault of the file.
        EngineError: the same on a device, which may be at fault too, or memory is short.
    """
    stride = model.info.stride
    short_px = max(1, (side_px * 9 // 16 // stride - 1) // 2 * 2 + 1) * stride
    image = np.full((1, model.info.input_height or short_px, model.info.input_width or side_px, 3), _GRAY, np.uint8)
    try:
        network.run(image)
    except EngineError as error:
        network.close()
        if not network.name.endswith("-cpu") or (error.__cause__ is not None and lacks_memory(error.__cause__)):
            raise
        raise ModelError(f"{model.path} does not work: {error}") from error


def _time_ms(network: _AnyOnnxNetwork, model: ModelFile, side_px: int) -> float:
    """Return milliseconds per image for a square input; EngineError where the network loads but does not run."""
    image = np.full((1, model.info.input_height or side_px, model.info.input_width or side_px, 3), _GRAY, np.uint8)
    network.run(image)  # allocation and kernel selection must not count
    started_s = time.perf_counter()
    for _ in range(_TIMED_RUNS):
        network.run(image)
    return (time.perf_counter() - started_s) / _TIMED_RUNS * 1e3


def _open_session(model: ModelFile, settings: schema.ModelConfig, kind: str, *, exact: bool) -> tuple[Any, str]:
    """Return a session on one kind of device, and that device in words."""
    provider = _PROVIDERS[kind]
    compiled_in = onnxruntime.get_available_providers()
    if provider not in compiled_in:
        available = ", ".join(name for name, known in _PROVIDERS.items() if known in compiled_in)
        raise ConfigError(f"this onnxruntime has no {kind}, only {available}; expected {_extra(kind)}")
    threads = settings.threads or default_threads()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_NOTHING
    # Threads that spin between frames use a third of a core at 10 frames per second and gain nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # The CPU runs what CUDA cannot, such as shape operations: single operations, not the network.
    providers = [provider] if kind == "cpu" else [provider, _PROVIDERS["cpu"]]
    more = {"disabled_optimizers": ["WeightBiasQuantization"]} if exact else {}
    try:
        session = onnxruntime.InferenceSession(model.data, options, providers=providers, enable_fallback=0, **more)
    except NATIVE_ERRORS as error:
        raise error_when_loading(error, f"{model.path} cannot be loaded on {kind}", cpu=kind == "cpu") from error
    if provider not in session.get_providers():  # ONNX Runtime silently drops a provider that does not start
        raise _why_not_started(kind)
    return session, f"cpu, {threads} thread{'s' if threads > 1 else ''}" if kind == "cpu" else f"{kind}:0"


def _why_not_started(kind: str) -> EdgeposeError:
    """Return the error for a provider that ONNX Runtime dropped: its libraries cannot be loaded, or the device is at fault."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)  # which the other one needs
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{kind}.so"))
    except OSError as error:
        return ConfigError(
            f"{kind} does not start on this machine: {error}; expected the libraries of CUDA and cuDNN that onnxruntime"
            f" {onnxruntime.__version__} is built for, such as by pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    return EngineError(f"{kind} does not start on this machine: no device, or its driver is not ready; expected a GPU and its driver")


def default_threads() -> int:
    """Return one thread per physical core that this process may use, at most four: hardware threads of a core share its vector units."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for number in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(str(number))
    return min(len(cores), _MAXIMUM_DEFAULT_THREADS)


def _extra(kind: str) -> str:
    """Return what to install for a kind of device, in words."""
    extra = {"cpu": "cpu", "cuda": "gpu"}[kind]
    return f"the extra {extra} (in a checkout of edgepose, pip install '.[{extra}]') in place of the package onnxruntime"
