"""A recipe: the network and the phases of its training, read from YAML (`export/edgepose_export/recipes/*.yaml`)."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

from edgepose.errors import ConfigError
from edgepose_export.network.spec import NetworkSpec

Weight = Annotated[float, Meta(ge=0)]


class Distillation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of what the student is told by the teacher."""

    blocks: Weight = 0.0
    """Outputs of the blocks after the frozen ones, each by its own variance."""
    neck: Weight = 0.0
    """Fused maps of the pyramid, each by its own variance."""
    maps: Weight = 0.0
    """Head outputs: cross-entropy of the center and heat maps, L1 of the rest where the teacher sees somebody."""
    largest_px: Weight = 0.0
    """Where labels teach too: of people whose box is longer than this in the input the teacher's maps are not believed,
    since it does not see them; 0 believes all. MoveNet MultiPose loses people of more than about 300 px."""
    steepest_deg: Weight = 0.0
    """The same of people whose trunk leans from upright by more than this: it sees few who lie; 0 believes all."""


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of what the student is told by labels."""

    center: Weight = 0.0
    box: Weight = 0.0
    coarse: Weight = 0.0
    heat: Weight = 0.0
    offset: Weight = 0.0
    refined: Weight = 0.0

    def any(self) -> bool:
        """Whether labels are used at all."""
        return any(msgspec.structs.astuple(self))


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stretch of training with a warm-up and a cosine of its own."""

    name: str
    pictures: Annotated[int, Meta(ge=1)]
    learning_rate: Annotated[float, Meta(gt=0)]
    train: list[str]
    """Prefixes of the parameters that are trained; the others stand still."""
    gentle: list[str] = []
    """Prefixes of parameters trained at a quarter of the learning rate: what is already right."""
    frozen_blocks: Annotated[int, Meta(ge=0)] = 0
    """The stem and this many blocks run without gradients, and once for student and teacher."""
    batch_statistics: bool = False
    """Let batch-norms follow the batches. A warm start keeps its calibrated statistics instead: with 16 pictures a batch
    the noise alone doubles the features' error (measured: unexplained variance 0.24 -> 0.47)."""
    distillation: Distillation = Distillation()
    labels: Labels = Labels()
    augmentation: Literal["none", "light", "full"] = "light"
    turn: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Chance that a picture is turned by any angle, instead of the augmentation's own: seen from above, or lying, people point
    in any direction."""
    sizes: tuple[Annotated[int, Meta(ge=64, multiple_of=32)], ...] = (256,)
    batch: Annotated[int, Meta(ge=1)] = 16
    warm_up: Annotated[float, Meta(ge=0, le=1)] = 0.02
    """Share of the phase in which the learning rate rises."""
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.05
    """Share of the learning rate that is left at the end."""
    weight_decay: Weight = 1e-4


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network and how it is trained."""

    name: str
    network: NetworkSpec
    phases: list[Phase] = []
    seed: int = 0


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: the file is missing, is no YAML, or a value in it is not what is accepted.
    """
    try:
        return msgspec.convert(yaml.safe_load(path.read_text()), Recipe)
    except FileNotFoundError as error:
        raise ConfigError(f"recipe {path} does not exist") from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"recipe {path}: {error}") from error
