"""Ablation of the decoder in the graph, on the shipped weights: AP, and time relative to the unchanged network.

python -m tools.ablate_decoding CHECKPOINT DATA docs/models.md [--size 320]

Every variant is the same checkpoint, exported with one change; times are interleaved minima of one thread.
"""

import argparse
import copy
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from edgepose.config import schema
from edgepose.engine.backend import Backend, open_backend
from edgepose.model.file import read_model
from edgepose.person import Person
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import evaluate_predictions
from edgepose_export.evaluation.predictor import SCORE_THRESHOLD
from edgepose_export.network.checkpoint import load_deployed
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.network.to_onnx import Card, to_onnx
from edgepose_export.onnx_file import write_model
from tools.write_reference import with_table

TIMED_PICTURES = 24
ROUNDS = 5
ONE_THREAD = schema.ModelConfig(backend="cpu", threads=1)
NO_SUPPRESSION = schema.PoseConfig(nms_oks=1.0, nms_iou=1.0)


@dataclass
class Variant:
    """One change: the network, and the processing of its input and output."""

    name: str
    network: PoseNetwork
    pose: schema.PoseConfig = field(default_factory=schema.PoseConfig)
    square: bool = False


def variants(original: PoseNetwork) -> list[Variant]:
    """Return the unchanged network, then all variants."""
    steps, candidates = original.spec.refinements, original.spec.candidates

    def changed(kept: int, most: int = candidates) -> PoseNetwork:
        network = copy.deepcopy(original)
        network.spec = replace(network.spec, candidates=most)
        network.refinement.steps = nn.ModuleList(list(network.refinement.steps)[:kept])
        return network

    fewer = [Variant(f"{kept} refinement steps" if kept else "no refinement: the coarse keypoints", changed(kept)) for kept in range(steps)]
    return [
        Variant(f"unchanged: refinement steps {steps}, candidates {candidates}", original),
        *fewer,
        *(Variant(f"{most} candidates", changed(steps, most)) for most in (100, 24, 12)),
        Variant("no suppression by the host, only that inside the graph", original, NO_SUPPRESSION),
        Variant("a square input instead of the picture's shape", original, square=True),
    ]


class VariantRunner:
    """A variant in ONNX Runtime with one thread."""

    def __init__(self, variant: Variant, size: int, folder: Path, number: int) -> None:
        path = folder / f"{number}.onnx"
        write_model(to_onnx(variant.network, Card(path.stem, size, "")), path)
        file = read_model(path)
        self.info, self.variant, self.size = file.info, variant, size
        self.backend: Backend = open_backend(file, ONE_THREAD)

    def prepare(self, image: NDArray[np.uint8]) -> tuple[Letterbox, NDArray[np.uint8]]:
        """Return the letterbox and the network's input, (1, H, W, 3)."""
        height, width = image.shape[:2]
        letterbox = (
            Letterbox.fit(height, width, self.size, self.size)
            if self.variant.square
            else Letterbox.for_model(self.info, height, width, self.size)
        )
        return letterbox, letterbox.apply(image)[None]

    def people(self, image: NDArray[np.uint8]) -> list[Person]:
        """Return all people found in a picture."""
        letterbox, images = self.prepare(image)
        return decode(self.backend.run(images), 0, letterbox, self.variant.pose, score_threshold=SCORE_THRESHOLD)


def seconds(runners: list[VariantRunner], pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the shortest time per picture of each variant's network, summed over pictures."""
    inputs = [[runner.prepare(image)[1] for image in pictures] for runner in runners]
    least = np.full((len(runners), len(pictures)), np.inf)
    for _ in track(range(ROUNDS), "measuring time"):
        for picture in range(len(pictures)):
            for number, runner in enumerate(runners):
                start_s = time.perf_counter()
                runner.backend.run(inputs[number][picture])
                least[number, picture] = min(least[number, picture], time.perf_counter() - start_s)
    return np.asarray(least.sum(1))


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("document", type=Path)
    parser.add_argument("--size", type=int, default=320)
    options = parser.parse_args()
    data = CocoPose([options.data])
    with tempfile.TemporaryDirectory() as folder:
        network = load_deployed(options.checkpoint)
        if not isinstance(network, PoseNetwork):
            parser.error(f"{options.checkpoint} is a refiner; expected a pose network")
        runners = [VariantRunner(variant, options.size, Path(folder), number) for number, variant in enumerate(variants(network))]
        results = []
        for runner in track(runners, "finding people"):
            predictions = [runner.people(data.image(index)) for index in range(len(data))]
            results.append(evaluate_predictions(predictions, data))
        step = max(1, len(data) // TIMED_PICTURES)
        times = seconds(runners, [data.image(index) for index in range(0, len(data), step)])
    rows = [
        f"| {runner.variant.name} | {result.ap:.3f} | {result.ap50:.3f} | {result.ap75:.3f} | {spent / times[0]:.2f} |"
        for runner, result, spent in zip(runners, results, times, strict=True)
    ]
    table = "\n".join(
        [
            f"`{options.checkpoint.name}` in float at {options.size} px on `{options.data.resolve().name}`; time of the network alone, "
            "one thread, minimum of interleaved runs, relative to the first row.",
            "",
            "| decoder | AP | AP50 | AP75 | time |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )
    options.document.write_text(with_table(options.document.read_text(encoding="utf-8"), "decoding", table), encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
