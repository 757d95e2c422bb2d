"""Measurement of choices in the network and in its training: the recipe of ghost-n, shortened, with one thing changed at a time.

python -m tools.ablate_training RECIPE DOCUMENT --teacher ONNX --data FOLDER --evaluate FOLDER --output FOLDER

Short runs tell what begins better, not what ends better: they drop what loses much, and say nothing of small differences.
Resumable: what has been measured stands in the output's folder, one file a variant.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec
import torch
from msgspec.structs import replace
from rich.console import Console
from torch import Tensor

from edgepose_export.cli.ghostify import calibration_pictures
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import evaluate_callable
from edgepose_export.evaluation.network import NetworkPredictor
from edgepose_export.network.ghost import ConvNorm, count_multiply_adds
from edgepose_export.network.ghostify import ghostify
from edgepose_export.network.model import GhostPose, save_network
from edgepose_export.network.movenet import load_movenet
from edgepose_export.network.spec import NetworkSpec
from edgepose_export.training import assignment
from edgepose_export.training.recipe import DistillationWeights, Recipe, load_recipe
from edgepose_export.training.trainer import Trainer
from tools.write_reference import with_table

SIZE = 320


class Measured(msgspec.Struct, frozen=True):
    """The result of one variant."""

    ap: float
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Variant:
    """One changed thing: the recipe, the activation of what is trained, or how many cells answer for a person."""

    name: str
    change: Callable[[Recipe], Recipe] = field(default=lambda recipe: recipe)
    activation: str = "relu6"
    cells_per_person: int = assignment.CELLS_PER_PERSON

    @property
    def slug(self) -> str:
        """The name as that of a file."""
        return re.sub(r"\W+", "-", self.name)


def _network(change: Callable[[NetworkSpec], NetworkSpec]) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, network=change(recipe.network))


def _plain_neck(spec: NetworkSpec) -> NetworkSpec:
    return replace(spec, neck_kind="plain", neck=(spec.neck[0] // 2, *spec.neck[1:]))


def _half_as_wide(spec: NetworkSpec) -> NetworkSpec:
    return replace(spec, blocks=[replace(block, hidden=block.hidden // 2) if block.kind == "ghost" else block for block in spec.blocks])


def _twice(*losses: str) -> Callable[[Recipe], Recipe]:
    def change(recipe: Recipe) -> Recipe:
        phases = [
            replace(phase, labels=replace(phase.labels, **{name: 2 * getattr(phase.labels, name) for name in losses}))
            for phase in recipe.phases
        ]
        return replace(recipe, phases=phases)

    return change


def _labels_alone(recipe: Recipe) -> Recipe:
    alone = [replace(phase, distillation=DistillationWeights()) if phase.labels.any() else phase for phase in recipe.phases]
    return replace(recipe, phases=alone)


VARIANTS = [
    Variant("unchanged"),
    Variant("ReLU instead of ReLU6 in the trained parts", activation="relu"),
    Variant("one cell per person instead of nine (one-to-one assignment)", cells_per_person=1),
    Variant("labels alone in the last phase, without the teacher", _labels_alone),
    Variant("losses of keypoints doubled", _twice("coarse", "heat", "offset", "refined")),
    Variant("losses of center and box doubled", _twice("center", "box")),
    Variant("plain neck with 64 maps at stride 32 instead of ghosts with 128", _network(_plain_neck)),
    Variant("widest layer of 320 maps instead of 640", _network(lambda spec: replace(spec, context=320))),
    Variant("widest layer of 1280 maps", _network(lambda spec: replace(spec, context=1280))),
    Variant("ghost blocks half as wide inside", _network(_half_as_wide)),
]


def shortened(recipe: Recipe, pictures: int) -> Recipe:
    """Return the recipe with so many pictures in all its phases together."""
    total = sum(phase.pictures for phase in recipe.phases)
    phases = [replace(phase, pictures=max(phase.batch, round(pictures * phase.pictures / total))) for phase in recipe.phases]
    return replace(recipe, phases=phases)


def _activate(network: GhostPose, recipe: Recipe, activation: str) -> None:
    trained = tuple({prefix for phase in recipe.phases for prefix in phase.train})
    for name, module in network.named_modules():
        if name.startswith(trained) and isinstance(module, ConvNorm) and module.activation == "relu6":
            module.activation = activation


@contextmanager
def _cells_per_person(count: int) -> Iterator[None]:
    usual, assignment.CELLS_PER_PERSON = assignment.CELLS_PER_PERSON, count
    try:
        yield
    finally:
        assignment.CELLS_PER_PERSON = usual


def measure(
    variant: Variant, recipe: Recipe, teacher: GhostPose, images: Tensor, data: list[Path], evaluate: CocoPose, folder: Path, threads: int
) -> Measured:
    """Train one variant and measure it."""
    folder.mkdir(parents=True, exist_ok=True)
    student, rotated = ghostify(teacher, recipe.network, images)
    start = folder / "start.pt"
    save_network(start, student, teacher={"spec": msgspec.to_builtins(rotated.spec), "state": rotated.state_dict()})
    trainer = Trainer(recipe, data, start, folder, resume=False, threads=threads)
    _activate(trainer.network, recipe, variant.activation)
    with _cells_per_person(variant.cells_per_person):
        trainer.run(0, lambda _: None)
    network = trainer.averaged()
    _activate(network, recipe, variant.activation)
    result = evaluate_callable(NetworkPredictor(network, SIZE), evaluate)
    start.unlink()
    (folder / "last.pt").unlink()
    counted = count_multiply_adds(network, torch.zeros(1, 3, 256, SIZE))
    return Measured(result.ap, network.parameters_count(), counted)


def table(results: dict[str, Measured], pictures: int, evaluate: Path) -> str:
    """Return the table for the document."""
    rows = [
        f"| {name} | {found.ap:.3f} | {found.parameters / 1e6:.2f} M | {found.multiply_adds / 1e6:.0f} M |"
        for name, found in results.items()
    ]
    return "\n".join(
        [
            f"Each starts from the teacher, {pictures} pictures in the recipe's three phases; in float at {SIZE} px on "
            f"`{evaluate.resolve().name}`.",
            "",
            f"| network or training | AP | parameters | multiply-adds, {SIZE} x 256 |",
            "|---|---|---|---|",
            *rows,
        ]
    )


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("document", type=click.Path(path_type=Path))
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="MoveNet MultiPose as ONNX, heads included.")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, required=True, help="COCO-format folder to train on; repeatable.")
@click.option("--evaluate", type=click.Path(path_type=Path), required=True, help="COCO-format folder to measure on.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
@click.option("--pictures", default=3000, show_default=True, help="Pictures that each variant is trained with.")
@click.option("--threads", default=1, show_default=True, help="Threads of the network.")
def main(
    recipe: Path, document: Path, teacher: Path, data: tuple[Path, ...], evaluate: Path, output: Path, pictures: int, threads: int
) -> None:
    """Train and measure what has not been measured yet, and write the table of all."""
    plan, original = load_recipe(recipe), load_movenet(teacher)
    torch.set_num_threads(threads)
    images = calibration_pictures(plan, CocoPose([data[0]]), 256, 256)
    seen = CocoPose([evaluate])
    console = Console(stderr=True)
    results = {}
    for number, variant in enumerate(VARIANTS, 1):
        known = output / f"{variant.slug}-{pictures}.json"
        if not known.exists():
            console.print(f"{number} of {len(VARIANTS)}: {variant.name}")
            short = shortened(variant.change(plan), pictures)
            found = measure(variant, short, original, images, list(data), seen, output / variant.slug, threads)
            known.write_bytes(msgspec.json.encode(found))
        results[variant.name] = msgspec.json.decode(known.read_bytes(), type=Measured)
    said = table(results, pictures, evaluate)
    document.write_text(with_table(document.read_text(encoding="utf-8"), "ablations", said), encoding="utf-8")
    print(said)


if __name__ == "__main__":
    main()
