"""Measures the keypoint errors of the default networks on labeled people, and how often they lose a person: noise for tests.

python -m tools.measure_noise ../shared/data/coco-dev testing/events/noise.json

Inference runs four times on each picture. The original and a copy shifted by a few pixels separate flicker from persistent errors. Both
are also rotated by 90 degrees, since few pictures show lying people and the networks detect them less well. Lengths are in body sizes
(square root of the box area), sizes in pixels of the network input.
"""

import json
import math
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import RefineConfig, TrackConfig
from edgepose.model.shipped import named_model
from edgepose.person import OKS_SIGMAS, Person
from edgepose.pose.letterbox import Letterbox
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.predictor import open_predictor

SIZES_PX = (0, 20, 40, 80, 100_000)
"""Bounds of the size classes in input pixels."""

MINIMUM_LABELED = 11
"""Labeled keypoints of a person who represents whole bodies, as the sequences show them."""

MATCH_OKS = 0.3
"""OKS from which a detection matches a labeled person. Lower than in evaluation, since poor poses are of interest here."""

MEASURED = ("matched", "lost", "jitter", "errors", "boxes", "scores")
MINIMUM_PEOPLE = 10
"""A class of fewer detections is left out."""

SHIFT_PX = (5, 3)
_SIGMAS = np.array(OKS_SIGMAS, np.float32)


def label_oks(person: Person, label: NDArray[np.float32], area: float) -> float:
    """Return the OKS of a detection with a label."""
    labeled = label[:, 2] > 0
    squares = ((person.keypoints[labeled, :2] - label[labeled, :2]) ** 2).sum(1)
    return float(np.exp(-squares / (2 * area * (2 * _SIGMAS[labeled]) ** 2)).mean())


def best_match(people: list[Person], label: NDArray[np.float32], area: float) -> Person | None:
    """Return the detection that matches a label best, None if none matches."""
    found = max(people, key=lambda person: label_oks(person, label, area), default=None)
    return found if found is not None and label_oks(found, label, area) >= MATCH_OKS else None


def rotated(label: NDArray[np.float32], box: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a label and its box in the picture rotated counterclockwise by 90 degrees, as `np.rot90` does."""
    keypoints = np.stack((label[:, 1], width - label[:, 0], label[:, 2]), 1)
    return keypoints, np.array((box[1], width - box[2], box[3], width - box[0]), np.float32)


def main() -> None:
    """Measure, print, and write the file."""
    data, page = CocoPose([Path(sys.argv[1])]), Path(sys.argv[2])
    model, refiner = named_model("default", "pose"), named_model(RefineConfig().path, "refine")
    classes: dict[tuple[str, int], dict[str, list[Any]]] = {}
    # Down to the score from which tracking uses them.
    with open_predictor(model.path, refiner=refiner.path, score=TrackConfig().low_score_threshold) as infer:
        for index, picture in enumerate(data):
            upright = data.image(index)
            for posture in ("upright", "lying"):
                image = upright if posture == "upright" else np.ascontiguousarray(np.rot90(upright))
                shifted = np.roll(image, SHIFT_PX, (1, 0))
                people, people_shifted = infer(image), infer(shifted)
                scale = Letterbox.for_model(model.info, *image.shape[:2]).scale_x
                for label, box in zip(picture.keypoints, picture.boxes, strict=True):
                    if posture == "lying":
                        label, box = rotated(label, box, picture.width)
                    if (label[:, 2] > 0).sum() < MINIMUM_LABELED:
                        continue
                    size = math.sqrt(float((box[2] - box[0]) * (box[3] - box[1])))
                    size_class = max(number for number, low in enumerate(SIZES_PX[:-1]) if size * scale >= low)
                    one = classes.setdefault((posture, size_class), {name: [] for name in MEASURED})
                    shift = np.array((*SHIFT_PX, 0), np.float32)
                    area = size * size * 0.521  # mean area of a body over that of its box in COCO
                    first, second = best_match(people, label, area), best_match(people_shifted, label + shift, area)
                    one["matched"].append(first is not None)
                    if first is None:
                        continue
                    one["lost"].append(second is None)
                    error = (first.keypoints[:, :2] - label[:, :2]) / size
                    one["errors"].append(
                        [
                            [round(float(x), 3), round(float(y), 3), round(float(c), 2)] if labeled else [None, None, round(float(c), 2)]
                            for (x, y), c, labeled in zip(error, first.keypoints[:, 2], label[:, 2] > 0, strict=True)
                        ]
                    )
                    one["boxes"].append([round(float(side), 3) for side in (first.box - box) / size])
                    one["scores"].append(round(first.score, 3))
                    if second is not None:
                        one["jitter"].append((second.keypoints[:, :2] - shift[:2] - first.keypoints[:, :2]) / size / math.sqrt(2))
    written = []
    for (posture, size_class), one in sorted(classes.items()):
        if len(one["errors"]) < MINIMUM_PEOPLE:
            print(f"{posture} from {SIZES_PX[size_class]} px: only {len(one['errors'])} of {len(one['matched'])} found, left out")
            continue
        # A robust standard deviation from the median absolute difference: the outliers are part of the errors already.
        jitter = np.median(np.abs(np.array(one["jitter"])), axis=(0, 2)) / 0.6745
        errors = np.array([[[math.nan if v is None else v for v in k] for k in e] for e in one["errors"]])
        far = np.hypot(errors[..., 0], errors[..., 1])
        written.append(
            {
                "posture": posture,
                "from_px": SIZES_PX[size_class],
                "to_px": SIZES_PX[size_class + 1],
                "people": len(one["matched"]),
                "found": round(float(np.mean(one["matched"])), 3),
                "lost": round(float(np.mean(one["lost"])), 3),
                "median_error": round(float(np.nanmedian(far)), 3),
                "jitter": [round(float(value), 4) for value in jitter],
                "scores": one["scores"],
                "boxes": one["boxes"],
                "errors": one["errors"],
            }
        )
        print({key: value for key, value in written[-1].items() if key not in ("scores", "boxes", "errors")})
    head = {
        "command": f"python -m tools.measure_noise {' '.join(sys.argv[1:])}",
        "at": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "model": model.info.name,
        "sha256": model.sha256,
        "refiner": refiner.info.name,
        "refiner_sha256": refiner.sha256,
        "pictures": len(data),
    }
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in written)
    page.write_text(json.dumps(head, indent=1)[:-2] + ',\n "classes": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
