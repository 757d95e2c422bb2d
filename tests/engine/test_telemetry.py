"""ONNX Runtime must not send telemetry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import numpy as np
from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend
from edgepose.model.shipped import named_model

backend = open_backend(named_model("default", "pose"), ModelConfig(backend="cpu"))
backend.run(np.zeros((1, 192, 256, 3), np.uint8))
backend.close()
"""


def run(code: str, home: Path, **variables: str) -> None:
    quiet = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", code], env=quiet | {"HOME": str(home)} | variables, timeout=60, check=True)


def test_the_default_model_leaves_nothing_at_home(tmp_path: Path) -> None:
    run(RUN, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["edgepose", "edgepose.engine.onnxruntime", "edgepose_export.cli.main"])
def test_it_is_switched_off_before_the_runtime_is_imported(module: str, tmp_path: Path) -> None:
    hook = f"""
import os, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "onnxruntime":
            assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"

sys.meta_path.insert(0, Finder())
import {module}
"""
    run(hook, tmp_path)


def test_it_can_be_enabled_explicitly(tmp_path: Path) -> None:
    run("import os, edgepose; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'", tmp_path, ORT_DISABLE_TELEMETRY="0")
