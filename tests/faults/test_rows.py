"""The short rows of the fault matrix in every run of the tests; `make faults` tries them all, and holds them to their bars."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from testing.faults.matrix import ROWS
from testing.faults.row import Row, RowResult, attempt
from testing.faults.world import street_video

QUICK = [row for row in ROWS if row.quick]

pytestmark = [pytest.mark.needs("mosquitto", "rtsp-server", "ffmpeg"), pytest.mark.xdist_group("faults")]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, RowResult]:
    """Outcomes by title; all rows run at the same time, since they mostly wait, and leniently, since others use the machine too."""
    street = street_video(tmp_path_factory.mktemp("video"), minutes=3)
    with ThreadPoolExecutor(len(QUICK)) as pool:
        tried = pool.map(lambda row: attempt(row, street, patience=0.7, leniency=4), QUICK)
        return {outcome.row.title: outcome for outcome in tried}


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.title)
def test_what_must_hold_holds(outcomes: Mapping[str, RowResult], row: Row) -> None:
    outcome = outcomes[row.title]
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.findings.broken == []
    assert outcome.findings.recovery_s, "nothing says how long it took to come back"


def test_every_row_of_the_matrix_is_there() -> None:
    titles = [row.title for row in ROWS]
    assert len(set(titles)) == len(titles)
    assert {row.part for row in ROWS} == {"camera", "broker", "daemon"}
    assert len(ROWS) > 20
