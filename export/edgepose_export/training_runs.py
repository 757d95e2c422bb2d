"""A whole run of training, from the names of data and checkpoint to the best checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edgepose.errors import UsageError
from edgepose_export.callbacks import TaskProgress
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.mix import MixedFolder, refuse_missing
from edgepose_export.data.statistics import LabelStatistics, write_label_statistics
from edgepose_export.evaluation.in_training import TrainingMeasure
from edgepose_export.network.checkpoint import NetworkSpec, network_spec, read_checkpoint
from edgepose_export.network.refiner import RefinerSpec
from edgepose_export.quantization.islands import FLOAT_PLACES, name_lies_in
from edgepose_export.shipped import find_checkpoint, find_recipe
from edgepose_export.training.callbacks import TrainingCallbacks
from edgepose_export.training.recipe import (
    AugmentationName,
    Recipe,
    load_recipe,
    with_augmentation,
    with_learning_rate,
    with_length,
    with_loss_weights,
    with_sparsity,
    without_teacher,
)
from edgepose_export.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The options of `edgepose-export train`.

    Attributes:
        data: labeled pictures, each as `FOLDER[:SPLIT][@SHARE]`.
        warm_start: shipped checkpoint or file to start from.
        output: folder of the run.
        recipe: shipped recipe or YAML file; None trains the network of `warm_start` further.
        teacher: what holds the network: a checkpoint, or RTMDet-nano or PP-TinyPose as ONNX; None takes that of `warm_start`.
        minutes: without a recipe, length of the training; with one, time limit. 0 is none.
        pictures: length of the training in pictures; None is the recipe's.
        resume: continue from the run's last checkpoint.
        labels_only: learn from labels alone, without a teacher.
        workers: threads that make batches.
        evaluate: other labeled pictures to measure with; None measures nothing.
        size: long side in pixels of a pose network's input for `evaluate`.
        threads: of the network on a CPU; 0 is one per core.
        qat: quantization-aware training.
        tensorboard: write event files too.
        learning_rate: factor on the learning rates of the recipe.
        label_weight: factor on the weights of all losses of labels.
        hold_weight: factor on the weights of all losses against the teacher.
        augmentation: of all phases (`edgepose_export.training.recipe.Phase.augmentation`); None is the recipe's.
        sparsity: weight of the batch-norm scales in the loss (`edgepose_export.training.recipe.Phase.sparsity`).
    """

    data: Sequence[str]
    warm_start: str
    output: Path
    recipe: str | None = None
    teacher: Path | None = None
    minutes: float = 0.0
    pictures: int | None = None
    resume: bool = False
    labels_only: bool = False
    workers: int = 1
    evaluate: Path | None = None
    size: int = 320
    threads: int = 0
    qat: bool = False
    tensorboard: bool = False
    learning_rate: float = 1.0
    label_weight: float = 1.0
    hold_weight: float = 1.0
    augmentation: AugmentationName | None = None
    sparsity: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The end of a run.

    Attributes:
        complete: whether the recipe is complete; otherwise the time limit is reached.
        last: checkpoint to continue from.
        best: checkpoint with the best accuracy; None where nothing was measured.
        ap: that accuracy; None likewise.
    """

    complete: bool
    last: Path
    best: Path | None
    ap: float | None

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint, or the last one where nothing was measured."""
        return self.best or self.last


def run_training(
    options: TrainingOptions,
    *,
    callbacks: Sequence[TrainingCallbacks] = (),
    progress: TaskProgress = lambda task, done, total: None,
    describe: Callable[[LabelStatistics], None] = lambda statistics: None,
) -> TrainingResult | None:
    """Train a network, phase by phase; of several processes the others than the first return None.

    Args:
        callbacks: what to call while the run goes on.
        progress: called while labels are read and while the network is measured.
        describe: takes the figures of the labels before the first step.

    Raises:
        UsageError: two lengths are given.
        ConfigError: data, checkpoint or recipe are refused.
    """
    if options.recipe is None and options.minutes and options.pictures:
        raise UsageError("minutes and pictures are both the length of the training; expected one of them without a recipe")
    refuse_missing(options.data, options.evaluate)
    torch.set_flush_denormal(True)  # before any thread starts: it slows a run tenfold once weights become tiny
    start = find_checkpoint(options.warm_start)
    plan = chosen_recipe(options, network_spec(start))
    measure = None
    if options.evaluate is not None:
        kept_aside = CocoPose([options.evaluate], progress=lambda done, total: progress("labels to measure with", done, total))
        measure = TrainingMeasure(kept_aside, options.size, progress)
    trainer = Trainer(
        plan,
        [MixedFolder.parse(text) for text in options.data],
        start,
        options.output,
        resume=options.resume,
        teacher=options.teacher,
        length_minutes=options.minutes if options.recipe is None else 0.0,
        workers=options.workers,
        threads=options.threads,
        measure=measure,
        callbacks=callbacks,
        tensorboard=options.tensorboard,
        integer=_integer_layers(plan.network) if options.qat else None,
        progress=lambda done, total: progress("labels", done, total),
    )
    if not (trainer.rank or trainer.state.steps):
        describe(write_label_statistics(list(trainer.data), options.output / "labels.png"))
    complete = trainer.run(options.minutes if options.recipe is not None else 0.0)
    if trainer.rank:
        return None
    if measure is not None:
        measure.write_plots(options.output)
    best = trainer.best if trainer.best.exists() else None
    return TrainingResult(complete, options.output / "last.pt", best, None if best is None else float(read_checkpoint(best)["AP"]))


def _integer_layers(network: NetworkSpec) -> Callable[[str], bool]:
    """Return a test for the names of the layers that `edgepose-export quantize` makes INT8."""
    places = ("refinement", *FLOAT_PLACES["refine" if isinstance(network, RefinerSpec) else "pose"])
    return lambda name: not name_lies_in(name, places)


def chosen_recipe(options: TrainingOptions, network: NetworkSpec) -> Recipe:
    """Return the recipe of the options, with all that they change in it; without a name or file, that for further training of a network.

    Raises:
        ConfigError: the recipe is refused.
    """
    chosen = options.recipe or ("finetune-refiner" if isinstance(network, RefinerSpec) else "finetune-pose")
    plan = load_recipe(find_recipe(chosen), network)
    if options.labels_only:
        plan = without_teacher(plan)
    if options.learning_rate != 1:
        plan = with_learning_rate(plan, options.learning_rate)
    if options.label_weight != 1 or options.hold_weight != 1:
        plan = with_loss_weights(plan, options.label_weight, options.hold_weight)
    if options.augmentation is not None:
        plan = with_augmentation(plan, options.augmentation)
    if options.sparsity:
        plan = with_sparsity(plan, options.sparsity)
    return plan if options.pictures is None else with_length(plan, options.pictures)
