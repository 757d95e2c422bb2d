"""Check results on a terminal and in a pipe."""

import sys

import pytest

from edgepose.cli.report import report
from edgepose.diagnostics.preflight import CheckResult

FINDINGS = [CheckResult("model", True, "short"), CheckResult("broker", False, " ".join(["words"] * 20), 74)]


def test_each_result_is_one_line_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(lambda _: FINDINGS, None, (), as_json=False) == 74
    assert capsys.readouterr().out.splitlines() == [
        "ok    model                   short",
        "FAIL  broker                  " + FINDINGS[1].detail,
    ]


def test_a_long_result_has_a_hanging_indent_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    report(lambda _: FINDINGS, None, (), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "FAIL  broker                  " + " ".join(["words"] * 8)
    assert lines[2] == " " * 30 + " ".join(["words"] * 8)
    assert max(map(len, lines)) <= 80
