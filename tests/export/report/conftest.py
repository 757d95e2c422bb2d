"""Models and figures that the tests of the report share."""

from pathlib import Path
from typing import Any

import pytest

from edgepose_export.report.measure import Measurements, Report
from testing.export.reports import options, write_models


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return Measurements(options(folder, tmp_path_factory.mktemp("work"))).run()


@pytest.fixture(scope="session")
def figures(report: Report) -> dict[str, Any]:
    return report.figures
