"""Waits know the difference between a slow machine and a slow product."""

import subprocess
from pathlib import Path

import pytest

from testing import waiting
from testing.servers.mosquitto import free_port
from testing.waiting import PATIENCE, in_time, slowness, wait_for, wait_for_port


@pytest.mark.parametrize(
    ("took_s", "slow", "at_most_s", "expected"),
    [
        (0.9, 1, 9, True),
        (1.5, 1, 9, False),
        (1.5, 2, 9, True),
        (2.5, 2, 9, False),
        (2.5, 8, 2, False),  # a fault that takes two seconds is a fault on any machine
    ],
)
def test_a_promise_is_held_to_the_speed_of_the_machine(
    took_s: float, slow: float, at_most_s: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "slowness", lambda: slow)
    assert in_time(took_s, 1, at_most_s) is expected


def test_a_condition_that_comes_true_too_late_is_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "slowness", lambda: 1.0)
    answers = [False] * 5 + [True]
    assert wait_for(lambda: answers.pop(0), promised_s=60)
    answers = [False] * 5 + [True]
    with pytest.raises(AssertionError, match=r"True only after 0\.\d s, expected 0\.01 at most"):
        wait_for(lambda: answers.pop(0), promised_s=0.01)


def test_waiting_ends_with_the_last_value() -> None:
    with pytest.raises(AssertionError, match=rf"still \[\] after {0.01 * PATIENCE:g} s"):
        wait_for(list, within_s=0.01)


def test_a_server_that_ends_before_it_listens_is_told_by_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen(["sh", "-c", "echo the port is taken >&2; exit 3"], stderr=file) as process,
        pytest.raises(AssertionError, match="did not start: the port is taken"),
    ):
        wait_for_port(process, free_port(), log)


def test_a_machine_is_never_faster_than_itself() -> None:
    assert 1 <= slowness() <= 8
