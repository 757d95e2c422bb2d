"""The search for settings of the training: learning rate, weights of labels and of the hold, augmentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import optuna
import yaml

from edgepose.errors import UsageError
from edgepose_export.callbacks import TaskProgress
from edgepose_export.data.mix import refuse_missing
from edgepose_export.network.checkpoint import network_spec, read_checkpoint
from edgepose_export.network.refiner import RefinerSpec
from edgepose_export.search.study import completed, locked, name_of, open_study, run_trials
from edgepose_export.shipped import find_checkpoint
from edgepose_export.training.callbacks import TrainingCallbacks
from edgepose_export.training_runs import TrainingOptions, chosen_recipe, run_training

DEFAULT_FACTORS = (0.3, 1.0, 3.0)
"""Learning rates that are compared where nobody names others, relative to the recipe's."""

Settings = Mapping[str, object]
"""Attributes of `TrainingOptions` by name: `learning_rate`, `label_weight`, `hold_weight`, `augmentation`."""

Choices = Mapping[str, Sequence[object]]
"""Values of each setting, all of whose combinations are tried."""

_LARGEST_FACTOR = 1000.0
_AUGMENTATIONS = {"pose": ("none", "light", "full"), "refine": ("none", "crops")}


@dataclass(frozen=True, slots=True)
class TunedRun:
    """One training of a search.

    Attributes:
        settings: that it was trained with.
        ap: its best accuracy.
        checkpoint: that has this accuracy.
        recipe: file of its recipe, complete with the settings.
    """

    settings: Settings
    ap: float
    checkpoint: Path
    recipe: Path


@dataclass(frozen=True, slots=True)
class TuneResult:
    """All trainings of a search, the most accurate first."""

    runs: tuple[TunedRun, ...]

    @property
    def best(self) -> TunedRun:
        """The most accurate training."""
        return self.runs[0]


def tune_training(
    options: TrainingOptions,
    choices: Choices | None = None,
    *,
    trials: int = 20,
    seed: int = 0,
    callbacks: Sequence[TrainingCallbacks] = (),
    progress: TaskProgress = lambda task, done, total: None,
) -> TuneResult:
    """Train several times from the same start with other settings, all else equal, and return the trainings by accuracy.

    The study lies in `study.db` of the output folder, so a second call goes on, and several processes may share the work.

    Args:
        options: of each run, which has a folder of its own below `output`; `evaluate` is required, and a short length makes sense.
        choices: a grid; None searches learning rate, weights and augmentation by a model of what the trials so far gave (TPE).
        trials: number of trainings without a grid.
        seed: of the search.
        callbacks: what to call while a run goes on.
        progress: called for trials, and for what takes time in them.

    Raises:
        UsageError: there is nothing to compare.
        ConfigError: as of `run_training`.
    """
    if options.evaluate is None:
        raise UsageError("tuning compares the accuracy of runs; expected other labeled pictures as evaluate")
    grid = None if choices is None else _grid(choices)
    count = trials if grid is None else _size(grid)
    if count < 2:
        raise UsageError(f"{count} training would be compared with nothing; expected at least 2")

    refuse_missing(options.data, options.evaluate)

    def sampler(opened: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed + opened) if grid is None else optuna.samplers.GridSampler(grid, seed=seed)  # type: ignore[arg-type]

    study = open_study(options.output / "study.db", "training", ["maximize"], sampler)
    spec = network_spec(find_checkpoint(options.warm_start))

    augmentations = _AUGMENTATIONS["refine" if isinstance(spec, RefinerSpec) else "pose"]

    def objective(trial: optuna.Trial) -> float:
        settings = _suggest(trial, augmentations) if grid is None else _from_grid(trial, grid)
        folder = options.output / name_of(settings)
        trial.set_user_attr("settings", settings)
        trial.set_user_attr("folder", folder.name)
        run = replace(options, output=folder, resume=True, **_combined(options, settings))
        with locked(folder / "lock"):
            recipe = yaml.safe_dump(msgspec.to_builtins(chosen_recipe(run, spec)), sort_keys=False)
            (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
            result = run_training(run, callbacks=callbacks, progress=progress)
        if result is None or result.ap is None:
            raise UsageError("no run was measured; expected one process")
        return result.ap

    if grid is None and not study.get_trials(deepcopy=False):  # the recipe as it is comes first
        own = chosen_recipe(options, spec).phases[0].augmentation
        study.enqueue_trial({"learning_rate": 1.0, "label_weight": 1.0, "hold_weight": 1.0, "augmentation": own})
    run_trials(study, objective, count, lambda done, total: progress("trainings", done, total))
    runs = []
    for trial in completed(study):
        folder = options.output / trial.user_attrs["folder"]
        best = folder / "best.pt"
        runs.append(TunedRun(trial.user_attrs["settings"], float(read_checkpoint(best)["AP"]), best, folder / "recipe.yaml"))
    return TuneResult(tuple(sorted(runs, key=lambda run: -run.ap)))


def _suggest(trial: optuna.Trial, augmentations: Sequence[str]) -> dict[str, Any]:
    return {
        "learning_rate": round(trial.suggest_float("learning_rate", 0.2, 5.0, log=True), 3),
        "label_weight": round(trial.suggest_float("label_weight", 0.25, 4.0, log=True), 3),
        "hold_weight": round(trial.suggest_float("hold_weight", 0.25, 4.0, log=True), 3),
        "augmentation": trial.suggest_categorical("augmentation", augmentations),
    }


def _from_grid(trial: optuna.Trial, grid: Mapping[str, list[Any]]) -> dict[str, Any]:
    return {name: trial.suggest_categorical(name, values) for name, values in grid.items()}


def _combined(options: TrainingOptions, settings: Settings) -> dict[str, Any]:
    """Return the settings with factors multiplied by those of the options."""
    return {name: getattr(options, name) * value if isinstance(value, float) else value for name, value in settings.items()}


def _grid(choices: Choices) -> dict[str, list[object]]:
    grid = {name: [float(v) if isinstance(v, int | float) else v for v in values] for name, values in choices.items()}
    for name, values in grid.items():
        factors = [value for value in values if isinstance(value, float)]
        if len(set(values)) < len(values) or len(values) < 2 or not all(0 < factor <= _LARGEST_FACTOR for factor in factors):
            raise UsageError(
                f"the values of {name.replace('_', ' ')} are {tuple(values)}; expected at least two different factors above 0, "
                f"at most {_LARGEST_FACTOR:g}"
            )
    return grid


def _size(grid: Mapping[str, Sequence[object]]) -> int:
    count = 1
    for values in grid.values():
        count *= len(values)
    return count
