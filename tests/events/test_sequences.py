"""Precision and recall of events on figures with the measured noise of the network, through the daemon's stages.

`make events` measures the same on more sequences.
"""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from testing.events import actions
from testing.events.scores import Score, lying_was_detected, score
from testing.events.sequences import NoiseBank, Sequence, play

HARMLESS = (
    "stand",
    "sit_down",
    "bend_down",
    "kneel",
    "always_lying",
    "lie_down",
    "point",
    "telephone",
    "jumping_jacks",
    "clap",
    "gesture",
)
FALLS = ("fall_forwards", "fall_backwards", "fall_sideways", "collapse", "fall_and_rise")


@pytest.fixture(scope="module")
def bank() -> NoiseBank:
    return NoiseBank()


def some(names: tuple[str, ...], each: int, bank: NoiseBank | None, **fixed: float) -> list[Sequence]:
    played = []
    for name, seed in product(names, range(each)):
        make: Callable[[np.random.Generator], actions.Action] = getattr(actions, name)
        rng = np.random.default_rng([seed, len(name), 7])
        played.append(play(make(rng), rng, bank, blind=False, settings=None, fps=float(rng.choice([5, 8, 12])), **fixed))
    return played


def alarms(sequences: list[Sequence]) -> list[tuple[str, str]]:
    kinds = ("fallen", "still", "waving", "arms_up")
    return [(sequence.action.name, event.kind) for sequence in sequences for _, event in sequence.reported if event.kind in kinds]


def test_without_network_errors_every_visible_event_is_reported() -> None:
    sequences = some((*FALLS, "wave_one", "wave_both", "raise_arms", "walk"), 2, None, pitch=5.0, height_px=200.0)
    scores = score(sequences)
    for kind, counts in scores.items():
        assert (counts.wrong, counts.missed) == (0, 0), (kind, counts, [(s.action.name, s.view) for s in sequences])


def test_harmless_actions_raise_no_alarm(bank: NoiseBank) -> None:
    assert len(alarms(some(HARMLESS, 4, bank))) <= 2


def test_falls_are_reported_if_the_network_detects_them(bank: NoiseBank) -> None:
    falls = [sequence for sequence in some(FALLS, 6, bank, height_px=280.0, pitch=10.0) if lying_was_detected(sequence)]
    assert len(falls) >= 10
    counts: Score = score(falls)["fallen"]
    assert counts.recall >= 0.5
    assert counts.precision >= 0.9


def test_waving_and_raised_arms_are_reported(bank: NoiseBank) -> None:
    scores = score(some(("wave_one", "wave_both", "raise_arms"), 8, bank, height_px=200.0))
    assert scores["waving"].recall >= 0.8
    assert scores["waving"].precision >= 0.8
    assert scores["arms_up"].recall >= 0.8
    assert scores["arms_up"].precision >= 0.8


def test_a_person_who_walks_through_enters_and_leaves_once(bank: NoiseBank) -> None:
    scores = score(some(("walk",), 8, bank, height_px=220.0))
    for kind in ("entered", "left", "zone_entered", "zone_left"):
        assert scores[kind].missed <= 1, (kind, scores[kind])
        assert scores[kind].wrong <= 1, (kind, scores[kind])
