"""The system's GStreamer through the system's `gi`, found and loaded only when it is needed."""

import contextlib
import ctypes
import importlib
import importlib.util
import sys
import threading
import warnings
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepose.errors import UnavailableError

HARDWARE_DECODER = "nvv4l2decoder"
CSI_SOURCE = "nvarguscamerasrc"

_INSTALL = "sudo apt-get install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"

_SYSTEM_PACKAGES = (
    Path("/usr/lib/python3/dist-packages"),  # Debian, Ubuntu, JetPack
    Path(f"/usr/lib64/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"),  # Fedora
    Path(f"/usr/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"),  # Arch, Alpine
)

_DECODER_PLUGINS = tuple(f"{folder}/gstreamer-1.0/libgstnvvideo4linux2.so" for folder in ("lib/*", "lib", "lib64", "local/lib/*"))
"""Possible paths of the plugin with NVIDIA's decoder, below /usr; JetPack installs it at the first."""


@dataclass(frozen=True, slots=True)
class Library:
    """GStreamer, initialized.

    Attributes:
        gst, video, gio, glib: its modules, which have no types.
        version: version of GStreamer, such as `1.22.0`.
        gi_version: version of PyGObject.
        folder: folder that contains `gi`.
    """

    gst: Any
    video: Any
    gio: Any
    glib: Any
    version: str
    gi_version: str
    folder: str

    def has(self, element: str) -> bool:
        """Return whether an element is in the registry."""
        return self.gst.ElementFactory.find(element) is not None


_lock = threading.Lock()
_loaded: Library | None = None


def load() -> Library:
    """Return GStreamer, which the first call loads; that takes 60 ms and 9 MB.

    Raises:
        UnavailableError: it is not installed, or belongs to another Python.
    """
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _load()
        return _loaded


def decodes_in_hardware() -> bool:
    """Return whether this machine's GStreamer has NVIDIA's decoder; GStreamer is loaded only where the plugin's file exists."""
    if _loaded is None and not any(any(Path("/usr").glob(plugin)) for plugin in _DECODER_PLUGINS):
        return False
    try:
        return load().has(HARDWARE_DECODER)
    except UnavailableError:
        return False


def _load() -> Library:
    _keep_the_unwinder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyGObject's own warnings about its import, which an operator cannot fix
        gi = _import_gi()
        try:
            for name in ("Gst", "GstApp", "GstVideo"):
                gi.require_version(name, "1.0")
            modules = {name: importlib.import_module(f"gi.repository.{name}") for name in ("Gst", "GstApp", "GstVideo", "Gio", "GLib")}
        except (ImportError, ValueError) as error:
            raise UnavailableError(
                f"GStreamer's introspection data is missing ({error}); expected it to be installed: {_INSTALL}"
            ) from error
        gst = modules["Gst"]
        try:
            gst.init_check(None)  # `init` would end the process
        except modules["GLib"].Error as error:
            raise UnavailableError(f"GStreamer does not start ({error.message}); expected a complete installation: {_INSTALL}") from error
    version = ".".join(str(part) for part in gst.version()[:3])
    folder = str(Path(str(gi.__file__)).parent.parent)
    return Library(gst, modules["GstVideo"], modules["Gio"], modules["GLib"], version, str(gi.__version__), folder)


def _keep_the_unwinder() -> None:
    """Make libgcc the library that unwinds C++ exceptions.

    `gi` loads GStreamer for the whole process, and with it libunwind, which defines the same functions: exceptions of ONNX Runtime and
    others would then end the process instead of being caught. The library that is loaded for the whole process first is used.
    """
    with contextlib.suppress(OSError):  # a system with another C++ runtime
        ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)


def _import_gi() -> ModuleType:
    """Import PyGObject from this environment, or else from the system.

    `gi` is part of the system, since it has to match the system's GStreamer, and a virtual environment does not see it. It is a folder of
    its own that depends on no other package there. So only this package is imported from the system, if it was built for the same Python,
    and no other system package can replace one of the environment's.
    """
    try:
        return importlib.import_module("gi")
    except ImportError:
        pass
    folders = [folder / "gi" for folder in _SYSTEM_PACKAGES if (folder / "gi" / "__init__.py").is_file()]
    for folder in folders:
        if any((folder / f"_gi{suffix}").is_file() for suffix in EXTENSION_SUFFIXES):
            return _import_package("gi", folder)
    if folders:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UnavailableError(
            f"{folders[0]} is not built for Python {version}; expected an environment made by the system's own Python"
            " (/usr/bin/python3 -m venv), or PyGObject in this one (pip install 'PyGObject<3.52')"
        )
    raise UnavailableError(f"GStreamer needs the system's package gi, which is not installed; expected it to be installed: {_INSTALL}")


def _import_package(name: str, folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None  # a path that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
