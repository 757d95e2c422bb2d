"""What an inference backend is, and which one is taken."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.errors import EngineError
from edgepose.model.file import ModelFile
from edgepose.person import Candidates


class Network(Protocol):
    """A network that is loaded and ready on one device; used by one thread at a time.

    Attributes:
        name: library and device kind, such as `onnxruntime-cpu`.
        device: the device in words, such as `cpu, 2 threads`.
        precision: `float32` or `int8`.
        reason: why this backend was taken, one sentence for the log.
    """

    @property
    def name(self) -> str:
        """Library and device kind."""
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
        """Why this backend was taken."""
        ...

    def close(self) -> None:
        """Free the device; nothing can be run afterwards."""
        ...


class Backend(Network, Protocol):
    """A network that finds people in pictures."""

    def run(self, images: NDArray[np.uint8]) -> Candidates:
        """Find candidates in letterboxed pictures, uint8 (N, H, W, 3) RGB; EngineError where it cannot."""
        ...


class RefinerBackend(Network, Protocol):
    """A network that looks again at one person a crop."""

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (M, 17, 3), x y in crop pixels and confidence, for crops uint8 (M, S, S, 3) RGB; EngineError where it cannot."""
        ...


def open_backend(model: ModelFile, settings: schema.ModelConfig) -> Backend:
    """Load a pose network on the device that the configuration asks for.

    ModelError where the file cannot be run as a pose network or `input_size` does not suit it, EngineError where a device
    was asked for that is not there: nothing falls back silently.
    """
    model.expect("pose").info.long_side(settings.input_size)
    try:
        from edgepose.engine.onnxruntime import open_onnxruntime
    except ImportError as error:
        raise _no_library(error) from error
    return open_onnxruntime(model, settings)


def open_refiner_backend(model: ModelFile, settings: schema.ModelConfig) -> RefinerBackend:
    """Load a refiner on the device that the configuration asks for; `path` and `input_size` are the first network's and not looked at.

    ModelError where the file cannot be run as a refiner, EngineError where a device was asked for that is not there.
    """
    model.expect("refine")
    try:
        from edgepose.engine.onnxruntime import open_onnxruntime_refiner_backend
    except ImportError as error:
        raise _no_library(error) from error
    return open_onnxruntime_refiner_backend(model, settings)


def warm_up(backend: Backend, height: int, width: int, runs: int = 2) -> None:
    """Run grey pictures of the given size (pixels), so that the first real frame does not pay for lazy allocation."""
    image = np.full((1, height, width, 3), 114, np.uint8)
    for _ in range(runs):
        backend.run(image)


def _no_library(error: ImportError) -> EngineError:
    return EngineError(f"no inference library can be loaded ({error}): install edgepose[cpu], edgepose[gpu] or edgepose[tensorrt]")
