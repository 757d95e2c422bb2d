"""A study in an SQLite file: several processes may work on it at once, and a later one goes on where they stopped."""

import fcntl
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from edgepose.errors import ConfigError, EdgeposeError, OutputError

Direction = Literal["maximize", "minimize"]

_HEARTBEAT_S = 30
_GRACE_S = 120
"""A trial without a sign of life for this long belonged to a process that was killed; another process takes it over."""

_MOST_REFUSED = 200
_LOCK_S = 60
"""Longest wait for another process that writes."""


def open_study(path: Path, name: str, directions: Sequence[Direction], sampler: Callable[[int], BaseSampler]) -> optuna.Study:
    """Open a study in an SQLite file, or begin it.

    Args:
        path: of the file.
        name: of the study in it.
        directions: of each value.
        sampler: makes the sampler from how often the study was opened before, so that no two processes try the same.

    Raises:
        ConfigError: the file holds another study, or is none.
        OutputError: the folder cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made: {error.strerror or error}") from error
    try:
        with warnings.catch_warnings(), locked(path.with_suffix(".lock")):  # tables are made once
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}",
                engine_kwargs={"connect_args": {"timeout": _LOCK_S}},
                heartbeat_interval=_HEARTBEAT_S,
                grace_period=_GRACE_S,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3),
            )
            study = optuna.create_study(study_name=name, storage=storage, directions=list(directions), load_if_exists=True)
            opened = int(study.user_attrs.get("opened", 0))
            study.set_user_attr("opened", opened + 1)
            study.sampler = sampler(opened)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be written: {error.strerror or error}") from error
    except Exception as error:  # of SQLAlchemy and SQLite, which Optuna does not map
        raise ConfigError(f"{path} is no study of this version ({type(error).__name__}); expected another folder") from error
    if [direction.name.lower() for direction in study.directions] != list(directions):
        raise ConfigError(f"{path} holds a study with other aims; expected another folder")
    return study


def run_trials(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], Any],
    count: int,
    done: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Run trials until `count` of all processes are complete.

    Args:
        study: of `open_study`.
        objective: runs one trial; its `TrialPruned` marks parameters that no network can have or that were tried. Other errors end the run.
        count: of complete trials.
        done: called after each trial with the number of complete ones and `count`.

    Raises:
        EdgeposeError: too many trials were pruned.
    """
    while len(completed(study)) < count:
        refused = len(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))
        if refused >= _MOST_REFUSED:
            raise EdgeposeError(f"{refused} trials had parameters that no network can have; expected some that fit the network")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.optimize(objective, n_trials=1)
        done(min(len(completed(study)), count), count)


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, in the order of their numbers."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def refuse_repetition(study: optuna.Study, trial: optuna.Trial) -> None:
    """End a trial whose parameters another one has that is complete or running.

    Raises:
        TrialPruned: there is such a trial.
    """
    for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING)):
        if other.number < trial.number and other.params == trial.params:
            raise optuna.TrialPruned(f"trial {other.number} has the same parameters")


def name_of(values: Mapping[str, object]) -> str:
    """Return a name for files from the parameters of a trial, the same for the same values: `learning-rate-0.5`."""
    parts = (f"{key}-{value:g}" if isinstance(value, float) else f"{key}-{value}" for key, value in values.items())
    return re.sub(r"[^a-zA-Z0-9.]+", "-", "-".join(parts))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock: only one process at a time is inside; a killed one lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
