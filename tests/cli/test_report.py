"""How findings look."""

import sys

import pytest

from edgepose.cli.report import report
from edgepose.diagnostics.preflight import CheckResult

FINDINGS = [CheckResult("model", True, "short"), CheckResult("broker", False, " ".join(["words"] * 20), 74)]


def test_each_finding_is_one_line_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(lambda _: FINDINGS, None, (), as_json=False) == 74
    assert capsys.readouterr().out.splitlines() == [
        "ok    model                   short",
        "FAIL  broker                  " + FINDINGS[1].detail,
    ]


def test_a_long_one_hangs_below_itself_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    report(lambda _: FINDINGS, None, (), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "FAIL  broker                  " + " ".join(["words"] * 8)
    assert lines[2] == " " * 30 + " ".join(["words"] * 8)
    assert max(map(len, lines)) <= 80
