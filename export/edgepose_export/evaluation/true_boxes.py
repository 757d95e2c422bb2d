"""The accuracy of a refiner file by itself: it gets the labeled boxes, so no pose network changes the figures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgepose.config import schema
from edgepose.engine.backend import open_refiner_backend
from edgepose.errors import ConfigError
from edgepose.model.file import ModelInfo, read_model
from edgepose.person import Person
from edgepose.pose.refine.regions import RunCrops, refined_keypoints
from edgepose_export.callbacks import Progress
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.elevations import elevation_group
from edgepose_export.evaluation.keypoints import MatchedPerson, confident_right, share_in_place

_THRESHOLDS = np.arange(10) * 0.05 + 0.5


@dataclass(frozen=True, slots=True)
class RefinerEvaluation:
    """Figures of a refiner on labeled boxes, 0 to 1.

    Attributes:
        oks: mean OKS of the people.
        ap: share of the people whose pose is right, mean over OKS thresholds 0.50, 0.55 … 0.95: average precision where every box
            holds a person.
        pck: as of `edgepose_export.evaluation.coco.Evaluation`.
        confident_right: see `edgepose_export.evaluation.keypoints.confident_right`.
        images: number of pictures.
        people: number of people with keypoints.
        oks_by_elevation: mean OKS by group of elevations; empty where no picture says how far down the camera looks.
        precision: number format of the refiner.
    """

    oks: float
    ap: float
    pck: float
    confident_right: float | None
    images: int
    people: int
    oks_by_elevation: Mapping[int, float] = field(default_factory=dict)
    precision: str = ""

    def to_json(self) -> dict[str, float | int | str | None]:
        """Return the figures by the keys of `edgepose-export evaluate --true-boxes --json`; `OKS_30` is that of the group 30."""
        return {
            "OKS": self.oks,
            **{f"OKS_{group}": value for group, value in self.oks_by_elevation.items()},
            "AP": self.ap,
            "PCK": self.pck,
            "confident_right": self.confident_right,
            "images": self.images,
            "people": self.people,
            "precision": self.precision,
        }


def evaluate_true_boxes(
    refiner: Path,
    data: Path,
    *,
    groups: Sequence[str] = (),
    limit: int = 0,
    settings: schema.ModelConfig | None = None,
    progress: Progress | None = None,
) -> RefinerEvaluation:
    """Evaluate a refiner file on the labeled boxes, with the runtime's own crops.

    Args:
        refiner: ONNX file.
        data: folder in COCO format, see `edgepose_export.data.coco`.
        groups: sets of the pictures to use; empty is all.
        limit: number of pictures, from the first; 0 is all.
        settings: where to run; its `path` is ignored.
        progress: called after each picture.

    Raises:
        ConfigError: the data is refused, or nobody has keypoints.
        ModelError: the file is not a refiner.
        EngineError: the backend is unavailable.
    """
    pictures = CocoPose([data], cache=False, groups=groups)
    file = read_model(refiner)
    backend = open_refiner_backend(file, settings or schema.ModelConfig())
    try:
        return refine_true_boxes(backend.run, file.info, pictures, limit=limit, progress=progress)
    finally:
        backend.close()


def refine_true_boxes(
    run: RunCrops, info: ModelInfo, data: CocoPose, *, limit: int = 0, progress: Progress | None = None
) -> RefinerEvaluation:
    """Evaluate anything that refines crops; other arguments and errors as of `evaluate_true_boxes`.

    Args:
        run: maps crops to keypoints in crop pixels.
        info: description of the refiner; gives the size and the margin of the crops.
        data: labeled pictures.
        limit: number of pictures, from the first; 0 is all.
        progress: called after each picture.
    """
    assert info.crop_margin is not None
    count = min(limit, len(data)) if limit else len(data)
    matched: list[MatchedPerson] = []
    by_elevation: defaultdict[int, list[float]] = defaultdict(list)
    for index in range(count):
        picture = data[index]
        posed = np.flatnonzero(picture.keypoints[..., 2].any(1))
        if len(posed):
            people = [Person(picture.boxes[person], 1.0, np.zeros((17, 3), np.float32)) for person in posed]
            refined = refined_keypoints(data.image(index), people, info.crop_margin, info.crop_shape, run)
            sides = (picture.boxes[posed, 2:] - picture.boxes[posed, :2]).max(1)
            found = [
                MatchedPerson(keypoints, picture.keypoints[person], float(picture.areas[person]), float(side))
                for person, keypoints, side in zip(posed, refined, sides, strict=True)
            ]
            matched += found
            if picture.elevation_deg is not None:
                by_elevation[elevation_group(picture.elevation_deg)] += [person.oks for person in found]
        if progress is not None:
            progress(index + 1, count)
    if not matched:
        raise ConfigError(f"none of the {count} pictures has people with keypoints: there is nothing to measure against")
    similar = np.array([person.oks for person in matched])
    return RefinerEvaluation(
        oks=float(similar.mean()),
        ap=float((similar[:, None] >= _THRESHOLDS).mean()),
        pck=share_in_place(matched, sum(int(person.labeled.sum()) for person in matched)),
        confident_right=confident_right(matched),
        images=count,
        people=len(matched),
        oks_by_elevation={group: float(np.mean(by_elevation[group])) for group in sorted(by_elevation)},
        precision=info.precision,
    )
