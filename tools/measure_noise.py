"""Measures how far the default model's keypoints lie from where people labelled them, and how often it loses somebody: noise for tests.

python -m tools.measure_noise ../shared/data/coco-dev testing/events/noise.json

Each picture is looked at four times: as it is and moved by a few pixels, which tells what flickers from what stays, and both of that once
more turned by a quarter, since people who lie are seen worse and few pictures show them. Lengths are in body sizes (square root of the
box area), sizes in pixels of the network's input.
"""

import json
import math
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import Config, ModelConfig
from edgepose.engine.backend import Backend, open_backend
from edgepose.model.file import ModelInfo, named_model
from edgepose.person import OKS_SIGMAS, Person
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose_export.data.coco import CocoPose

SIZES_PX = (0, 20, 40, 80, 100_000)
"""Bounds of the classes of body size, in input pixels."""

LEAST_LABELLED = 11
"""Keypoints that a person must have labelled to stand for whole bodies, which is what sequences show."""

ALIKE = 0.3
"""OKS from which on a find is taken to be that person: lower than in evaluation, since bad poses are what is wanted here."""

MEASURED = ("labelled", "lost", "jitter", "errors", "boxes", "scores")
LEAST_PEOPLE = 10
"""A class of fewer finds is left out."""

MOVED_PX = (5, 3)
_SIGMAS = np.array(OKS_SIGMAS, np.float32)


def look(image: NDArray[np.uint8], backend: Backend, info: ModelInfo, config: Config) -> tuple[list[Person], float]:
    """People down to the weak score that a track is followed to, and input pixels a source pixel."""
    letterbox = Letterbox.for_model(info, *image.shape[:2])
    candidates = backend.run(letterbox.apply(image)[None])
    return decode(candidates, 0, letterbox, config.pose, score_threshold=config.track.low_score_threshold), letterbox.scale_x


def likeness(person: Person, label: NDArray[np.float32], area: float) -> float:
    """OKS of a find with a label."""
    seen = label[:, 2] > 0
    squares = ((person.keypoints[seen, :2] - label[seen, :2]) ** 2).sum(1)
    return float(np.exp(-squares / (2 * area * (2 * _SIGMAS[seen]) ** 2)).mean())


def best(people: list[Person], label: NDArray[np.float32], area: float) -> Person | None:
    """The find that is most like a label, None where none is."""
    found = max(people, key=lambda person: likeness(person, label, area), default=None)
    return found if found is not None and likeness(found, label, area) >= ALIKE else None


def turned(label: NDArray[np.float32], box: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A label and its box in the picture turned counter-clockwise by a quarter, as `np.rot90` does."""
    keypoints = np.stack((label[:, 1], width - label[:, 0], label[:, 2]), 1)
    return keypoints, np.array((box[1], width - box[2], box[3], width - box[0]), np.float32)


def main() -> None:
    """Measure and write."""
    data, page = CocoPose([Path(sys.argv[1])]), Path(sys.argv[2])
    config = Config(model=ModelConfig(path="default"))
    model = named_model("default", "pose")
    backend = open_backend(model, config.model)
    classes: dict[tuple[str, int], dict[str, list[Any]]] = {}
    for index, picture in enumerate(data):
        upright = data.image(index)
        for posture in ("upright", "lying"):
            image = upright if posture == "upright" else np.ascontiguousarray(np.rot90(upright))
            moved = np.roll(image, MOVED_PX, (1, 0))
            (people, scale), (again, _) = look(image, backend, model.info, config), look(moved, backend, model.info, config)
            for label, box in zip(picture.keypoints, picture.boxes, strict=True):
                if posture == "lying":
                    label, box = turned(label, box, picture.width)
                if (label[:, 2] > 0).sum() < LEAST_LABELLED:
                    continue
                size = math.sqrt(float((box[2] - box[0]) * (box[3] - box[1])))
                place = max(number for number, low in enumerate(SIZES_PX[:-1]) if size * scale >= low)
                one = classes.setdefault((posture, place), {name: [] for name in MEASURED})
                shift = np.array((*MOVED_PX, 0), np.float32)
                area = size * size * 0.521  # of a body in its box, as COCO's areas are
                first, second = best(people, label, area), best(again, label + shift, area)
                one["labelled"].append(first is not None)
                if first is None:
                    continue
                one["lost"].append(second is None)
                error = (first.keypoints[:, :2] - label[:, :2]) / size
                one["errors"].append(
                    [
                        [round(float(x), 3), round(float(y), 3), round(float(c), 2)] if seen else [None, None, round(float(c), 2)]
                        for (x, y), c, seen in zip(error, first.keypoints[:, 2], label[:, 2] > 0, strict=True)
                    ]
                )
                one["boxes"].append([round(float(side), 3) for side in (first.box - box) / size])
                one["scores"].append(round(first.score, 3))
                if second is not None:
                    one["jitter"].append((second.keypoints[:, :2] - shift[:2] - first.keypoints[:, :2]) / size / math.sqrt(2))
    written = []
    for (posture, place), one in sorted(classes.items()):
        if len(one["errors"]) < LEAST_PEOPLE:
            print(f"{posture} from {SIZES_PX[place]} px: only {len(one['errors'])} of {len(one['labelled'])} found, left out")
            continue
        # From the middle of the differences, as those of a normal distribution would be: outliers are in the errors already.
        jitter = np.median(np.abs(np.array(one["jitter"])), axis=(0, 2)) / 0.6745
        errors = np.array([[[math.nan if v is None else v for v in k] for k in e] for e in one["errors"]])
        far = np.hypot(errors[..., 0], errors[..., 1])
        written.append(
            {
                "posture": posture,
                "from_px": SIZES_PX[place],
                "to_px": SIZES_PX[place + 1],
                "people": len(one["labelled"]),
                "found": round(float(np.mean(one["labelled"])), 3),
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
        "pictures": len(data),
    }
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in written)
    page.write_text(json.dumps(head, indent=1)[:-2] + ',\n "classes": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
