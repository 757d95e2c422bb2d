"""The search for a network: what is dropped of a trained one, and the size of its input, against its measured time.

Each variant inherits the trained weights, trains for a short while with the trained network as its teacher, and is measured as the
file that it becomes, in the runtime's own engine on this machine.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import optuna
import torch
import yaml
from scipy import stats
from torch import Tensor

from edgepose.errors import ConfigError, UsageError
from edgepose.model.file import STRIDE_PX
from edgepose_export.callbacks import TaskProgress
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.mix import MixedFolder, refuse_missing
from edgepose_export.evaluation.boxes import compare_boxes
from edgepose_export.evaluation.coco import evaluate_predictions, predictions_of
from edgepose_export.evaluation.predictor import ModelPredictor
from edgepose_export.make_model.compare import call_times_ms
from edgepose_export.network.checkpoint import load_deployed, parameters_count, save_network
from edgepose_export.network.ghostify import GHOST_LAYERS
from edgepose_export.network.layers import count_multiply_adds
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.network.to_onnx import Card, write_onnx
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.search.front import Point, write_front
from edgepose_export.search.study import completed, locked, open_study, refuse_repetition, run_trials
from edgepose_export.search.variants import Structure, make_variant
from edgepose_export.shipped import find_checkpoint
from edgepose_export.steps import replace_text
from edgepose_export.training.callbacks import TrainingCallbacks
from edgepose_export.training.norms import calibrate_norms, plain_batches
from edgepose_export.training_runs import TrainingOptions, chosen_recipe, run_training

_FIT_PICTURES = 32
_FIT_SIZE_PX = 320
_TIMED_PICTURES = 32


@dataclass(frozen=True, slots=True)
class NetworkSearchOptions:
    """The options of `edgepose-export tune`.

    Attributes:
        start: shipped checkpoint or file of a plain pose network; it is the teacher of all variants.
        data: labeled pictures to train on, each as `FOLDER[:SPLIT][@SHARE]`.
        evaluate: other labeled pictures, which decide.
        output: folder of the study, the variants and the front.
        trials: number of points to measure.
        pictures: length of a variant's training.
        sizes: smallest and largest long side of the input in pixels.
        least: smallest share of the multiply-adds that stays when maps are pruned.
        limit: pictures to measure with, from the first; 0 is all.
        rounds: calls of each file that are timed, in turn with the file of the start.
        confirm: points that are trained longer at the end, to see whether the short training ranks them rightly; 0 is none.
        longer: how many times as long.
        recipe: of the training.
        workers, threads: as of `edgepose_export.training_runs.TrainingOptions`.
        seed: of the search.
    """

    start: str
    data: Sequence[str]
    evaluate: Path
    output: Path
    trials: int = 20
    pictures: int = 1000
    sizes: tuple[int, int] = (224, 384)
    least: float = 0.5
    limit: int = 0
    rounds: int = 40
    confirm: int = 0
    longer: int = 6
    recipe: str = "finetune-pruned"
    workers: int = 1
    threads: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The comparison of short trainings with longer ones.

    Attributes:
        points: box AP after the short and after the long training, by the name of the point.
        longer: how many times as long.
        spearman: rank correlation of both; None where all points of one are equal.
    """

    points: Mapping[str, tuple[float, float]]
    longer: int
    spearman: float | None


@dataclass(frozen=True, slots=True)
class NetworkSearchResult:
    """All measured points of a search.

    Attributes:
        points: in the order of the trials; the first is the start itself.
        front: those that no other point beats in both time and box AP, by rising time.
        confirmation: of the short training; None where none was asked for.
    """

    points: tuple[Point, ...]
    front: tuple[Point, ...]
    confirmation: Confirmation | None

    @property
    def better(self) -> tuple[Point, ...]:
        """The points of the front that are faster than the start at no less box AP."""
        start = self.points[0]
        return tuple(point for point in self.front if point.time_ratio < start.time_ratio and point.box_ap >= start.box_ap)


def search_network(
    options: NetworkSearchOptions,
    *,
    callbacks: Sequence[TrainingCallbacks] = (),
    progress: TaskProgress = lambda task, done, total: None,
) -> NetworkSearchResult:
    """Search for networks that are faster or more accurate, and write the front with a recipe of each point.

    The study lies in `study.db` of the output folder, so a second call goes on, and several processes may share the work.

    Args:
        callbacks: of the trainings.
        progress: called for trials, and for what takes time in them.

    Raises:
        UsageError: a number is out of range.
        ConfigError: data or checkpoint are refused.
    """
    if options.trials < 2 or any(size % STRIDE_PX or size <= 0 for size in options.sizes) or options.sizes[0] > options.sizes[1]:
        raise UsageError(
            f"trials is {options.trials} and sizes {options.sizes}; expected at least 2, and a smaller and a larger multiple of {STRIDE_PX}"
        )
    refuse_missing(options.data, options.evaluate)
    study = open_study(
        options.output / "study.db",
        "network",
        ["maximize", "minimize"],
        lambda opened: optuna.samplers.TPESampler(seed=options.seed + opened),
    )
    space = _Space(options, progress, callbacks)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(space.parameters_of_start())

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        structure, size = space.suggest(trial)
        refuse_repetition(study, trial)
        point = space.measure(structure, size, options.pictures)
        trial.set_user_attr("point", asdict(point))
        trial.set_user_attr("structure", asdict(structure))
        return point.box_ap, point.time_ratio

    run_trials(study, objective, options.trials, lambda done, total: progress("trials", done, total))
    done = completed(study)
    points = tuple(dict.fromkeys(Point(**trial.user_attrs["point"]) for trial in done))
    confirmation = None
    if options.confirm:
        made = {trial.user_attrs["point"]["structure"]: Structure(**trial.user_attrs["structure"]) for trial in done}
        confirmation = _confirm(space, points, made, options, progress)
    front = write_front(options.output, points)
    for point in front:
        space.write_recipe(point, options.output / "front" / f"{point.name}.yaml")
    result = NetworkSearchResult(points, front, confirmation)
    text = {
        "start": asdict(points[0]),
        "front": [asdict(point) for point in front],
        "better": [point.name for point in result.better],
        "points": [asdict(point) for point in points],
        "confirmation": None if confirmation is None else asdict(confirmation),
    }
    replace_text(options.output / "trials.json", json.dumps(text, indent=2) + "\n")
    return result


def _confirm(
    space: "_Space",
    points: Sequence[Point],
    structures: Mapping[str, Structure],
    options: NetworkSearchOptions,
    progress: TaskProgress,
) -> Confirmation:
    """Train some points, evenly chosen by their box AP, for longer; the start itself is not trained, so it is none of them."""
    trained = sorted((point for point in points if point.structure != points[0].structure), key=lambda point: point.box_ap)
    by_structure = list({point.structure: point for point in trained}.values())
    count = min(options.confirm, len(by_structure))
    if count < 2:
        raise UsageError(f"{len(by_structure)} different networks were trained; expected at least 2 to compare their ranks")
    chosen = [by_structure[round(index * (len(by_structure) - 1) / (count - 1))] for index in range(count)]
    pairs: dict[str, tuple[float, float]] = {}
    for done, point in enumerate(chosen, 1):
        longer = space.measure(structures[point.structure], point.size, options.longer * options.pictures)
        pairs[point.name] = (point.box_ap, longer.box_ap)
        progress("longer trainings", done, count)
    short, long = zip(*pairs.values(), strict=True)
    varies = len(set(short)) > 1 and len(set(long)) > 1
    return Confirmation(pairs, options.longer, float(stats.spearmanr(short, long).statistic) if varies else None)


class _Space:
    """The variants of a search, on disk: one folder for each structure, which input sizes and processes share."""

    def __init__(self, options: NetworkSearchOptions, progress: TaskProgress, callbacks: Sequence[TrainingCallbacks]) -> None:
        self._options, self._progress, self._callbacks = options, progress, callbacks
        full = load_deployed(find_checkpoint(options.start))
        if not isinstance(full, PoseNetwork) or full.spec.ghost or full.spec.maps:
            raise ConfigError(f"{options.start} is a refiner, has Ghost modules or is pruned; expected a plain pose network: ghost-n")
        self._full = full.requires_grad_(False)
        self._aside = CocoPose([options.evaluate], cache=False)
        self._sources = [MixedFolder.parse(text) for text in options.data]
        self._batches: list[Tensor] = []
        self._reference = options.output / "start.onnx"
        self._size_px = max(options.sizes[0], min(_FIT_SIZE_PX, options.sizes[1]))
        with locked(options.output / "study.lock"):
            if not self._reference.exists():
                write_onnx(find_checkpoint(options.start), self._reference, Card("start", self._size_px))

    def parameters_of_start(self) -> dict[str, object]:
        """Return the parameters of the trained network itself."""
        blocks = self._full.spec.blocks
        return {"blocks_8": blocks[1], "blocks_16": blocks[2], "ghost": 0, "keep": 1.0, "size": self._size_px}

    def suggest(self, trial: optuna.Trial) -> tuple[Structure, int]:
        """Let the study choose a structure and an input size."""
        blocks = self._full.spec.blocks
        structure = Structure(
            (trial.suggest_int("blocks_8", 1, blocks[1]), trial.suggest_int("blocks_16", 1, blocks[2])),
            trial.suggest_int("ghost", 0, len(GHOST_LAYERS) // 2 * 2, step=2),
            round(trial.suggest_float("keep", self._options.least, 1.0, step=0.1), 2),
        )
        return structure, trial.suggest_int("size", *self._options.sizes, step=STRIDE_PX)

    def measure(self, structure: Structure, size: int, pictures: int) -> Point:
        """Make and train the variant where that is not done, and measure accuracy and time of its file."""
        folder = self._options.output / "variants" / structure.name
        run = folder / f"train-{pictures}"
        with locked(folder / "lock"):
            network = self._trained(structure, folder, run, pictures)
            file = run / f"{size}.onnx"
            write_onnx(network, file, Card(f"{structure.name}-{size}", size))
        box_ap, ap = self._accuracy(file)
        with locked(self._options.output / "clock.lock"):  # two measurements at once would disturb each other
            timed = CalibrationSet([source.folder for source in self._sources], _TIMED_PICTURES)
            calls = call_times_ms([self._reference, file], timed, self._options.rounds, lambda done, total: None)
        reference_ms, time_ms = (min(times) for times in calls)
        deployed = load_deployed(network)
        return Point(
            f"{structure.name}-size-{size}",
            structure.name,
            size,
            box_ap,
            ap,
            round(time_ms, 3),
            round(time_ms / reference_ms, 4),
            count_multiply_adds(deployed, torch.zeros(1, 3, size, size)),
            parameters_count(deployed),
            file.stat().st_size,
        )

    def write_recipe(self, point: Point, path: Path) -> None:
        """Write the recipe of a point: its network, and the whole training that a good variant deserves."""
        start = self._options.output / "variants" / point.structure / "start.pt"
        checkpoint = start if start.exists() else find_checkpoint(self._options.start)
        spec = load_deployed(checkpoint).spec
        options = TrainingOptions(self._options.data, str(checkpoint), Path(), recipe=self._options.recipe)
        recipe = msgspec.structs.replace(chosen_recipe(options, spec), name=point.name)
        how = f"edgepose-export train {path} --warm-start {checkpoint} --data FOLDER --output RUN; input size {point.size}"
        replace_text(path, f"# {how}\n{yaml.safe_dump(msgspec.to_builtins(recipe), sort_keys=False)}")

    def _trained(self, structure: Structure, folder: Path, run: Path, pictures: int) -> Path:
        """Return the checkpoint of a variant after its training; the trained network itself needs none."""
        if structure == Structure(self._full.spec.blocks[1:3]):
            return find_checkpoint(self._options.start)
        start = folder / "start.pt"
        if not start.exists():
            pictures_to_fit = self._pictures()
            try:
                network = make_variant(self._full, structure, pictures_to_fit)
            except ConfigError as error:
                raise optuna.TrialPruned(str(error)) from error
            calibrate_norms(network, pictures_to_fit)
            teacher = {"spec": msgspec.to_builtins(self._full.spec), "state": self._full.state_dict()}
            save_network(start, network, teacher=teacher)
        options = TrainingOptions(
            self._options.data, str(start), run, recipe=self._options.recipe, pictures=pictures, resume=True,
            workers=self._options.workers, threads=self._options.threads,
        )  # fmt: skip
        result = run_training(options, callbacks=self._callbacks, progress=self._progress)
        if result is None:
            raise UsageError("tune runs in processes of its own; expected no torchrun")
        return result.last

    def _accuracy(self, file: Path) -> tuple[float, float]:
        """Return AP of boxes and of keypoints, from one pass over the pictures."""
        with ModelPredictor(file) as predictor:
            predictions = predictions_of(
                predictor, self._aside, self._options.limit, lambda done, total: self._progress("measuring", done, total)
            )
        labels: list[Any] = [self._aside[index] for index in range(len(predictions))]
        return round(compare_boxes(predictions, labels).ap, 4), round(evaluate_predictions(predictions, labels).ap, 4)

    def _pictures(self) -> list[Tensor]:
        if not self._batches:
            data = CocoPose([source.folder for source in self._sources])
            self._batches = plain_batches(self._full, data, _FIT_PICTURES, _FIT_SIZE_PX)
        return self._batches
