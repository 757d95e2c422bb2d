"""A study in a file: processes share it, and what a killed one had begun is taken over."""

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from edgepose.errors import ConfigError, EdgeposeError
from edgepose_export.search import study as studies
from edgepose_export.search.study import completed, name_of, open_study, refuse_repetition, run_trials
from testing.waiting import wait_for

WORKER = """
import os, sys, time
from pathlib import Path
import optuna
from edgepose_export.search import study as studies
folder, die = Path(sys.argv[1]), sys.argv[2] == "die"
studies._HEARTBEAT_S, studies._GRACE_S = 1, 2
study = studies.open_study(folder / "study.db", "shared", ["maximize"], lambda opened: optuna.samplers.RandomSampler(opened))

def objective(trial):
    value = trial.suggest_float("x", 0, 1)
    trial.set_user_attr("process", os.getpid())
    if die:
        time.sleep(1)  # until its first sign of life is in the file
        os._exit(9)
    time.sleep(0.5)
    return value

studies.run_trials(study, objective, 8)
"""


def sampler(opened: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=opened)


def here(trial: optuna.Trial) -> float:
    trial.set_user_attr("process", os.getpid())  # a trial that is taken over brings the mark of the killed process
    return trial.suggest_float("x", 0, 1)


def start(folder: Path, how: str = "") -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), how])


def test_processes_share_a_study_and_take_over_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(tmp_path, "die").wait(120) == 9
    monkeypatch.setattr(studies, "_HEARTBEAT_S", 1)
    monkeypatch.setattr(studies, "_GRACE_S", 2)
    study = open_study(tmp_path / "study.db", "shared", ["maximize"], sampler)
    (left,) = study.get_trials()
    assert left.state == TrialState.RUNNING
    worker = start(tmp_path)
    wait_for(lambda: len(completed(study)) > 0)
    run_trials(study, here, 8)
    assert worker.wait(240) == 0
    trials = completed(study)
    assert len(trials) in (8, 9)  # both may be in their last trial
    assert {trial.user_attrs.get("process") for trial in trials} == {worker.pid, os.getpid()}

    def taken_over() -> bool:
        run_trials(study, here, len(completed(study)) + 1)
        return any(trial.params == left.params and trial.number != left.number for trial in completed(study))

    wait_for(taken_over)
    assert study.get_trials()[left.number].state == TrialState.FAIL


def test_parameters_that_no_network_can_have_are_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(tmp_path / "study.db", "one", ["minimize"], sampler)

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        if value > 0.5:
            raise optuna.TrialPruned("too large")
        return value

    run_trials(study, objective, 3)
    assert len(completed(study)) == 3
    assert study.get_trials(states=(TrialState.PRUNED,))
    monkeypatch.setattr(studies, "_MOST_REFUSED", 1)
    with pytest.raises(EdgeposeError, match="had parameters that no network can have"):
        run_trials(study, objective, 4)


def test_another_error_ends_the_run(tmp_path: Path) -> None:
    study = open_study(tmp_path / "study.db", "one", ["minimize"], sampler)

    def objective(trial: optuna.Trial) -> float:
        raise ConfigError("the data is refused")

    with pytest.raises(ConfigError, match="the data is refused"):
        run_trials(study, objective, 3)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"no database, but long enough to look like one" * 100)
    with pytest.raises(ConfigError, match="is no study of this version"):
        open_study(tmp_path / "study.db", "one", ["maximize"], sampler)
    open_study(tmp_path / "other.db", "one", ["maximize"], sampler)
    with pytest.raises(ConfigError, match="holds a study with other aims"):
        open_study(tmp_path / "other.db", "one", ["maximize", "minimize"], sampler)


def test_names_of_settings() -> None:
    assert name_of({"learning_rate": 0.5}) == "learning-rate-0.5"
    assert name_of({"hold_weight": 1.0, "augmentation": "light"}) == "hold-weight-1-augmentation-light"


def test_no_two_processes_try_the_same(tmp_path: Path) -> None:
    studies_of = [open_study(tmp_path / "study.db", "one", ["maximize"], sampler) for _ in range(2)]

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        refuse_repetition(studies_of[0], trial)
        return value

    for number, study in enumerate(studies_of, 1):
        run_trials(study, objective, number)
    first, second = completed(studies_of[0])
    assert first.params != second.params  # with one seed they would be equal
    studies_of[0].enqueue_trial(first.params)
    run_trials(studies_of[0], objective, 3)
    assert [trial.state for trial in studies_of[0].get_trials()] == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED, TrialState.COMPLETE]
