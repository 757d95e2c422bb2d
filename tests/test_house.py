"""The house's own rules that no linter knows: sizes of folders and modules, one class for one name, what each distribution holds."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNTIME, EXPORT = ROOT / "edgepose", ROOT / "export" / "edgepose_export"
MODULES_LIMIT = 16
LINES_LIMIT = 500


def modules(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "__pycache__" not in path.parts)


def test_no_folder_has_too_many_modules() -> None:
    counts: dict[Path, int] = defaultdict(int)
    for path in modules(RUNTIME):
        if path.name != "__init__.py":
            counts[path.parent] += 1
    del counts[RUNTIME / "cli"]  # one module a command
    assert {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > MODULES_LIMIT} == {}


@pytest.mark.parametrize("package", [RUNTIME, EXPORT], ids=lambda path: path.name)
def test_a_class_name_stands_for_one_class(package: Path) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in modules(package):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("package", [RUNTIME, EXPORT, ROOT / "testing", ROOT / "tools"], ids=lambda path: path.name)
def test_a_module_is_one_idea(package: Path) -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules(package)}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_LIMIT} == {}


def test_every_logger_has_one_name() -> None:
    other = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in (RUNTIME, EXPORT)
        for path in modules(package)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "= logging.getLogger(__name__)" in line and not line.startswith("_log = ")
    ]
    assert other == []


def test_errors_are_caught_under_one_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} as {node.name}"
        for package in (RUNTIME, EXPORT)
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and node.name not in (None, "error")
    ]
    assert found == []


def test_the_device_side_loads_neither_torch_nor_the_export_pipeline() -> None:
    program = (
        "import sys, pkgutil, importlib, edgepose\n"
        "names = [m.name for m in pkgutil.walk_packages(edgepose.__path__, 'edgepose.') if not m.name.endswith('__main__')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print([name for name in ('torch', 'onnx', 'edgepose_export') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
