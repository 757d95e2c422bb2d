"""A recipe: the network and the phases of its training, read from YAML; the package ships some in `recipes/`."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import yaml
from msgspec import Meta, structs

from edgepose.errors import ConfigError
from edgepose_export.network.checkpoint import NetworkSpec
from edgepose_export.training.refiner_losses import RefinerWeights

Weight = Annotated[float, Meta(ge=0)]
AugmentationName = Literal["none", "light", "full", "crops"]


class PoseWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="task", tag="pose"):
    """Weights of a pose network's losses; `edgepose_export.training.pose_losses` defines each. 0 leaves a loss out."""

    score: Weight = 1.0
    box: Weight = 2.0
    keypoints: Weight = 1.0
    refined: Weight = 1.0
    hold_early: Weight = 0.0
    """Features of the first stage, against the teacher's. Where no other loss has a weight, nothing else runs, which is fast."""
    hold_features: Weight = 0.0
    """The neck's maps, against the teacher's."""
    hold_score: Weight = 1.0
    hold_box: Weight = 1.0

    HELD: ClassVar[tuple[str, ...]] = ("hold_early", "hold_features", "hold_score", "hold_box")

    @classmethod
    def factors(cls, labels: float, hold: float) -> dict[str, float]:
        """Return the factor of each weight: one for losses of labels, one for losses against the teacher."""
        return {name: hold if name in cls.HELD else labels for name in cls.__struct_fields__}

    def held(self) -> bool:
        """Return whether a teacher is used."""
        return any(getattr(self, name) for name in self.HELD)

    def only_early(self) -> bool:
        """Return whether only the first stage learns."""
        others = (self.score, self.box, self.keypoints, self.refined, self.hold_features, self.hold_score, self.hold_box)
        return bool(self.hold_early) and not any(others)


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stretch of training with its own warm-up and cosine."""

    name: str
    pictures: Annotated[int, Meta(ge=1)]
    learning_rate: Annotated[float, Meta(gt=0)]
    train: list[str]
    """Prefixes of the trained parameters; all others are frozen."""
    gentle: list[str] = []
    """Prefixes of parameters trained at a quarter of the learning rate, because they are nearly right."""
    fresh: list[str] = []
    """Prefixes of parameters that begin at random: they train at `fresh_learning_rate`, which is not relative to their size."""
    fresh_learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    frozen_early: bool = False
    """Run a pose network's stem and first stage, where most of the time goes, without gradients."""
    batch_statistics: bool = False
    """Let batch-norms follow the batches. A warm start keeps its calibrated statistics instead: with 16 pictures a batch
    the noise alone doubles the features' error (measured: unexplained variance 0.24 -> 0.47)."""
    losses: PoseWeights | RefinerWeights = PoseWeights()
    augmentation: AugmentationName = "light"
    turn: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Probability of turning a picture by any angle; None is the augmentation's own. People seen from above, or lying, point in
    any direction."""
    sizes: tuple[Annotated[int, Meta(ge=64, multiple_of=32)], ...] = (320,)
    """Sides of the square pictures in pixels; a refiner's crops have the size in its structure."""
    batch: Annotated[int, Meta(ge=1)] = 16
    warm_up: Annotated[float, Meta(ge=0, le=1)] = 0.02
    """Share of the phase in which the learning rate rises."""
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.05
    """Share of the learning rate that remains at the end."""
    weight_decay: Weight = 1e-4
    sparsity: Weight = 0.0
    """Weight of the sum of all trained batch-norm scales, each relative to its layer's at the start: maps that do little lose theirs,
    and `edgepose-export prune --method norm` removes these (Z. Liu et al., "Learning Efficient Convolutional Networks through Network
    Slimming", ICCV 2017)."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network and the phases of its training."""

    name: str
    network: NetworkSpec
    phases: list[Phase] = []
    seed: int = 0


def with_length(recipe: Recipe, pictures: int) -> Recipe:
    """Return a recipe whose phases have `pictures` together, in their own proportion; each has at least one batch."""
    total = sum(phase.pictures for phase in recipe.phases)
    phases = [structs.replace(phase, pictures=max(phase.batch, round(pictures * phase.pictures / total))) for phase in recipe.phases]
    return structs.replace(recipe, phases=phases)


def with_learning_rate(recipe: Recipe, factor: float) -> Recipe:
    """Return a recipe whose learning rates are multiplied by a factor."""
    phases = [
        structs.replace(phase, learning_rate=phase.learning_rate * factor, fresh_learning_rate=phase.fresh_learning_rate * factor)
        for phase in recipe.phases
    ]
    return structs.replace(recipe, phases=phases)


def with_loss_weights(recipe: Recipe, labels: float, hold: float) -> Recipe:
    """Return a recipe whose losses of labels and whose losses against the teacher are multiplied by a factor each."""
    phases = []
    for phase in recipe.phases:
        refines = isinstance(phase.losses, RefinerWeights)
        factors = {"labels": labels, "teacher": hold} if refines else PoseWeights.factors(labels, hold)
        changed = {name: getattr(phase.losses, name) * factor for name, factor in factors.items()}
        phases.append(structs.replace(phase, losses=structs.replace(phase.losses, **changed)))
    return structs.replace(recipe, phases=phases)


def with_augmentation(recipe: Recipe, name: AugmentationName) -> Recipe:
    """Return a recipe whose phases change pictures in this way."""
    return structs.replace(recipe, phases=[structs.replace(phase, augmentation=name) for phase in recipe.phases])


def with_sparsity(recipe: Recipe, weight: float) -> Recipe:
    """Return a recipe whose phases push batch-norm scales to zero with this weight."""
    return structs.replace(recipe, phases=[structs.replace(phase, sparsity=weight) for phase in recipe.phases])


def without_teacher(recipe: Recipe) -> Recipe:
    """Return a recipe whose phases learn from labels alone.

    Raises:
        ConfigError: a phase learns from its teacher alone.
    """
    phases = []
    for phase in recipe.phases:
        losses: PoseWeights | RefinerWeights
        if isinstance(phase.losses, RefinerWeights):
            losses = structs.replace(phase.losses, teacher=0.0)
            left = losses.labels
        else:
            losses = structs.replace(phase.losses, **dict.fromkeys(PoseWeights.HELD, 0.0))
            left = losses.score + losses.box + losses.keypoints + losses.refined
        if not left:
            raise ConfigError(f"phase {phase.name} of recipe {recipe.name} learns from its teacher alone; expected a weight of labels")
        phases.append(structs.replace(phase, losses=losses))
    return structs.replace(recipe, phases=phases)


def load_recipe(path: Path, network: NetworkSpec | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: YAML file.
        network: what a recipe without a network trains, such as that of the warm start.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds a value that is not accepted.
    """
    try:
        values = yaml.safe_load(path.read_text())
        if network is not None and isinstance(values, dict) and "network" not in values:
            values["network"] = msgspec.to_builtins(network)
        return msgspec.convert(values, Recipe)
    except FileNotFoundError as error:
        raise ConfigError(f"recipe {path} does not exist") from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"recipe {path}: {error}") from error
