"""A recipe: the network and the phases of its training, read from YAML; the package ships some in `recipes/`."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

from edgepose.errors import ConfigError
from edgepose_export.network.spec import NetworkSpec

Weight = Annotated[float, Meta(ge=0)]


class DistillationWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the losses that compare the student with the teacher."""

    blocks: Weight = 0.0
    """Outputs of the blocks after the frozen ones, each by its own variance."""
    neck: Weight = 0.0
    """Fused maps of the pyramid, each by its own variance."""
    maps: Weight = 0.0
    """Head outputs: cross-entropy of the center and heat maps, L1 of the rest weighted by the teacher's probability of a person."""
    largest_px: Weight = 0.0
    """Where labels teach too: the teacher's maps do not count for people whose box is longer than this in the input, because
    it misses them; 0 counts all. MoveNet MultiPose misses people longer than about 300 px."""
    steepest_deg: Weight = 0.0
    """The same for people whose trunk leans from upright by more than this, because the teacher misses most who lie; 0 counts
    all."""

    def any(self) -> bool:
        """Return whether the teacher is used at all."""
        return any((self.blocks, self.neck, self.maps))


class LabelWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the losses that compare the student with labels; `edgepose_export.training.labels` defines each."""

    center: Weight = 0.0
    box: Weight = 0.0
    coarse: Weight = 0.0
    heat: Weight = 0.0
    offset: Weight = 0.0
    refined: Weight = 0.0

    def any(self) -> bool:
        """Return whether labels are used at all."""
        return any(msgspec.structs.astuple(self))


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stretch of training with its own warm-up and cosine."""

    name: str
    pictures: Annotated[int, Meta(ge=1)]
    learning_rate: Annotated[float, Meta(gt=0)]
    train: list[str]
    """Prefixes of the trained parameters; all others are frozen."""
    gentle: list[str] = []
    """Prefixes of parameters trained at a quarter of the learning rate, because they are nearly right."""
    frozen_blocks: Annotated[int, Meta(ge=0)] = 0
    """The stem and this many blocks run without gradients, once for student and teacher together."""
    batch_statistics: bool = False
    """Let batch-norms follow the batches. A warm start keeps its calibrated statistics instead: with 16 pictures a batch
    the noise alone doubles the features' error (measured: unexplained variance 0.24 -> 0.47)."""
    distillation: DistillationWeights = DistillationWeights()
    labels: LabelWeights = LabelWeights()
    augmentation: Literal["none", "light", "full"] = "light"
    turn: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Probability of turning a picture by any angle; None is the augmentation's own. People seen from above, or lying, point in
    any direction."""
    sizes: tuple[Annotated[int, Meta(ge=64, multiple_of=32)], ...] = (256,)
    batch: Annotated[int, Meta(ge=1)] = 16
    warm_up: Annotated[float, Meta(ge=0, le=1)] = 0.02
    """Share of the phase in which the learning rate rises."""
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.05
    """Share of the learning rate that remains at the end."""
    weight_decay: Weight = 1e-4


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network and the phases of its training."""

    name: str
    network: NetworkSpec
    phases: list[Phase] = []
    seed: int = 0


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds a value that is not accepted.
    """
    try:
        return msgspec.convert(yaml.safe_load(path.read_text()), Recipe)
    except FileNotFoundError as error:
        raise ConfigError(f"recipe {path} does not exist") from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"recipe {path}: {error}") from error
