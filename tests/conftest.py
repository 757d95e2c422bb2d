"""What holds for all tests: a test that needs a missing program or library is skipped, with the package that brings it."""

from collections.abc import Generator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

import edgepose  # noqa: F401 (switches the telemetry of ONNX Runtime off, which some tests import before anything of ours)
from testing.requirements import MissingRequirementError, missing, require

# Nothing depends on the speed of the machine: no example has a deadline.
settings.register_profile("edgepose", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgepose")

NEEDS_TORCH = (Path(__file__).parent / "export", Path(__file__).parent / "test_cards.py")


class _SkippedModule(pytest.Module):
    """A module that cannot even be imported here."""

    reason = ""

    def collect(self) -> NoReturn:
        pytest.skip(self.reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if any(module_path.is_relative_to(place) for place in NEEDS_TORCH) and (reason := missing("torch")):
        module: _SkippedModule = _SkippedModule.from_parent(parent, path=module_path)
        module.reason = reason
        return module
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    try:
        for mark in item.iter_markers("needs"):
            require(*mark.args)
        return (yield)
    except MissingRequirementError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    try:
        return (yield)
    except MissingRequirementError as error:
        pytest.skip(str(error))
