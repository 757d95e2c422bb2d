"""A few hundred inputs in every run of the tests; `make fuzz` tries ten thousand of each kind."""

from collections.abc import Callable

import pytest

from testing.fuzz import configuration, messages, models, rtsp
from testing.fuzz.tally import Tally


@pytest.mark.parametrize(
    ("fuzz", "least"),
    [
        pytest.param(lambda: configuration.fuzz(100), {"accepted": 1, "refused": 30}, id="configuration"),
        pytest.param(lambda: messages.fuzz(50), {"refused": 5}, id="messages"),
        pytest.param(lambda: rtsp.fuzz(40, workers=6), {"accepted": 1, "refused": 1}, id="rtsp"),
        pytest.param(lambda: models.fuzz(100, workers=2), {"accepted": 1, "refused": 20}, id="models"),
    ],
)
def test_nothing_ends_hangs_or_speaks_in_tracebacks(fuzz: Callable[[], Tally], least: dict[str, int]) -> None:
    tally = fuzz()
    assert tally.bad == []
    assert all(tally.counts[outcome] >= count for outcome, count in least.items()), tally.counts
