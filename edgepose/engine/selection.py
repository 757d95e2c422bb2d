"""Which backend is used, which one would be better, and why it is not used.

`model.backend: auto` is TensorRT where its library loads, there is a device, and the engines are built and checked; otherwise ONNX Runtime
on CUDA or the CPU. A backend that is named is used, or the error says what is missing. An engine that must be built first is not waited for
by a daemon: it begins with `Selection.now` and changes to `Selection.wanted`.
"""

from collections.abc import Sequence

import msgspec

from edgepose.config.addresses import is_remote
from edgepose.config.schema import Config, ModelConfig
from edgepose.errors import ConfigError, EngineError
from edgepose.model.file import ModelFile
from edgepose.model.shipped import named_model


class Selection(msgspec.Struct, frozen=True):
    """A choice of backends.

    Attributes:
        now: settings that can be opened at once; `auto` in them is the faster of CUDA and CPU of ONNX Runtime.
        wanted: settings of TensorRT, whose engines are not built yet; None where `now` is all there is.
        why: why TensorRT is not used, one clause; empty where it is, or where something else was named.
        by_name: whether the configuration names TensorRT.
    """

    now: ModelConfig
    wanted: ModelConfig | None = None
    why: str = ""
    by_name: bool = False

    @property
    def ready(self) -> ModelConfig:
        """Settings for a program that waits: what was named, even if it is built first; otherwise what can be opened at once."""
        return self.wanted if self.wanted is not None and self.by_name else self.now


def tensorrt_models(config: Config) -> list[ModelFile]:
    """Return the files that TensorRT would run: the pose network's, and the refiner's where people are refined on this machine.

    Raises:
        ModelError: a file is missing or wrong.
    """
    settings = msgspec.structs.replace(config.model, backend="tensorrt")
    models = [named_model(settings.path, "pose", backend="tensorrt", precision=settings.precision)]
    if config.refine.people and not is_remote(config.refine.path):
        models.append(named_model(config.refine.path, "refine", backend="tensorrt", precision=settings.precision))
    return models


def with_settings(config: Config, settings: ModelConfig) -> Config:
    """Return a configuration whose networks are opened with other settings."""
    return msgspec.structs.replace(config, model=settings)


def select(config: Config) -> Selection:
    """Choose the backends of a configuration; engines that are there are tried, and none is built.

    Raises:
        ModelError: a file is missing or wrong.
        ConfigError: TensorRT is configured and not installed, or cannot be loaded.
        EngineError: TensorRT is configured, and its device is absent, not ready, or does not run the engines.
    """
    settings = config.model
    if settings.backend not in ("auto", "tensorrt") or is_remote(settings.path):
        return Selection(settings)
    by_name = settings.backend == "tensorrt"
    from edgepose.engine.device_memory import has_driver, open_device_memory  # loaded only where TensorRT may be
    from edgepose.engine.tensorrt.library import is_installed

    if not by_name and not is_installed():  # the usual case on a small machine: nothing is loaded to find that out
        return Selection(settings, why="tensorrt is not installed")
    if not by_name and not has_driver():
        return Selection(settings, why="tensorrt is not used: there is no driver of a CUDA device")
    wanted = msgspec.structs.replace(settings, backend="tensorrt")
    models = tensorrt_models(config)
    try:
        if not by_name:
            open_device_memory()  # cheaper than to load TensorRT, where there is no device
        missing = missing_engines(models, wanted)
    except (ConfigError, EngineError) as error:
        if by_name:
            raise
        return Selection(settings, why=f"tensorrt is not used: {error}")
    if not missing:
        return Selection(wanted)
    names = " and ".join(model.path.name for model in missing)
    standby = msgspec.structs.replace(settings, backend="auto")
    return Selection(standby, wanted, f"the engine of {names} is not built yet for tensorrt", by_name)


def missing_engines(models: Sequence[ModelFile], settings: ModelConfig) -> list[ModelFile]:
    """Return the files without an engine in the cache that runs; errors as of `TensorRtDevice`, and of its `works`."""
    from edgepose.engine.tensorrt.networks import TensorRtDevice

    device = TensorRtDevice(settings)
    return [model for model in models if not device.works(model)]
