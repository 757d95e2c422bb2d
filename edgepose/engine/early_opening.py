"""The opening of the pose network while the rest of the program is still being imported: most of it runs outside of Python."""

import threading

from edgepose.config.addresses import is_remote
from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import Backend, open_backend, pose_model
from edgepose.model.file import ModelFile

_PATIENCE_S = 60.0


class EarlyOpening:
    """The pose network of a configuration, which a thread of its own opens on the CPU; where that fails, it is as if nobody had tried."""

    def __init__(self, settings: ModelConfig) -> None:
        """Begin, where it is certain that the CPU runs the network, and nothing else must be asked first."""
        self._settings = settings
        self._model: ModelFile | None = None
        self._opened: tuple[ModelFile, Backend] | None = None
        self._thread = threading.Thread(target=self._open, name="early-opening", daemon=True)
        if settings.backend in ("auto", "cpu") and not is_remote(settings.path):
            self._thread.start()

    def model(self, settings: ModelConfig) -> ModelFile | None:
        """Return the file that was read early, None where it is another one, or is not read yet; it need not be read twice."""
        return self._model if settings == self._settings else None

    def open(self, model: ModelFile, settings: ModelConfig) -> Backend:
        """Return the open network of a file, opened now where it is another one, or was not opened early; errors as of `open_backend`."""
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_S)
        opened, self._opened = self._opened, None
        if opened is not None:
            early, backend = opened
            if settings == self._settings and early == model:
                return backend
            backend.close()
        return open_backend(model, settings, build=False)

    def _open(self) -> None:
        try:
            if self._settings.backend == "auto" and _may_have_device():
                return
            self._model = model = pose_model(self._settings)
            self._opened = model, open_backend(model, self._settings, build=False)
        except Exception:  # it comes again, where it can be reported, when `open` tries
            return


def _may_have_device() -> bool:
    """Return whether another device than the CPU might be chosen."""
    import onnxruntime

    from edgepose.engine.device_memory import has_driver

    return has_driver() or "CUDAExecutionProvider" in onnxruntime.get_available_providers()
