"""Pruning from a checkpoint to a smaller one, in rounds of scores, removal, a fit in closed form and fine-tuning."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from edgepose.errors import ConfigError, UsageError
from edgepose_export.callbacks import TaskProgress
from edgepose_export.data.augment import Augmentation
from edgepose_export.data.batches import Batches
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import plans_for
from edgepose_export.data.mix import MixedFolder, MixedPlans
from edgepose_export.network.checkpoint import load_averaged, load_deployed, parameters_count, save_network
from edgepose_export.network.layers import count_multiply_adds, fuse
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.pruning import scores as scored
from edgepose_export.pruning.channels import ChannelSet, channel_sets
from edgepose_export.pruning.refit import refit
from edgepose_export.pruning.scores import Method, Scores
from edgepose_export.pruning.selection import choose_removed
from edgepose_export.pruning.shrink import shrink
from edgepose_export.shipped import find_checkpoint
from edgepose_export.training.callbacks import TrainingCallbacks
from edgepose_export.training.norms import calibrate_norms, plain_batches
from edgepose_export.training.pose_losses import pose_losses
from edgepose_export.training.recipe import PoseWeights
from edgepose_export.training_runs import TrainingOptions, run_training

_LABELS = PoseWeights(hold_score=0, hold_box=0)
_PICTURES_A_LOSS = 2
"""Pictures of each gradient: the mean over many hides what single ones need."""


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """The options of `edgepose-export prune`.

    Attributes:
        start: shipped checkpoint or file of a pose network; it is the teacher of the fine-tuning.
        data: labeled pictures, each as `FOLDER[:SPLIT][@SHARE]`: for scores, the fit and fine-tuning.
        output: folder of the run.
        method: what a map is worth by.
        keep: share of the multiply-adds that may remain.
        multiple: of which all widths stay multiples: 8 for float, 16 where INT8 runs on tensor cores.
        rounds: in which the maps go.
        pictures: length of the fine-tuning in pictures, over all rounds; 0 leaves it out.
        calibration_pictures: for scores by activation, for the fit and for batch-norms.
        gradient_pictures: for scores by gradient.
        size: side of the pictures in pixels.
        recipe: of the fine-tuning.
        resume: continue where the run stopped.
        evaluate: other labeled pictures to measure with while fine-tuning; None measures nothing.
        workers, threads: as of `edgepose_export.training_runs.TrainingOptions`.
        seed: of random scores.
    """

    start: str
    data: Sequence[str]
    output: Path
    method: Method = "sensitivity"
    keep: float = 0.7
    multiple: int = 8
    rounds: int = 1
    pictures: int = 0
    calibration_pictures: int = 96
    gradient_pictures: int = 96
    size: int = 320
    recipe: str = "finetune-pruned"
    resume: bool = False
    evaluate: Path | None = None
    workers: int = 1
    threads: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PruneResult:
    """A pruned network beside the full one.

    Attributes:
        checkpoint: file of the pruned network, with batch-norms folded.
        multiply_adds, full_multiply_adds: of a picture of the size.
        parameters, full_parameters: number of trained values.
    """

    checkpoint: Path
    multiply_adds: int
    full_multiply_adds: int
    parameters: int
    full_parameters: int


def prune(
    options: PruneOptions,
    *,
    callbacks: Sequence[TrainingCallbacks] = (),
    progress: TaskProgress = lambda task, done, total: None,
) -> PruneResult:
    """Prune a network in rounds; each one scores, removes, fits and trains. Write `pruned.pt` into the folder.

    Args:
        callbacks: of the fine-tuning.
        progress: called for what takes time.

    Raises:
        UsageError: a share or a number is out of range.
        ConfigError: data or checkpoint are refused, or so few multiply-adds cannot be reached.
    """
    if not 0 < options.keep < 1 or options.rounds < 1 or options.multiple < 1:
        raise UsageError(
            f"keep is {options.keep}, rounds {options.rounds}, multiple {options.multiple}; expected a share between 0 and 1, "
            "and at least 1 for the others"
        )
    source = find_checkpoint(options.start)
    full = load_deployed(source)
    if not isinstance(full, PoseNetwork):
        raise ConfigError(f"{source} is a refiner, whose maps are shuffled between branches; expected a checkpoint of a pose network")
    picture = torch.zeros(1, 3, options.size, options.size)
    pruner = _Pruner(options, full, progress)
    current = source
    for number in range(1, options.rounds + 1):
        folder = options.output / f"round-{number}"
        start = folder / "start.pt"
        if not (options.resume and start.is_file()):
            keep = count_multiply_adds(full, picture) * options.keep ** (number / options.rounds)
            pruner.round(current, keep / count_multiply_adds(load_deployed(current), picture), start)
        current = start
        if options.pictures:
            run = TrainingOptions(
                data=options.data, warm_start=str(start), output=folder, recipe=options.recipe,
                pictures=max(1, options.pictures // options.rounds), resume=options.resume, workers=options.workers,
                evaluate=options.evaluate, size=options.size, threads=options.threads,
            )  # fmt: skip
            result = run_training(run, callbacks=callbacks, progress=progress)
            if result is None:
                raise UsageError("prune runs in one process; expected no torchrun")
            current = result.last
    pruned = load_deployed(current)
    checkpoint = options.output / "pruned.pt"
    save_network(checkpoint, pruned)
    return PruneResult(
        checkpoint,
        count_multiply_adds(pruned, picture),
        count_multiply_adds(full, picture),
        parameters_count(pruned),
        parameters_count(full),
    )


class _Pruner:
    """What all rounds share: the full network, and pictures."""

    def __init__(self, options: PruneOptions, full: PoseNetwork, progress: TaskProgress) -> None:
        self._options, self._full, self._progress = options, full, progress
        self._sources = [MixedFolder.parse(text) for text in options.data]
        self._data: CocoPose | None = None
        self._batches: list[Tensor] = []

    def round(self, checkpoint: Path, keep: float, output: Path) -> None:
        """Remove maps of a checkpoint's network, fit the rest, and write a checkpoint with the full network as its teacher."""
        network = load_averaged(checkpoint)
        assert isinstance(network, PoseNetwork)
        before = load_deployed(checkpoint)
        assert isinstance(before, PoseNetwork)
        sets = channel_sets(before)
        removed = choose_removed(before, sets, self._scores(network, before, sets), keep=keep, multiple=self._options.multiple)
        pruned, kept = shrink(before, sets, removed)
        refit(before, pruned, kept, torch.cat(self._pictures()))
        fuse(pruned)
        calibrate_norms(pruned, self._pictures(), lambda done, total: self._progress("statistics of norms", done, total))
        teacher = {"spec": msgspec.to_builtins(self._full.spec), "state": self._full.state_dict()}
        save_network(output, pruned, teacher=teacher)

    def _scores(self, network: PoseNetwork, folded: PoseNetwork, sets: Sequence[ChannelSet]) -> Scores:
        method = self._options.method
        if method == "norm":
            return scored.norm_scores(network, sets)
        if method == "activation":
            return scored.activation_scores(folded, sets, self._pictures())
        if method == "gradient":
            return scored.gradient_scores(folded, sets, self._losses())
        if method == "sensitivity":
            activation = scored.activation_scores(folded, sets, self._pictures())
            return scored.sensitivity_scores(scored.gradient_scores(folded, sets, self._losses()), activation)
        return scored.magnitude_scores(folded, sets) if method == "magnitude" else scored.random_scores(sets, self._options.seed)

    def _losses(self) -> Iterator[Callable[[PoseNetwork], Tensor]]:
        data, options = self._labeled(), self._options
        plans = MixedPlans(plans_for(self._full.spec, data), data, self._sources)
        total = max(1, options.gradient_pictures // _PICTURES_A_LOSS)
        with Batches(data, Augmentation.none(), batch_size=_PICTURES_A_LOSS, sizes=(options.size,), plans=plans) as batches:
            for done, batch in zip(range(1, total + 1), batches, strict=False):
                x = self._full.normalize(torch.from_numpy(batch.images))

                def loss(network: PoseNetwork, x: Tensor = x, batch: object = batch) -> Tensor:
                    return torch.stack(list(pose_losses(network, network(x), None, batch, _LABELS).values())).sum()  # type: ignore[arg-type]

                yield loss
                self._progress("gradients", done, total)

    def _labeled(self) -> CocoPose:
        if self._data is None:
            folders = [source.folder for source in self._sources]
            self._data = CocoPose(folders, progress=lambda done, total: self._progress("labels", done, total))
        return self._data

    def _pictures(self) -> list[Tensor]:
        if not self._batches:
            self._batches = plain_batches(
                self._full,
                self._labeled(),
                self._options.calibration_pictures,
                self._options.size,
                lambda done, total: self._progress("pictures", done, total),
            )
        return self._batches
