"""The training loop: the phases of a recipe, resumable at any checkpoint, on CPU or CUDA, in one process or several."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgepose.errors import ConfigError
from edgepose_export.callbacks import Progress
from edgepose_export.data.augment import Augmentation
from edgepose_export.data.batches import Batch, Batches, Position
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import plans_for
from edgepose_export.data.device_batches import DevicePictures
from edgepose_export.data.mix import MixedFolder, MixedPlans
from edgepose_export.data.preview import contact_sheet
from edgepose_export.data.warp import Canvas
from edgepose_export.network.checkpoint import (
    Network,
    build,
    load_averaged,
    load_network,
    load_weights,
    read_checkpoint,
    save_network,
)
from edgepose_export.network.head import PoseMaps
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.network.refiner import RefinerNetwork, RefinerSpec
from edgepose_export.training.callbacks import TrainingCallbacks, TrainingProgress
from edgepose_export.training.fake_quantization import quantize_in_training
from edgepose_export.training.norms import calibrate_norms, has_norms, norm_scales, plain_batches
from edgepose_export.training.parameter_groups import parameter_groups, set_modes
from edgepose_export.training.pose_losses import pose_losses, unexplained
from edgepose_export.training.processes import ProcessGroup
from edgepose_export.training.recipe import Phase, PoseWeights, Recipe
from edgepose_export.training.refiner_losses import RefinerWeights, refiner_losses
from edgepose_export.training.run_log import RunLog
from edgepose_export.training.schedule import MovingAverage, learning_rate_factor
from edgepose_export.training.teacher import load_teacher

_AUGMENTATIONS = {
    "none": Augmentation.none(),
    # Pictures of 320 to 400 px: people of all sizes, in mosaics too, never enlarged far.
    "light": Augmentation(scale=(0.6, 1.25), zoom_out=0.15, tilt=0.05, overhead=0.03, mosaic=0.3, mosaic_scale=(0.8, 1.6),
                          own_resolution=True, noise=0.05, jpeg=0.05, motion_blur=0.03, blur=0.05),
    "full": Augmentation(),
    # A refiner's crops: any angle, and what drones' cameras and other things do to a person.
    "crops": Augmentation(rotate=0.4, rotate_degrees=30.0, turn=0.3, noise=0.15, dark=0.1, cover=0.2, jpeg=0.1),
}  # fmt: skip
_CHECKPOINT_EVERY_S = 120.0
_MEASURE_EVERY_S = 230.0  # at every second checkpoint
_MOST_MEASURING = 0.1
"""Share of the time that measurements between checkpoints may take."""

_MAXIMUM_GRADIENT_NORM = 5.0
_NORM_PICTURES = 64


@dataclass
class TrainingState:
    """The progress of training; a checkpoint holds all of it.

    Attributes:
        phase: index of the current phase.
        pictures: trained on in this phase.
        steps: of all phases.
        position: in the stream of batches.
        seconds: of training, over all phases; measurements are not counted.
        phase_seconds: of training in this phase.
        sizes: root mean square of each trained tensor at the beginning of the phase, which learning rates are relative to.
    """

    phase: int = 0
    pictures: int = 0
    steps: int = 0
    position: Position = field(default_factory=Position)
    seconds: float = 0.0
    phase_seconds: float = 0.0
    sizes: dict[str, float] = field(default_factory=dict)


class Trainer:
    """The training of one network by a recipe.

    Args:
        recipe: the network and its phases.
        sources: labeled data sets and their shares.
        start: checkpoint to start from, as `edgepose-export ghostify` writes it (student and teacher) or as it ships (its own teacher).
        output: folder for `last.pt` (everything needed to continue), `best.pt` (the averaged weights with the best measurement),
            `log.csv`, `curve.png`, and for each phase `pictures-<phase>.png`: some of the pictures and labels as the network sees them.
        resume: continue from `output/last.pt` where it exists.
        teacher: what holds the network, as of `edgepose_export.training.teacher.load_plain`; None takes the start's.
        length_minutes: of the whole training, measurements aside. The phases share it by their numbers of pictures, and each learning
            rate ends where its phase does. 0 takes the pictures themselves.
        workers: threads that make batches.
        threads: threads of the network on a CPU; 0 leaves torch's choice.
        measure: returns the AP of a network; called before training, every few minutes, at every stop and at the end of each phase.
        callbacks: what to call while the run goes on.
        tensorboard: write event files too.
        integer: quantization-aware training of the layers for whose name it is true; None trains in float.
        progress: called after each picture whose labels are read.

    Raises:
        ConfigError: data, start or checkpoint do not fit the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        sources: Sequence[MixedFolder],
        start: Path,
        output: Path,
        *,
        resume: bool,
        teacher: Path | None = None,
        length_minutes: float = 0.0,
        workers: int = 1,
        threads: int = 0,
        measure: Callable[[Network], float] | None = None,
        callbacks: Sequence[TrainingCallbacks] = (),
        tensorboard: bool = False,
        integer: Callable[[str], bool] | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not recipe.phases:
            raise ConfigError(f"recipe {recipe.name} has no phases: nothing to train")
        refines = isinstance(recipe.network, RefinerSpec)
        for phase in recipe.phases:
            if isinstance(phase.losses, RefinerWeights) != refines:
                task = "refine" if refines else "pose"
                raise ConfigError(
                    f"phase {phase.name} of recipe {recipe.name} has losses for another task; expected `task: {task}` in them"
                )
        if threads:
            torch.set_num_threads(threads)
        self.recipe, self.output = recipe, output
        self.processes = ProcessGroup()
        self.device, self.rank = self.processes.device, self.processes.rank
        # A GPU keeps the decoded pictures in its memory and reads each file once, so the files need not be cached.
        folders = [source.folder for source in sources]
        self.data = CocoPose(folders, cache=self.device.type == "cpu", box_people=not refines, progress=progress)
        self.pictures = None if self.device.type == "cpu" else DevicePictures(self.data, self.device, workers=workers)
        self.plans = MixedPlans(plans_for(recipe.network, self.data), self.data, sources)
        self.workers = workers
        self.measure, self.callbacks = measure, callbacks if not self.rank else ()
        self._length_s = 60 * length_minutes
        self._measured_s, self._measuring_s = time.monotonic(), 0.0
        torch.manual_seed(recipe.seed)
        held = any(phase.losses.held() for phase in recipe.phases)
        self.teacher = load_teacher(start, recipe.network, self.device, teacher) if held else None
        last = output / "last.pt"
        self.best = output / "best.pt"
        self.state = TrainingState()
        self._optimizer_state: dict[str, Any] | None = None
        average: dict[str, Tensor] | None = None
        self._best_ap = -1.0
        if resume and last.exists():
            saved = read_checkpoint(last)
            self.network = load_network(last)
            self.state = TrainingState(**{**saved["training"], "position": Position(**saved["training"]["position"])})
            self._optimizer_state, average = saved["optimizer"], saved["average"]
            if self.best.exists():
                self._best_ap = float(read_checkpoint(self.best)["AP"])
        else:
            self.network = load_averaged(start)
            if not has_norms(self.network):  # a shipped network: its batch-norms are folded, and folded weights train badly
                calibrate_norms(self.network, plain_batches(self.network, self.data, _NORM_PICTURES, recipe.phases[0].sizes[0]))
            if not self.rank:
                self.best.unlink(missing_ok=True)
        self.run_log = None if self.rank else RunLog(output, self.state.steps, tensorboard=tensorboard)
        if self.network.spec != recipe.network:
            raise ConfigError(f"{last if resume and last.exists() else start} was made for another network than recipe {recipe.name} names")
        if integer is not None:
            quantize_in_training(self.network, integer)
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = MovingAverage(self.network)
        if average is not None:
            self.average.state = {name: value.to(self.device) for name, value in average.items()}
            self.average.steps = self.state.steps

    def run(self, minutes: float = 0.0) -> bool:
        """Train until the recipe is complete, or for `minutes`, and write a checkpoint; return whether the recipe is complete."""
        deadline_s = time.monotonic() + minutes * 60 if minutes else float("inf")
        phases = self.recipe.phases
        if self.state.phase < len(phases):
            first = phases[self.state.phase]
            for callback in self.callbacks:
                callback.on_start(self._progress(first))
            if not self.state.steps:
                self._log(self._progress(first), measure=True)
        while self.state.phase < len(phases):
            with _flushed_denormals():
                finished = self._run_phase(phases[self.state.phase], deadline_s)
            if finished:
                state = self.state
                self.state = TrainingState(state.phase + 1, steps=state.steps, position=state.position, seconds=state.seconds)
                self._optimizer_state = None
            self.save()
            if not finished:
                break
        complete = self.state.phase >= len(phases)
        if self.run_log is not None:
            self.run_log.close()
        for callback in self.callbacks:
            callback.on_end(complete)
        return complete

    def _run_phase(self, phase: Phase, deadline_s: float) -> bool:
        """Train one phase; return whether it is complete."""
        groups = parameter_groups(self.network, phase, self.state.sizes)
        optimizer = torch.optim.AdamW(groups, lr=phase.learning_rate, betas=(0.9, 0.995))
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        set_modes(self.network, phase)
        state, processes = self.state, self.processes
        if not (state.pictures or self.rank):
            sheet = self.output / f"pictures-{phase.name}.png"
            contact_sheet(self.data, self.plans, sheet, _augmentation(phase), size=self._sizes(phase)[0], seed=self.recipe.seed)
        saved_s = time.monotonic()
        smooth: dict[str, float] = {}
        pictures_per_s = 0.0
        with Batches(
            self.data,
            _augmentation(phase),
            batch_size=phase.batch,
            sizes=self._sizes(phase),
            seed=self.recipe.seed,
            start=state.position,
            rank=self.rank,
            world_size=processes.size,
            workers=self.workers,
            plans=self.plans,
            painter=None if self.pictures is None else self.pictures.paint,
        ) as batches:
            done = self._done(phase)
            while done < 1:
                began_s = time.monotonic()
                batch = next(batches)
                factor = learning_rate_factor(done, phase.warm_up, phase.floor)
                for group in optimizer.param_groups:
                    group["lr"] = phase.learning_rate * group["share"] * factor
                losses = self._step(phase, batch, optimizer)
                self.average.update(self.network)
                state.pictures += len(batch.images) * processes.size
                state.steps += 1
                state.position = batch.following
                elapsed_s = time.monotonic() - began_s
                state.seconds += elapsed_s
                state.phase_seconds += elapsed_s
                rate = len(batch.images) * processes.size / elapsed_s
                pictures_per_s = rate if not pictures_per_s else 0.95 * pictures_per_s + 0.05 * rate
                for name, value in losses.items():
                    smooth[name] = value if name not in smooth else 0.98 * smooth[name] + 0.02 * value
                done = self._done(phase)
                progress = self._progress(phase, pictures_per_s, smooth)
                for callback in self.callbacks:
                    callback.on_step(progress)
                if done >= 1:
                    self._log(progress, measure=True)
                    for callback in self.callbacks:
                        callback.on_phase_end(progress)
                    break
                over = processes.agree(time.monotonic() > deadline_s)
                if over or processes.agree(time.monotonic() - saved_s > _CHECKPOINT_EVERY_S):
                    self._optimizer_state = optimizer.state_dict()
                    self._log(progress, measure=over or self._measure_due())
                    self.save()
                    saved_s = time.monotonic()
                if over:
                    return False
        return True

    def _step(self, phase: Phase, batch: Batch, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Train on one batch; return the weighted losses by name, and `skipped`: 1 where the gradients were not finite."""
        images = torch.as_tensor(batch.images, device=self.device)  # uint8 (B, H, W, 3)
        x = self.network.normalize(images).contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
        losses = self._losses(phase, x, batch)
        if losses and phase.sparsity:
            losses["sparsity"] = phase.sparsity * norm_scales(self.network, self.state.sizes)
        optimizer.zero_grad(set_to_none=True)
        if losses:  # none where a phase learns from people alone and the batch has none
            torch.stack(list(losses.values())).sum().backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.processes.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, _MAXIMUM_GRADIENT_NORM)
        if not torch.isfinite(norm):  # one broken batch must not end a run of hours; the log shows the share of skipped steps
            optimizer.zero_grad(set_to_none=True)
            return {"skipped": 1.0}
        optimizer.step()
        return {name: float(value.detach()) for name, value in losses.items()} | {"skipped": 0.0}

    def _losses(self, phase: Phase, x: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses of one batch by name."""
        network, teacher, weights = self.network, self.teacher, phase.losses
        if isinstance(network, RefinerNetwork):
            assert isinstance(weights, RefinerWeights)
            assert teacher is None or isinstance(teacher, RefinerNetwork)
            theirs = None
            if teacher is not None and weights.held():
                with torch.no_grad(), self._autocast():
                    theirs = teacher(x).float()
            return refiner_losses(network(x), theirs, batch, weights)
        assert isinstance(weights, PoseWeights)
        assert teacher is None or isinstance(teacher, PoseNetwork)
        with torch.set_grad_enabled(not phase.frozen_early):
            early = network.trunk.early(x)
        losses: dict[str, Tensor] = {}
        held = None
        if teacher is not None and weights.held():
            with torch.no_grad(), self._autocast():
                held = teacher.trunk.early(x)
        if held is not None and weights.hold_early:
            losses["hold_early"] = weights.hold_early * unexplained([early], [held])
            if weights.only_early():
                return losses
        levels = network.levels(early)
        theirs_maps = None
        if held is not None and teacher is not None:
            with torch.no_grad(), self._autocast():
                held_levels = teacher.levels(held)
                theirs_maps = PoseMaps(*(value.float() for value in teacher.head(held_levels)))
            if weights.hold_features:
                losses["hold_features"] = weights.hold_features * unexplained(levels, held_levels)
        return losses | pose_losses(network, network.head(levels), theirs_maps, batch, weights)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return a context that computes in bfloat16 where the processor multiplies it natively."""
        native = self.device.type == "cuda" or (torch.backends.mkldnn.is_available() and _has_bfloat16())
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native)

    def save(self) -> None:
        """Write `last.pt`."""
        if self.rank:
            return
        training = {**self.state.__dict__, "position": {"epoch": self.state.position.epoch, "pictures": self.state.position.pictures}}
        save_network(self.output / "last.pt", self.network, training=training, optimizer=self._optimizer_state, average=self.average.state)

    def averaged(self) -> Network:
        """Return the network with the averaged weights, for evaluation and export."""
        network = build(self.network.spec)
        load_weights(network, self.average.state, "the running average")
        return network.eval()

    def _log(self, progress: TrainingProgress, *, measure: bool) -> None:
        """Append a line to the log, with the AP of the averaged weights if `measure`; keep them where it is the best one."""
        if self.run_log is None:
            return
        ap = None
        if measure and self.measure is not None:
            began_s = time.monotonic()
            network = self.averaged()
            ap = self.measure(network)
            best = ap > self._best_ap
            if best:
                self._best_ap = ap
                save_network(self.best, network, AP=ap)
            self._measured_s = time.monotonic()
            self._measuring_s = self._measured_s - began_s
            for callback in self.callbacks:
                callback.on_measure(progress, ap, best)
        self.run_log.append(progress, ap)

    def _progress(self, phase: Phase, pictures_per_s: float = 0.0, losses: dict[str, float] | None = None) -> TrainingProgress:
        state = self.state
        done = min(self._share(phase), 1.0)
        total = phase.pictures if not self._length_s else round(state.pictures / done) if done else 0
        rate = phase.learning_rate * learning_rate_factor(done, phase.warm_up, phase.floor)
        return TrainingProgress(
            phase.name, done, state.pictures, total, state.steps, state.seconds / 60, pictures_per_s, rate, dict(losses or {})
        )

    def _sizes(self, phase: Phase) -> tuple[Canvas, ...]:
        spec = self.recipe.network
        return ((spec.crop_height, spec.crop_width),) if isinstance(spec, RefinerSpec) else phase.sizes

    def _share(self, phase: Phase) -> float:
        """Return the share of a phase that is done: of its pictures, or of its part of the length in minutes."""
        if not self._length_s:
            return self.state.pictures / phase.pictures
        part = phase.pictures / sum(other.pictures for other in self.recipe.phases)
        return self.state.phase_seconds / (self._length_s * part)

    def _done(self, phase: Phase) -> float:
        """Return the share of a phase that is done, the same in all processes."""
        return self.processes.shared(self._share(phase)) if self._length_s else self._share(phase)

    def _measure_due(self) -> bool:
        waited_s = time.monotonic() - self._measured_s
        return waited_s > max(_MEASURE_EVERY_S, self._measuring_s / _MOST_MEASURING)


@contextlib.contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Compute with 0 in place of the tiniest numbers: a run slows down tenfold once weights and moments become so tiny.

    Only threads that start afterwards do so too; the command sets it before any thread starts.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _augmentation(phase: Phase) -> Augmentation:
    chosen = _AUGMENTATIONS[phase.augmentation]
    return chosen if phase.turn is None else replace(chosen, turn=phase.turn)


def _has_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
