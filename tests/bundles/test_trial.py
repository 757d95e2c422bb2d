"""What a trial waits for."""

from dataclasses import replace

import pytest

from edgepose.bundles.trial import FRAMES, Progress, Trial

BEGAN = Progress(reports="10:00", connected=True, frames={"front": 100, "rear": 7})
GOOD = replace(BEGAN, reports="10:05", frames={"front": 100 + FRAMES, "rear": 7})


@pytest.mark.parametrize(
    ("now", "missing"),
    [
        (GOOD, []),
        (replace(GOOD, reports="10:00"), ["no health message was written"]),
        (replace(GOOD, connected=False), ["the broker is not connected"]),
        (replace(GOOD, frames={"front": 100 + FRAMES - 1}), ["camera front delivered fewer than 4 frames that were processed"]),
        (replace(GOOD, frames={"front": 100}, paused=frozenset(["front"])), []),
        (replace(GOOD, frames={"new": 0}), []),  # the bundle has another camera instead
        (replace(GOOD, stuck=("inference",)), ["inference hangs"]),
    ],
)
def test_what_worked_before_works_again(now: Progress, missing: list[str]) -> None:
    assert Trial(BEGAN, ["front"], 60.0).missing(now) == missing


def test_it_has_an_end() -> None:
    trial = Trial(BEGAN, ["front"], 60.0)
    assert [trial.is_over(now_s) for now_s in (0.0, 59.9, 60.0)] == [False, False, True]
