"""Inference backends: their protocols, and the choice of one."""

import logging
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.config.addresses import is_remote
from edgepose.engine.networks import LoadedNetwork, PoseNetwork, RefinerNetwork
from edgepose.errors import EngineError, UnavailableError
from edgepose.model.file import ModelFile, Task
from edgepose.model.shipped import named_model
from edgepose.person import Candidates

if TYPE_CHECKING:
    from edgepose.engine.tensorrt.build import BuildProgress

_log = logging.getLogger(__name__)

_LOGGED_PERCENT = 10


class Network(Protocol):
    """A network that is loaded on one device; used by one thread at a time.

    Attributes:
        name: library and kind of device, such as `onnxruntime-cpu`.
        device: the device in words, such as `cpu, 2 threads`.
        precision: `float32`, `float16` or `int8`.
        reason: why this backend was chosen, in one sentence for the log.
    """

    @property
    def name(self) -> str:
        """Library and kind of device."""
        ...

    @property
    def device(self) -> str:
        """The device in words."""
        ...

    @property
    def precision(self) -> str:
        """Precision of the weights."""
        ...

    @property
    def reason(self) -> str:
        """The reason why this backend was chosen."""
        ...

    def close(self) -> None:
        """Free the device; the network cannot run afterwards."""
        ...


_AnyNetwork = TypeVar("_AnyNetwork", bound=Network)


class Backend(Network, Protocol):
    """A pose network, which detects people in images."""

    def run(self, images: NDArray[np.uint8]) -> Candidates:
        """Return candidates for letterboxed images, uint8 (N, H, W, 3) RGB; EngineError where inference fails."""
        ...


class RefinerBackend(Network, Protocol):
    """A refiner, which computes the keypoints of one person per crop."""

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return keypoints float32 (M, 17, 3), x y in crop pixels and confidence, for crops uint8 (M, H, W, 3) RGB.

        Raises:
            EngineError: inference fails.
        """
        ...


def pose_model(settings: schema.ModelConfig) -> ModelFile:
    """Return the file of the configured pose network, of the precision for its backend, or the description of one on a server.

    Raises:
        ModelError: says what is wrong.
        EngineError: a server that must be asked does not answer.
    """
    if is_remote(settings.path):
        return _remote_model(settings.path, "pose", settings)
    return named_model(settings.path, "pose", backend=settings.backend, precision=settings.precision)


def refiner_model(path: str, settings: schema.ModelConfig) -> ModelFile:
    """Return the file of a refiner, a name, a path or a URL, of the precision for its backend; errors as in `pose_model`."""
    if is_remote(path):
        return _remote_model(path, "refine", settings)
    return named_model(path, "refine", backend=_on_this_machine(settings).backend, precision=settings.precision)


def open_backend(model: ModelFile, settings: schema.ModelConfig, *, build: bool = True) -> Backend:
    """Load a pose network on the configured device; nothing falls back silently.

    `tensorrt` opens the engine of the cache. `auto` is ONNX Runtime here: `edgepose.engine.selection` chooses between that and TensorRT.

    Args:
        build: whether an engine of TensorRT that is missing is built first, which takes minutes; otherwise that is an EngineError.

    Raises:
        ModelError: the file is not a pose network, or `input_size` does not fit it.
        ConfigError: a library is not installed, or cannot be loaded.
        EngineError: the configured device is not available.
    """
    model.expect("pose").info.long_side(settings.input_size)
    network = _open(model, settings, build=build)
    assert isinstance(network, PoseNetwork)
    return network


def open_refiner_backend(model: ModelFile, settings: schema.ModelConfig, *, build: bool = True) -> RefinerBackend:
    """Load a refiner on the configured device; `path` and `input_size` belong to the pose network and are ignored.

    Args:
        build: as in `open_backend`.

    Raises:
        ModelError: the file is not a refiner.
        ConfigError, EngineError: as of `open_backend`.
    """
    network = _open(model.expect("refine"), settings, build=build)
    assert isinstance(network, RefinerNetwork)
    return network


def reopen(open_network: Callable[[schema.ModelConfig], _AnyNetwork], settings: schema.ModelConfig) -> _AnyNetwork:
    """Open a network again that has failed while it ran: on its device, or else on the CPU, which its `reason` says and `fallback` tells.

    Args:
        open_network: opens it with other settings.
        settings: of the network that has failed.

    Raises:
        EdgeposeError: the CPU does not run it either.
    """
    try:
        return open_network(settings)
    except EngineError as error:
        if settings.backend == "cpu":
            raise
        _log.error("the device is lost, the CPU takes over: %s", error)
        network = open_network(msgspec.structs.replace(settings, backend="cpu"))
        loaded = cast(LoadedNetwork, network)  # all that this package opens are
        loaded.reason = f"the device was lost: {error}"
        loaded.fallback = True
        return network


def refuse_broken(model: ModelFile, settings: schema.ModelConfig) -> None:
    """Load a pose network or a refiner on the CPU and run it once, where an inference library is installed and the network is a file.

    Raises:
        ModelError: the file is at fault, whatever the device: a version that the library does not read, or broken outputs.
    """
    if model.server is not None:
        return
    on_cpu = msgspec.structs.replace(settings, backend="cpu")
    try:
        network = open_backend(model, on_cpu) if model.info.task == "pose" else open_refiner_backend(model, on_cpu)
    except EngineError:
        return  # the library or the memory, about which the file says nothing
    network.close()


def warm_up(backend: Backend, height: int, width: int, runs: int = 2) -> None:
    """Run gray images of a size in pixels, so that the first frame does not wait for lazy allocation."""
    image = np.full((1, height, width, 3), 114, np.uint8)
    for _ in range(runs):
        backend.run(image)


def _remote_model(url: str, task: Task, settings: schema.ModelConfig) -> ModelFile:
    model: ModelFile = _triton().remote_model(url, task, settings)
    return model


def _triton() -> ModuleType:
    """Return the module of remote models; UnavailableError where its library is not installed."""
    try:
        from edgepose.engine import triton
    except ImportError as error:
        raise UnavailableError(
            f"a model on a server needs a library that cannot be loaded ({error}); expected the extra triton: in a checkout of edgepose,"
            " pip install '.[triton]'"
        ) from error
    return triton


def _on_this_machine(settings: schema.ModelConfig) -> schema.ModelConfig:
    """Return the settings for a network that runs here, although another one may run on a server."""
    return msgspec.structs.replace(settings, backend="auto") if settings.backend == "triton" else settings


def _open(model: ModelFile, settings: schema.ModelConfig, *, build: bool) -> LoadedNetwork:
    """Load a network, which its task makes a pose network or a refiner: on its server, in TensorRT, or in ONNX Runtime."""
    if model.server is not None:
        remote: LoadedNetwork = _triton().open_remote(model, settings)
        return remote
    if settings.backend == "tensorrt":
        return _open_tensorrt(model, settings, build=build)
    try:
        from edgepose.engine.onnxruntime import open_onnxruntime
    except ImportError as error:
        raise _no_library(error) from error
    return open_onnxruntime(model, _on_this_machine(settings))


def _open_tensorrt(model: ModelFile, settings: schema.ModelConfig, *, build: bool) -> LoadedNetwork:
    from edgepose.engine.tensorrt.building import EngineBuilder
    from edgepose.engine.tensorrt.networks import open_tensorrt

    def build_first(missing: ModelFile) -> None:
        EngineBuilder([missing], settings).run(log_progress(missing.path.name))

    reason = f"its engine was built and checked on this device ({settings.backend})"
    return open_tensorrt(model, settings, reason, build_first if build else None)


def log_progress(name: str) -> Callable[["BuildProgress"], None]:
    """Return what logs each tenth of a build."""
    logged = -float(_LOGGED_PERCENT)

    def log(progress: "BuildProgress") -> None:
        nonlocal logged
        if progress.percent >= logged + _LOGGED_PERCENT:
            logged = progress.percent
            _log.info("building the engine of %s: %.0f %%, %s", name, progress.percent, progress.phase)

    return log


def _no_library(error: ImportError) -> EngineError:
    return EngineError(
        f"no inference library can be loaded ({error}); expected one of the extras cpu, gpu and tensorrt: in a checkout of edgepose,"
        " pip install '.[cpu]'"
    )
