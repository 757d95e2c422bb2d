"""Plans from several data folders, mixed in chosen shares."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose_export.data import warp
from edgepose_export.data.augment import Augmentation, PicturePlan, PicturePlans
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans
from edgepose_export.data.formats import find_source

_ROUNDING = 1e-6
"""Of sums of shares, such as 0.6 + 0.3 + 0.1."""


@dataclass(frozen=True)
class MixedFolder:
    """A data set and its share of the training pictures; None shares what the others leave, by the number of pictures."""

    folder: Path
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "MixedFolder":
        """Parse `DATA` or `DATA@SHARE`, such as `synthetic@0.3` or `mine:val@0.5`; `edgepose_export.data.formats` says what DATA is.

        Raises:
            ConfigError: the share is no number between 0 and 1.
        """
        folder, separator, share = text.rpartition("@")
        if not separator or ":" in share or Path(text).exists():  # `a@b:val` is a split of the set a@b
            return cls(Path(text))
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not 0 < value < 1:
            raise ConfigError(f"data {text!r} has the share {share!r}; expected FOLDER@SHARE with a number between 0 and 1, or FOLDER")
        return cls(Path(folder), value)


def refuse_missing(data: Iterable[str], evaluate: Path | None) -> None:
    """Refuse data sets that are not there, before anything is loaded or written.

    Args:
        data: sets to train on, as of `MixedFolder.parse`.
        evaluate: set to measure with; None where there is none.

    Raises:
        ConfigError: nothing of a known form is at one of the places.
    """
    for folder in (*(MixedFolder.parse(text).folder for text in data), *(() if evaluate is None else (evaluate,))):
        find_source(folder)


class MixedPlans:
    """Plans of which each folder gives its share, for `edgepose_export.data.batches.Batches`.

    Args:
        plans: of all pictures, or of all crops.
        data: labeled pictures of the same folders.
        sources: the folders, in the order of `data`.

    Raises:
        ConfigError: the shares add up to more than 1, or a folder with a share has nothing to train on.
    """

    def __init__(self, plans: PicturePlans | CropPlans, data: CocoPose, sources: Sequence[MixedFolder]) -> None:
        self._plans = plans
        folder_of = np.array([data.source(plans.picture(index)) for index in range(len(plans))])
        self._groups: list[NDArray[np.intp]] = [np.flatnonzero(folder_of == number) for number in range(len(sources))]
        taken = sum(source.share or 0.0 for source in sources)
        open_share = max(1 - taken, 0.0)
        closed = all(source.share is not None for source in sources)
        if taken > 1 + _ROUNDING or (closed and open_share > _ROUNDING):
            raise ConfigError(f"the shares of the data folders add up to {taken:g}; expected 1, or less with a folder without a share")
        rest = sum(len(group) for group, source in zip(self._groups, sources, strict=True) if source.share is None)
        for source, group in zip(sources, self._groups, strict=True):
            needed = source.share if source.share is not None else open_share > _ROUNDING and not rest
            if needed and not len(group):
                raise ConfigError(f"data folder {source.folder} has nothing that this network can train on")
        shares = np.array(
            [
                open_share * len(group) / max(rest, 1) if source.share is None else source.share
                for group, source in zip(self._groups, sources, strict=True)
            ]
        )
        self._shares = shares / shares.sum()

    def __len__(self) -> int:
        return len(self._plans)

    def plan(self, index: int, size: warp.Canvas, augmentation: Augmentation, rng: np.random.Generator) -> PicturePlan:
        """Plan one picture or crop: `index` chooses inside of the folder that the random numbers choose."""
        group = self._groups[int(rng.choice(len(self._groups), p=self._shares))]
        return self._plans.plan(int(group[index % len(group)]), size, augmentation, rng)
