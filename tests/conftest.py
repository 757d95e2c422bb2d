"""What holds for all tests: a test that needs a missing program or library is skipped, with the package that brings it."""

import logging
import os
import re
import signal
from collections.abc import Generator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler.loadscope import LoadScopeScheduling

import edgepose  # noqa: F401 (switches the telemetry of ONNX Runtime off, which some tests import before anything of ours)
from testing.requirements import MissingRequirementError, missing, packages_named, require

# Nothing depends on the speed of the machine: no example has a deadline.
settings.register_profile("edgepose", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgepose")

NEEDS_TORCH = (Path(__file__).parent / "export", Path(__file__).parent / "test_cards.py")


class _SkippedModule(pytest.Module):
    """A module that cannot even be imported here."""

    reason = ""

    def collect(self) -> NoReturn:
        pytest.skip(self.reason, allow_module_level=True)


def pytest_configure() -> None:
    """Take Ctrl-C again where a shell that ran this in the background ignores it: programs under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if any(module_path.is_relative_to(place) for place in NEEDS_TORCH) and (reason := missing("torch")):
        module: _SkippedModule = _SkippedModule.from_parent(parent, path=module_path)
        module.reason = reason
        return module
    return None


class _Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of a module with `xdist_group` run on one worker, all others wherever there is one free.

    That is what `--dist loadgroup` does, but pytest-xdist 3.8 writes the group into an attribute that pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.partition("::")[0]) or nodeid


@cache
def _group(module: str) -> str | None:
    found = re.search(r'xdist_group\("(\w+)"\)', (Path(__file__).parents[1] / module).read_text())
    return found[1] if found else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Groups | None:
    return _Groups(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(autouse=True)
def _a_log_of_its_own() -> Generator[None, None, None]:
    """Take back what a command that ran in this process changed in the log."""
    log = logging.getLogger("edgepose")
    before = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(autouse=True)
def _a_mask_of_its_own() -> Generator[None, None, None]:
    """Let no test inherit the file mask that a daemon in the test before it has set for this process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _a_host_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons inside tests that run side by side are on hosts of other names: one device name belongs to one daemon a machine."""
    monkeypatch.setattr(
        "edgepose.config.load.socket",
        SimpleNamespace(gethostname=lambda: f"host-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}"),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    try:
        for mark in item.iter_markers("needs"):
            require(*mark.args)
        return (yield)
    except MissingRequirementError as error:
        pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what to install for the tests that were skipped."""
    packages = packages_named(str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if packages:
        terminalreporter.write_line(f"For the skipped tests: sudo apt-get install --no-install-recommends {' '.join(packages)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    try:
        return (yield)
    except MissingRequirementError as error:
        pytest.skip(str(error))
