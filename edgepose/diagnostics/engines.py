"""The engines that a configuration needs: built by `edgepose build-engine`, reported by `edgepose doctor`."""

from dataclasses import dataclass
from typing import Any

from edgepose.config.schema import Config
from edgepose.engine.selection import select, tensorrt_models
from edgepose.engine.tensorrt.build import ReportProgress
from edgepose.engine.tensorrt.building import BuildOrder, build_all


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What was done about one engine.

    Attributes:
        model: file name; empty where nothing is built at all.
        built: whether it was built now.
        words: the same, for people.
    """

    model: str
    built: bool
    words: str

    def fields(self) -> dict[str, Any]:
        """Return the report for scripts."""
        return {"model": self.model, "built": self.built, "detail": self.words}


def build_engines(config: Config, report: ReportProgress, *, force: bool = False) -> list[EngineReport]:
    """Build the engines that are missing or stale in this process, and report each.

    Args:
        force: whether to build also those that are there.

    Raises:
        ConfigError, EngineError: TensorRT is configured by name and cannot be used, or a build fails.
        ModelError: a file is wrong, or its engine finds other people.
        OutputError: the engines cannot be kept.
    """
    if config.model.backend not in ("auto", "tensorrt"):
        return [EngineReport("", False, f"nothing to build: model.backend is {config.model.backend}")]
    selection = select(config)
    settings = selection.wanted or selection.now
    if settings.backend != "tensorrt":
        return [EngineReport("", False, f"nothing to build: {selection.why}")]
    models = tensorrt_models(config)
    built = build_all(BuildOrder([str(model.path) for model in models], settings, force), report)
    return [
        EngineReport(model.path.name, new, f"{model.path.name}: {'built and checked' if new else 'is there, nothing to do'}")
        for model, new in zip(models, built, strict=True)
    ]
