"""The house's own rules that no linter knows: sizes of folders and modules, one class for one name, what each distribution holds."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNTIME, EXPORT = ROOT / "edgepose", ROOT / "export" / "edgepose_export"
MODULES_LIMIT = 16
LINES_LIMIT = 500
NO_IMPERATIVES = {
    *("a", "all", "an", "any", "both", "each", "either", "every", "how", "if", "it", "its", "neither", "no", "nothing", "one", "some"),
    *("that", "the", "their", "these", "they", "this", "those", "what", "when", "where", "whether", "which", "who", "why"),
}
"""First words of docstrings that name a thing or begin a clause, where a function's docstring begins with what it does."""


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


def is_imperative(first_line: str) -> bool:
    """Return whether the first word may be an imperative: neither a determiner, pronoun or conjunction, nor a form such as "Returns"."""
    word = first_line.split()[0].lower().strip(".,:;")
    return word not in NO_IMPERATIVES and (not word.endswith("s") or word.endswith(("ss", "focus")))


@pytest.mark.parametrize("package", [RUNTIME, EXPORT, ROOT / "testing", ROOT / "tools"], ids=lambda path: path.name)
def test_docstrings_of_functions_begin_with_an_imperative(package: Path) -> None:
    other = []
    for path in modules(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            docstring = ast.get_docstring(node)
            is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
            if docstring and not is_property and not docstring.startswith("Args:") and not is_imperative(docstring):
                other.append(f"{path.relative_to(ROOT)}:{node.lineno} {docstring.splitlines()[0]}")
    assert other == []


@pytest.mark.parametrize(
    ("first_line", "good"),
    [
        ("Return the box.", True),
        ("Process, then count, all frames.", True),
        ("The box of a person.", False),
        ("Returns the box.", False),
        ("Whether it runs.", False),
    ],
)
def test_an_imperative_is_told_from_a_noun_phrase(first_line: str, good: bool) -> None:
    assert is_imperative(first_line) == good


def test_the_device_side_loads_neither_torch_nor_the_export_pipeline() -> None:
    program = (
        "import sys, pkgutil, importlib, edgepose\n"
        "names = [m.name for m in pkgutil.walk_packages(edgepose.__path__, 'edgepose.') if not m.name.endswith('__main__')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print([name for name in ('torch', 'onnx', 'edgepose_export') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_readings_of_a_clock_name_their_unit() -> None:
    reading = re.compile(r"(?<!, )\b(\w+) = (?:time\.)?(monotonic|perf_counter|time|monotonic_ns|perf_counter_ns|time_ns)\(\)(?! *\*)")
    found = [
        f"{path.relative_to(ROOT)}:{number} {name}"
        for package in (RUNTIME, EXPORT, ROOT / "testing", ROOT / "tools")
        for path in modules(package)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for name, clock in reading.findall(line)
        if not name.endswith("_ns" if clock.endswith("_ns") else "_s")
    ]
    assert found == []
