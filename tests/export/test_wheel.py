"""The distribution `edgepose-export`, built from the checkout as `pip install ./export` does."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgepose

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "edgepose").mkdir()
    shutil.copy(ROOT / "edgepose" / "__init__.py", folder / "edgepose")  # where setup.py reads the version
    shutil.copytree(ROOT / "export", folder / "export", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "export")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_has_the_version_of_edgepose(wheel: Path) -> None:
    assert wheel.name == f"edgepose_export-{edgepose.__version__}-py3-none-any.whl"


def test_the_wheel_holds_one_package_with_its_recipes_and_checkpoints(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        top = archive.read(next(name for name in names if name.endswith("top_level.txt"))).decode()
    assert top == "edgepose_export\n"
    package = ROOT / "export" / "edgepose_export"
    shipped = [*package.glob("recipes/*.yaml"), *package.glob("checkpoints/*.pt"), package / "report" / "page.css", package / "py.typed"]
    assert len(shipped) == 12
    assert {path.relative_to(package.parent).as_posix() for path in shipped} <= names
