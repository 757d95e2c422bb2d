"""Start and exit of both programs."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["edgepose", "edgepose_export"])
def test_ctrl_c_during_imports_shows_no_traceback(module: str, tmp_path: Path) -> None:
    """Replaces one of our modules by one that is interrupted while it loads."""
    interrupted = f"""
import importlib.abc, runpy, sys
class Interrupted(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "{module}.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
runpy.run_module("{module}", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "")
