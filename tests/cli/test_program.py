"""Start and exit of both programs."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from edgepose import __version__
from edgepose.cli.main import run as edgepose_program
from edgepose.cli.program import run_program
from edgepose_export.cli.main import run as export_program
from testing.one_program import one_program


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    with one_program():
        yield


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


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize(
    ("program", "arguments", "status", "said"),
    [
        (edgepose_program, ["schema", "nothing"], 64, "nothing"),
        (edgepose_program, ["infer", "missing.mp4", "--output", "x.jsonl"], 66, "missing.mp4"),
        (edgepose_program, ["check", "--config", "missing.yaml"], 78, "missing.yaml"),
        (edgepose_program, ["run", "--set", "model.path=missing.onnx", "--set", "cameras.a.source=missing.mp4"], 66, "missing.mp4"),
        (export_program, ["evaluate", "missing.onnx", "data"], 78, "missing.onnx"),
    ],
)
def test_debugging_changes_no_exit_code(
    program: Callable[[list[str]], int],
    arguments: list[str],
    status: int,
    said: str,
    debug: list[str],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert program([*debug, *arguments]) == status
    written = capfd.readouterr().err
    assert said in written
    assert ("Traceback" in written) == (bool(debug) and status != 64)  # a wrong command line has no place in the program


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_an_unexpected_error_is_70_with_and_without_debugging(debug: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    @click.command()
    @click.option("--debug", is_flag=True)
    def broken(debug: bool) -> None:
        raise KeyError("x")

    assert run_program(broken, "broken", debug, install="nothing") == 70
    written = capfd.readouterr().err
    assert "broken: unexpected KeyError: 'x'" in written
    assert ("Traceback" in written, "--debug …" in written) == ((True, False) if debug else (False, True))


@pytest.mark.parametrize(("program", "name"), [(edgepose_program, "edgepose"), (export_program, "edgepose-export")])
def test_both_programs_tell_their_version(program: Callable[[list[str]], int], name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert program(["--version"]) == 0
    assert capfd.readouterr().out == f"{name}, version {__version__}\n"


def test_a_demo_without_its_broker_names_the_library(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "amqtt", None)
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    assert edgepose_program(["demo", "--output", str(tmp_path / "out")]) == 69
    said = "edgepose: the embedded broker needs the library amqtt; expected it to be installed: pip install amqtt\n"
    assert capfd.readouterr().err == said


def test_what_a_missing_library_asks_to_install_exists(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The extras that messages name are those of the project; no message names a package of an index that does not have it."""
    root = Path(__file__).resolve().parents[2]
    extras = set(re.findall(r"^(\w+) = \[", (root / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1], re.M))
    for path in (*root.glob("edgepose/**/*.py"), *root.glob("docs/*.md"), root / "README.md"):
        text = path.read_text()
        assert "edgepose[" not in text, path
        named = {extra for group in re.findall(r"'\.\[([\w,]+)\]'", text) for extra in group.split(",")}
        assert named <= extras, path


def test_an_error_that_ctrl_c_caused_in_a_library_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def interrupted() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ImportError("numpy failed to import")

    assert run_program(interrupted, "program", [], install="nothing") == 130
    assert capsys.readouterr().err == ""
