"""Which TensorRT is installed, and what it logs."""

import importlib
import importlib.util
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepose.engine.device_memory import lacks_device_memory
from edgepose.errors import ConfigError, EngineError

_log = logging.getLogger(__name__)

_MODULES = ("tensorrt", "tensorrt_rtx")
_OLDEST = 10
_UPGRADE = "JetPack 6.1 or newer on a Jetson, elsewhere pip install --upgrade tensorrt"
_INSTALL = (
    "expected tensorrt 10 or newer: on a Jetson, JetPack's own (python3-libnvinfer, with install.sh --system-packages);"
    " elsewhere the extra tensorrt (in a checkout of edgepose, pip install '.[tensorrt]')"
)
_KEPT_ERRORS = 8

LogSink = Callable[[str, str], None]
"""Receives a message of the library: its severity in lower case (`verbose`, `info`, `warning`, `error`, `internal_error`) and its text."""


@dataclass(frozen=True, slots=True)
class TensorRtLibrary:
    """A loaded library.

    Attributes:
        module: its Python module.
        name: `tensorrt` or `tensorrt_rtx`.
        version: such as `10.3.0`.
    """

    module: Any
    name: str
    version: str

    @property
    def words(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def is_installed() -> bool:
    """Return whether a library is installed, without loading it."""
    return any(importlib.util.find_spec(name) is not None for name in _MODULES)


def load_library() -> TensorRtLibrary:
    """Load TensorRT, or else TensorRT for RTX.

    Raises:
        ConfigError: none is installed, none can be loaded, or it is too old; what to install.
    """
    reasons = []
    for name in _MODULES:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            if not (isinstance(error, ModuleNotFoundError) and error.name == name):
                reasons.append(f"{name} cannot be loaded: {' '.join(str(error).split())}")
            continue
        version = str(getattr(module, "__version__", "0"))
        if name == "tensorrt" and not _at_least(version, _OLDEST):
            jetpack = "; JetPack 5 and older have no newer one" if version.startswith("8.") else ""
            raise ConfigError(f"{name} {version} is installed{jetpack}; expected tensorrt {_OLDEST} or newer: {_UPGRADE}")
        if not hasattr(module, "Builder"):
            reasons.append(f"{name} {version} has no builder: its libraries are missing")
            continue
        return TensorRtLibrary(module, name, version)
    raise ConfigError(f"TensorRT is not usable ({'; '.join(reasons)}); {_INSTALL}" if reasons else f"TensorRT is not installed; {_INSTALL}")


def _at_least(version: str, major: int) -> bool:
    found = version.partition(".")[0]
    return found.isdigit() and int(found) >= major


class LibraryLog:
    """The log of a library: what it says goes to ours, and its last errors are kept for the exception.

    Attributes:
        logger: to give to the library, which keeps no reference of its own: it lives as long as this object.
    """

    def __init__(self, library: TensorRtLibrary, sink: LogSink | None = None) -> None:
        """
        Args:
            sink: receives each message, the verbose ones included; None passes them to our log only.
        """
        self._errors: deque[str] = deque(maxlen=_KEPT_ERRORS)
        take = self._take
        base = library.module.ILogger

        class Logger(base):  # type: ignore[misc, valid-type]
            """Passes on what the library says; it may call from any of its threads."""

            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: object, msg: str) -> None:
                """Take a message."""
                take(str(severity).rpartition(".")[2].lower(), msg)

        self._sink = sink
        self._library = library
        self.logger: Any = Logger()

    def make(self, kind: str) -> Any:
        """Return a new `Builder` or `Runtime` that logs here.

        Raises:
            EngineError: the library cannot use CUDA. It makes no object then, which the bindings turn into a TypeError that gives no reason
                (https://github.com/NVIDIA/TensorRT/issues/2913).
        """
        try:
            made = getattr(self._library.module, kind)(self.logger)
        except TypeError as error:
            raise EngineError(f"{self._library.words} makes no {kind}: {self.words()}") from error
        return made

    @property
    def lacks_memory(self) -> bool:
        """Whether the last errors say that memory is short."""
        return any(lacks_device_memory(text) for text in self._errors)

    def words(self) -> str:
        """Return the last errors on one line, and forget them."""
        text = "; ".join(dict.fromkeys(self._errors))
        self._errors.clear()
        return text or "the library gives no reason"

    def _take(self, severity: str, text: str) -> None:
        if severity in ("error", "internal_error"):
            self._errors.append(" ".join(text.split())[:300])
            _log.debug("%s", text)  # it becomes an exception of ours
        elif severity == "warning":
            _log.debug("%s", text)
        if self._sink is not None:
            self._sink(severity, text)
