"""The training loop: phases of a recipe, resumable at any checkpoint, on CPU or CUDA, in one process or several."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch import distributed as dist

from edgepose.errors import ConfigError
from edgepose_export.data.augment import Augmentation
from edgepose_export.data.batches import Batch, Batches, Position
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import plans_for
from edgepose_export.data.device_batches import DevicePictures
from edgepose_export.data.preview import contact_sheet
from edgepose_export.network.model import GhostPose, load_network, load_weights, normalize, read_checkpoint, save_network
from edgepose_export.network.spec import NetworkSpec
from edgepose_export.training import curve
from edgepose_export.training.cells import cells_inside, trunk_tilt_deg
from edgepose_export.training.distillation import Seen, distil, look
from edgepose_export.training.labels import label_losses
from edgepose_export.training.recipe import Phase, Recipe
from edgepose_export.training.schedule import MovingAverage, learning_rate_factor

_AUGMENTATIONS = {
    "none": Augmentation.none(),
    # For distillation: the teacher answers for every picture, so variety of light matters less than speed.
    "light": Augmentation(tilt=0.05, overhead=0.03, mosaic=0.15, noise=0.03, jpeg=0.03, motion_blur=0.02, blur=0.03),
    "full": Augmentation(),
}
_CHECKPOINT_EVERY_S = 120.0
_MEASURE_EVERY_S = 900.0
_GENTLE = 0.25
_SMALLEST = 2.0**-7
"""Tensors of smaller values than this move as if theirs were so large: some begin at zero."""


def _augmentation(phase: Phase) -> Augmentation:
    chosen = _AUGMENTATIONS[phase.augmentation]
    return chosen if phase.turn is None else replace(chosen, turn=phase.turn)


@dataclass
class Progress:
    """What a progress bar shows."""

    phase: str
    pictures: int
    total: int
    pictures_per_s: float
    losses: dict[str, float]


@dataclass
class State:
    """Where training stands; all of it lies in a checkpoint."""

    phase: int = 0
    pictures: int = 0
    """Of this phase."""
    steps: int = 0
    position: Position = field(default_factory=Position)
    seconds: float = 0.0
    sizes: dict[str, float] = field(default_factory=dict)
    """Root mean square of each trained tensor at the beginning of the phase: what learning rates are relative to."""


class Trainer:
    """Trains one network by a recipe.

    Args:
        recipe: the network and its phases.
        folders: COCO-format data.
        start: checkpoint of `edgepose-export ghostify`, which holds the student and the teacher.
        output: folder for `last.pt` (everything needed to go on), `log.csv`, `curve.png`, and of each phase
            `pictures-<phase>.png`: some of the pictures and labels as the network sees them.
        resume: go on from `output/last.pt` where it exists.
        workers: threads that make batches.
        threads: threads of the network on a CPU; 0 leaves torch's choice.
        measure: gives the AP of a network; asked at the end of each phase and every quarter of an hour.

    Raises:
        ConfigError: data, start or checkpoint that do not fit.
    """

    def __init__(
        self,
        recipe: Recipe,
        folders: Sequence[Path],
        start: Path,
        output: Path,
        *,
        resume: bool,
        workers: int = 1,
        threads: int = 0,
        measure: Callable[[GhostPose], float] | None = None,
    ) -> None:
        if not recipe.phases:
            raise ConfigError(f"recipe {recipe.name} has no phases: nothing to train")
        if threads:
            torch.set_num_threads(threads)
        self.recipe, self.output = recipe, output
        self.device = choose_device(dist.get_node_local_rank(fallback_rank=0), torch.cuda.device_count())
        self.rank, self.world_size = _join_group(self.device)
        # Pictures that lie decoded in a GPU's memory are read once: their files need not be kept.
        self.data = CocoPose(folders, cache=self.device.type == "cpu")
        self.pictures = None if self.device.type == "cpu" else DevicePictures(self.data, self.device, workers=workers)
        self.plans = plans_for(recipe.network, self.data)
        self.workers = workers
        self.measure = measure
        self._measured_at = time.monotonic()
        torch.manual_seed(recipe.seed)
        beginning = read_checkpoint(start)
        if "teacher" not in beginning:
            raise ConfigError(f"{start} holds no teacher: make it with `edgepose-export ghostify`")
        self.teacher = GhostPose(msgspec.convert(beginning["teacher"]["spec"], NetworkSpec))
        load_weights(self.teacher, beginning["teacher"]["state"], str(start))
        self.teacher.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = output / "last.pt"
        self.state = State()
        self._optimizer_state: dict[str, Any] | None = None
        average: dict[str, Tensor] | None = None
        if resume and last.exists():
            saved = read_checkpoint(last)
            self.network = load_network(last)
            self.state = State(**{**saved["training"], "position": Position(**saved["training"]["position"])})
            self._optimizer_state, average = saved["optimizer"], saved["average"]
        else:
            self.network = load_network(start)
            (output / "log.csv").unlink(missing_ok=True)
        if self.network.spec != recipe.network:
            raise ConfigError(f"{last if resume and last.exists() else start} was made for another network than recipe {recipe.name} names")
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = MovingAverage(self.network)
        if average is not None:
            self.average.state = {name: value.to(self.device) for name, value in average.items()}
            self.average.steps = self.state.steps

    def run(self, minutes: float, report: Callable[[Progress], None]) -> bool:
        """Train until the recipe or the time is over; always ends with a checkpoint. True where the recipe is done."""
        deadline = time.monotonic() + minutes * 60 if minutes else float("inf")
        while self.state.phase < len(self.recipe.phases):
            phase = self.recipe.phases[self.state.phase]
            finished = self._run_phase(phase, deadline, report)
            if finished:
                self.state = State(self.state.phase + 1, steps=self.state.steps, position=self.state.position, seconds=self.state.seconds)
                self._optimizer_state = None
            self.save()
            if not finished:
                return False
        return True

    def _run_phase(self, phase: Phase, deadline: float, report: Callable[[Progress], None]) -> bool:
        groups = _parameter_groups(self.network, phase, self.state.sizes)
        optimizer = torch.optim.AdamW(groups, lr=phase.learning_rate, betas=(0.9, 0.995))
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        _set_modes(self.network, phase)
        state = self.state
        if not (state.pictures or self.rank):
            sheet = self.output / f"pictures-{phase.name}.png"
            contact_sheet(self.data, self.plans, sheet, _augmentation(phase), size=phase.sizes[0], seed=self.recipe.seed)
        saved_at = time.monotonic()
        smooth: dict[str, float] = {}
        speed = 0.0
        with Batches(
            self.data,
            _augmentation(phase),
            batch_size=phase.batch,
            sizes=phase.sizes,
            seed=self.recipe.seed,
            start=state.position,
            rank=self.rank,
            world_size=self.world_size,
            workers=self.workers,
            plans=self.plans,
            painter=None if self.pictures is None else self.pictures.paint,
        ) as batches:
            while state.pictures < phase.pictures:
                began = time.monotonic()
                batch = next(batches)
                factor = self._factor(phase)
                for group in optimizer.param_groups:
                    group["lr"] = phase.learning_rate * group["share"] * factor
                losses = self._step(phase, batch, optimizer)
                self.average.update(self.network)
                state.pictures += len(batch.images) * self.world_size
                state.steps += 1
                state.position = batch.following
                elapsed = time.monotonic() - began
                state.seconds += elapsed
                rate = len(batch.images) * self.world_size / elapsed
                speed = rate if not speed else 0.95 * speed + 0.05 * rate
                for name, value in losses.items():
                    smooth[name] = value if name not in smooth else 0.98 * smooth[name] + 0.02 * value
                report(Progress(phase.name, state.pictures, phase.pictures, speed, smooth))
                over = self._agree(time.monotonic() > deadline)
                if over or self._agree(time.monotonic() - saved_at > _CHECKPOINT_EVERY_S):
                    self._optimizer_state = optimizer.state_dict()
                    self.log(phase, speed, smooth)
                    self.save()
                    saved_at = time.monotonic()
                if over:
                    return False
        self.log(phase, speed, smooth)
        return True

    def _step(self, phase: Phase, batch: Batch, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """One step: losses by name, as numbers."""
        images = torch.as_tensor(batch.images, device=self.device)
        x = normalize(images).contiguous(memory_format=torch.channels_last)
        count = phase.frozen_blocks
        maps = bool(phase.distillation.maps) or phase.labels.any()
        with self._autocast():
            with torch.no_grad():
                early, tapped = self.network.backbone.early(x, count)
                wanted = phase.distillation
                theirs = look(self.teacher, *self._teacher_early(x, early, tapped, count), count, maps) if _distils(phase) else None
            ours = look(self.network, early, tapped, count, maps)
        losses: dict[str, Tensor] = {}
        if theirs is not None:
            losses |= distil(ours, theirs, wanted, self._doubted(batch, ours, phase))
        if ours.maps is not None and phase.labels.any():
            losses |= label_losses(self.network.decode.refinement, ours.maps, batch, phase.labels)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._share(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, 10.0)
        if not torch.isfinite(norm):  # one broken batch must not end a run of hours; the count shows in the log
            optimizer.zero_grad(set_to_none=True)
            return {"skipped": 1.0}
        optimizer.step()
        return {name: float(value.detach()) for name, value in losses.items()} | {"skipped": 0.0}

    def _doubted(self, batch: Batch, ours: Seen, phase: Phase) -> Tensor | None:
        """Cells of people whom the teacher does not see, too large or lying, where labels teach without it."""
        distillation = phase.distillation
        if ours.maps is None or not phase.labels.any() or not (distillation.largest_px or distillation.steepest_deg):
            return None
        boxes = torch.from_numpy(batch.boxes).to(self.device)
        unseen = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=self.device)
        if distillation.largest_px:
            unseen |= (boxes[..., 2:] - boxes[..., :2]).amax(-1) > distillation.largest_px
        if distillation.steepest_deg:
            unseen |= trunk_tilt_deg(torch.from_numpy(batch.keypoints).to(self.device)) > distillation.steepest_deg
        return cells_inside(boxes, unseen, ours.maps.center)

    def _teacher_early(self, x: Tensor, early: Tensor, tapped: list[Tensor], count: int) -> tuple[Tensor, list[Tensor]]:
        """Frozen blocks are the teacher's own, so their output serves both; without any the teacher runs from the start."""
        return (early, tapped) if count else self.teacher.backbone.early(x, 0)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        """bfloat16 where the processor multiplies it natively."""
        native = self.device.type == "cuda" or (torch.backends.mkldnn.is_available() and _has_bfloat16())
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native)

    def _share(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients of all processes."""
        if self.world_size == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        dist.all_reduce(flat)
        flat /= self.world_size
        offset = 0
        for p in parameters:
            assert p.grad is not None
            p.grad.copy_(flat[offset : offset + p.numel()].view_as(p))
            offset += p.numel()

    def _agree(self, answer: bool) -> bool:
        """The first process decides for all, so that none waits for one that has stopped."""
        if self.world_size == 1:
            return answer
        decision = torch.tensor([float(answer)], device=self.device)
        dist.broadcast(decision, 0)
        return bool(decision.item())

    def save(self) -> None:
        """Write `last.pt`."""
        if self.rank:
            return
        training = {**self.state.__dict__, "position": {"epoch": self.state.position.epoch, "pictures": self.state.position.pictures}}
        save_network(self.output / "last.pt", self.network, training=training, optimizer=self._optimizer_state, average=self.average.state)

    def averaged(self) -> GhostPose:
        """The network with the averaged weights, for evaluation and export."""
        network = GhostPose(self.network.spec)
        load_weights(network, self.average.state, "the running average")
        return network.eval()

    def log(self, phase: Phase, speed: float, losses: dict[str, float]) -> None:
        """Append a line to `log.csv`, with AP where it is due, and draw `curve.png` anew."""
        if self.rank:
            return
        row: dict[str, object] = {
            "phase": phase.name,
            "pictures": self.state.pictures,
            "steps": self.state.steps,
            "minutes": round(self.state.seconds / 60, 2),
            "pictures_per_s": round(speed, 1),
            "learning_rate": f"{phase.learning_rate * self._factor(phase):.3g}",
            "losses": {name: value for name, value in losses.items() if name != "skipped"},
            "skipped": round(losses.get("skipped", 0.0), 4),
        }
        if self.measure is not None and (self.state.pictures >= phase.pictures or self._measure_due()):
            row["AP"] = round(self.measure(self.averaged()), 4)
        curve.append(self.output / "log.csv", row)
        curve.plot(self.output / "log.csv", self.output / "curve.png")

    def _factor(self, phase: Phase) -> float:
        return learning_rate_factor(self.state.pictures / phase.pictures, phase.warm_up, phase.floor)

    def _measure_due(self) -> bool:
        if time.monotonic() - self._measured_at < _MEASURE_EVERY_S:
            return False
        self._measured_at = time.monotonic()
        return True


def _distils(phase: Phase) -> bool:
    weights = phase.distillation
    return any((weights.blocks, weights.neck, weights.maps))


def _has_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _matches(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def _parameter_groups(network: GhostPose, phase: Phase, sizes: dict[str, float]) -> list[dict[str, Any]]:
    """Trained parameters, grouped by the size of their values; gentle ones at a share of the learning rate.

    Adam moves every value by about the learning rate, whatever its size. Weights of a warm start span three orders of
    magnitude (depthwise kernels about 1, fitted 1x1 weights about 0.01), so the learning rate is relative: a tensor's
    step is a share of the root mean square of its values, rounded to a power of two. The sizes are those of the phase's
    beginning: `sizes` is filled there, and comes from the checkpoint when a run goes on.

    Raises:
        ConfigError: a prefix that no parameter has.
    """
    for prefix in (*phase.train, *phase.gentle):
        if not any(_matches(name, [prefix]) for name, _ in network.named_parameters()):
            raise ConfigError(f"phase {phase.name} trains {prefix!r}, but no parameter of the network begins so")
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        share = _GENTLE if _matches(name, phase.gentle) else 1.0 if _matches(name, phase.train) else 0.0
        parameter.requires_grad_(share > 0)
        if share:
            if name not in sizes:
                sizes[name] = float(parameter.detach().square().mean().sqrt())
            size = min(max(sizes[name], _SMALLEST), 1.0)
            groups.setdefault((share * 2.0 ** round(math.log2(size)), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "share": share, "weight_decay": phase.weight_decay if decays else 0.0}
        for (share, decays), parameters in groups.items()
    ]


def _set_modes(network: GhostPose, phase: Phase) -> None:
    """Batch-norms stand still unless the phase lets those that it trains follow the batches."""
    network.eval()
    if phase.batch_statistics:
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and _matches(name, [*phase.train, *phase.gentle]):
                module.train()


def choose_device(local_rank: int, gpus: int) -> torch.device:
    """The device of one of the processes of a machine: a GPU of its own, or the CPU where there is none.

    Raises:
        ConfigError: more processes than GPUs.
    """
    if not gpus:
        return torch.device("cpu")
    if local_rank >= gpus:
        raise ConfigError(f"process {local_rank + 1} of this machine has no GPU of its own: expected at most {gpus} processes, one a GPU")
    return torch.device("cuda", local_rank)


def _join_group(device: torch.device) -> tuple[int, int]:
    """Rank and number of processes; joins the group that torchrun describes, over NCCL between GPUs and gloo between CPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_torchelastic_launched():
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()
