"""A pytest plugin, `-p testing.nothing_installed`: all programs and libraries of testing/requirements.py are missing.

GStreamer itself stays; its plugins are taken away by `GST_PLUGIN_SYSTEM_PATH_1_0`, which the caller sets.
"""

import importlib.util
import shutil
from importlib.machinery import ModuleSpec

import pytest

from testing import requirements

_find_spec = importlib.util.find_spec
_MODULES = ("amqtt", "fastapi", "mkdocs", "playwright", "torch")


def _spec(name: str, package: str | None = None) -> ModuleSpec | None:
    return None if name in _MODULES else _find_spec(name, package)


def pytest_configure() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(shutil, "which", lambda *_, **__: None)
    patch.setattr(importlib.util, "find_spec", _spec)
    patch.setattr(requirements, "exists", lambda path: str(path) == requirements.SYSTEM_PYTHON)
