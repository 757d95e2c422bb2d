"""edgepose-export: makes the model files that edgepose runs (offline, on a workstation)."""

from typing import TYPE_CHECKING, Any

import edgepose  # noqa: F401 - imported before onnxruntime, because it switches telemetry off

if TYPE_CHECKING:
    from edgepose_export.model import Model

__all__ = ["Model"]


def __getattr__(name: str) -> Any:
    """Load the class `Model` when it is used: it needs PyTorch, which takes seconds to load."""
    if name == "Model":
        from edgepose_export.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
