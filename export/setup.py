"""Setup of edgepose-export: reads the version of both distributions from `edgepose/__init__.py` of the checkout."""

import re
from pathlib import Path

from setuptools import setup

_SOURCE = Path(__file__).resolve().parents[1] / "edgepose" / "__init__.py"
_FOUND = re.search(r'^__version__ = "(.+)"$', _SOURCE.read_text(encoding="utf-8"), re.MULTILINE)
if _FOUND is None:
    raise SystemExit(f"{_SOURCE} names no __version__")

setup(version=_FOUND[1])
