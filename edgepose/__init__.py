"""edgepose: human pose on the edge, from a camera stream to MQTT."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepose.api import PoseModel, PoseResult

__all__ = ["PoseModel", "PoseResult", "__version__", "load"]

__version__ = "0.1.0"

# ONNX Runtime's wheels send telemetry to Microsoft and store a device identifier in ~/.cache/Microsoft, unless this variable is set before
# they are imported. This module runs before every other module of the package.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load(
    model: "str | os.PathLike[str]" = "default",
    *,
    refine: "str | os.PathLike[str] | bool | None" = None,
    refine_people: int | None = None,
    backend: str | None = None,
    config: "str | os.PathLike[str] | None" = None,
    settings: Mapping[str, object] | None = None,
) -> "PoseModel":
    """Load a pose network and a refiner, ready to find people: `edgepose.load("default").predict(image)`.

    Neither `/etc/edgepose/config.yaml` nor the environment changes what a program computes: only the arguments do.

    Args:
        model: name of a shipped model, or an ONNX file.
        refine: name of a shipped refiner, or an ONNX file; False refines nobody. None and True are the default of `edgepose infer`.
        refine_people: maximum number of people refined in a picture. None is the default of `edgepose infer`.
        backend: `auto`, `cpu`, `cuda` or `tensorrt`. None is the configured one, by default `auto`.
        config: YAML file with the configuration for everything that is not given here; None for the defaults.
        settings: configuration keys and their values, such as `{"tiles.enabled": True}`, which override `config`.

    Raises:
        ConfigError: a value is not accepted.
        ModelError: there is no such model, or it is for another task.
        EngineError: no inference library is installed, or the device is not available.
    """
    from edgepose.api import load_model  # imported here: the values and the wire format need no inference library

    return load_model(model, refine=refine, refine_people=refine_people, backend=backend, config=config, settings=settings)


def __getattr__(name: str) -> object:
    """Return the classes of the Python API, which are imported when they are first used."""
    if name in ("PoseModel", "PoseResult"):
        from edgepose import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
