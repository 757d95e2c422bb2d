"""Writes docs/compatibility.md: runs the inputs of strangers in tests/strangers and lists each with its result.

python -m tools.write_compatibility
"""

import ast
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "strangers"
PAGE = ROOT / "docs" / "compatibility.md"

INTRODUCTION = """# Compatibility

This page lists what was tried with edgepose and did not come from us: cameras, files, codecs, models, brokers, and attacks. Each
sentence is a test in `tests/strangers` with the value that it asserts; *inputs* are the cases that it ran with. `make strangers` runs
them and writes this page.

**Your input is not here, or it fails?** Add a case: most tests are tables of cases, so five lines are enough.
"""


@dataclass
class Row:
    """One test and its cases.

    Attributes:
        cases: names of the cases, in their order.
        failed: names of those that failed.
        skipped: reasons of those that were skipped.
    """

    cases: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def result(self) -> str:
        """The result in a few words."""
        if self.failed:
            return f"**fails**: {', '.join(self.failed)}" if any(self.failed) else "**fails**"
        if self.skipped and len(self.skipped) == len(self.cases):
            return f"not tried here: {self.skipped[0]}"
        return f"holds; {len(self.skipped)} not tried here" if self.skipped else "holds"


class Recorder:
    """A pytest plugin that keeps the result of each test, by file and name."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Row]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep one phase of a test."""
        path, _, name = report.nodeid.partition("::")
        function, _, case = name.rpartition("::")[2].partition("[")
        row = self.rows.setdefault(Path(path).name, {}).setdefault(function, Row())
        case = case.rstrip("]")
        if report.when == "setup":
            row.cases.append(case)
        if report.failed:
            row.failed.append(case)
        if report.skipped and isinstance(report.longrepr, tuple):
            row.skipped.append(report.longrepr[2].removeprefix("Skipped: "))


def page(rows: dict[str, dict[str, Row]], introductions: dict[str, str]) -> str:
    """Return the page in Markdown.

    Args:
        rows: by file and function.
        introductions: first line of each file's docstring.
    """
    parts = [INTRODUCTION]
    for file in sorted(rows):
        kind = file.removeprefix("test_").removesuffix(".py").replace("_", " ")
        parts.append(f"## {kind.capitalize()}\n\n{introductions[file]}\n\n| what holds | inputs | result |\n|---|---|---|")
        for function, row in rows[file].items():
            sentence = function.removeprefix("test_").replace("_", " ")
            cases = ", ".join(f"`{case}`" for case in row.cases if case).replace("|", "\\|")
            parts[-1] += f"\n| {sentence} | {cases} | {row.result} |"
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> int:
    """Run the tests, write the page, and return their exit code."""
    recorder = Recorder()
    code = int(pytest.main(["-q", "-p", "no:cacheprovider", str(TESTS), *sys.argv[1:]], plugins=[recorder]))
    introductions = {
        path.name: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0] for path in TESTS.glob("test_*.py")
    }
    PAGE.write_text(page(recorder.rows, introductions), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    return code


if __name__ == "__main__":
    sys.exit(main())
