"""Tests mirror the tree, and nothing imports them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {path.parent.relative_to(ROOT / "edgepose") for path in (ROOT / "edgepose").rglob("__init__.py")}
EXPORT_PACKAGES = {path.parent.relative_to(ROOT / "export" / "edgepose_export") for path in (ROOT / "export").rglob("__init__.py")}

WITHOUT_A_PACKAGE = {"deploy", "export", "faults", "fuzz", "integration", "device", "strangers", "system", "tools"}
"""Folders of tests that stand for no package of the runtime; below `export` the tree of edgepose_export is mirrored."""

MODULES = sorted(path for folder in ("testing", "tests", "tools") for path in (ROOT / folder).rglob("*.py"))


def imported(module: Path) -> set[str]:
    """Top-level names of all imports, those inside of functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("relative" if node.level else str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize("folder", ["testing", "tests", "tools"])
def test_nothing_imports_a_test(folder: str) -> None:
    modules = [module for module in MODULES if module.is_relative_to(ROOT / folder)]
    assert modules
    assert [str(module.relative_to(ROOT)) for module in modules if imported(module) & {"tests", "relative"}] == []


@pytest.mark.parametrize("folder", ["edgepose", "export/edgepose_export"])
def test_what_is_shipped_needs_nothing_of_the_tests(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert modules
    assert [str(module.relative_to(ROOT)) for module in modules if imported(module) & {"testing", "tests", "tools"}] == []


def test_tests_mirror_the_tree() -> None:
    stray = []
    for module in MODULES:
        if not module.is_relative_to(ROOT / "tests") or not module.name.startswith("test_"):
            continue
        place = module.parent.relative_to(ROOT / "tests")
        first, *rest = place.parts or (".",)
        known = Path(*rest) in EXPORT_PACKAGES if first == "export" else place in PACKAGES or (first in WITHOUT_A_PACKAGE and not rest)
        if not known:
            stray.append(str(module.relative_to(ROOT)))
    assert stray == []


def test_every_module_of_tests_is_one() -> None:
    """What tests share lies in testing/; beside tests there are only conftest.py and what is not Python."""
    others = {path.name for path in MODULES if path.is_relative_to(ROOT / "tests") and not path.name.startswith("test_")}
    assert others <= {"conftest.py"}
