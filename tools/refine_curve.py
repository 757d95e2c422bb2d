"""Benefit of refinement: AP over the number of refined people and over time, beside MoveNet; writes a table and a plot.

python -m tools.refine_curve DATA docs/models.md [--peers FOLDER] [--model default] [--size 0] [--refiner refine-n …]

Times are per picture and for one thread, over the same pictures in turns. They are relative to MoveNet MultiPose at 256 px in the same run,
where its file is available: changes of the machine's speed cancel out.
"""

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from edgepose.config import schema
from edgepose.engine.backend import open_backend, open_refiner_backend
from edgepose.model.file import ModelFile
from edgepose.model.shipped import named_model
from edgepose.person import Person
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.refine.regions import refine_people
from edgepose.pose.refine.schedule import RefineSchedule
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import Evaluation, evaluate_predictions
from edgepose_export.evaluation.predictor import EVERYBODY_PEOPLE, EVERYBODY_SCORE

mpl.use("Agg")
import matplotlib.pyplot as plt

BEGIN, END = "<!-- begin refine -->", "<!-- end refine -->"
PEOPLE = (1, 2, 4, 8)
ALL = 1000
REPEATS = 3
TIMED_PICTURES = 30
EVERYBODY = schema.PoseConfig(maximum_people=EVERYBODY_PEOPLE)
ONE_THREAD = schema.ModelConfig(backend="cpu", threads=1)

# OKS AP on the same 300 pictures and time relative to MoveNet MultiPose at 256 px, measured on another machine by their own decoders.
ELSEWHERE = {
    "YOLOv8n-pose, float": ((0.55, 0.285), (0.86, 0.352), (2.14, 0.462), (3.36, 0.490)),
    "YOLOv8n-pose, OpenVINO INT8": ((0.39, 0.349), (1.29, 0.486)),
}


@dataclass
class Way:
    """One way to process a picture (refiner and number of people): predictions, and the shortest time of each timed picture."""

    name: str
    refiner: str
    people: int
    predictions: list[list[Person]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class TwoStages:
    """The pose network and the refiners, each in one thread."""

    def __init__(self, model: ModelFile, refiners: list[ModelFile], size: int) -> None:
        self.model, self.size = model, size
        self.pose = open_backend(model, ONE_THREAD)
        self.refiners = {file.path.stem: (file.info, open_refiner_backend(file, ONE_THREAD)) for file in refiners}

    def predict(self, image: NDArray[np.uint8], way: Way) -> list[Person]:
        """Return the people in a picture."""
        letterbox = Letterbox.for_model(self.model.info, image.shape[0], image.shape[1], self.size)
        people = decode(self.pose.run(letterbox.apply(image)[None]), 0, letterbox, EVERYBODY, score_threshold=EVERYBODY_SCORE)
        if not way.people:
            return people
        info, refiner = self.refiners[way.refiner]
        chosen = RefineSchedule(schema.RefineConfig(people=way.people)).choose(people, cost_ms=0.0)
        for index, refined in zip(chosen, refine_people(image, [people[index] for index in chosen], info, refiner.run), strict=True):
            people[index] = refined.person
        return people


def movenet(path: Path, size: int) -> Callable[[NDArray[np.uint8]], object]:
    """Return a function that runs MoveNet MultiPose's network on a letterboxed picture: its heads, without decoding."""
    import onnxruntime  # after edgepose, which disables its telemetry

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(image: NDArray[np.uint8]) -> object:
        scale = size / max(image.shape[:2])
        height, width = (max(32, -(-round(side * scale) // 32) * 32) for side in image.shape[:2])
        letterbox = Letterbox.fit(image.shape[0], image.shape[1], height, width)
        return session.run(None, {name: letterbox.apply(image)[None].astype(np.int32)})

    return run


def timed(function: Callable[..., object], *arguments: object) -> float:
    """Return the duration of a call in seconds."""
    start_s = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start_s


def measure(
    stages: TwoStages, ways: list[Way], data: CocoPose, peers: dict[str, Callable[[NDArray[np.uint8]], object]]
) -> dict[str, float]:
    """Fill in all ways, and return the mean seconds per picture of each peer."""
    for index in track(range(len(data)), "finding people"):
        image = data.image(index)
        for way in ways:
            way.predictions.append(stages.predict(image, way))
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for index in track(range(0, len(data), max(1, len(data) // TIMED_PICTURES)), "measuring time"):
        image = data.image(index)
        rounds: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            for way in ways:
                rounds.setdefault(way.name, []).append(timed(stages.predict, image, way))
            for name, run in peers.items():
                rounds.setdefault(name, []).append(timed(run, image))
        for way in ways:
            way.seconds.append(min(rounds[way.name]))
        for name in peers:
            seconds[name].append(min(rounds[name]))
    return {name: float(np.mean(values)) for name, values in seconds.items()}


def draw(points: dict[str, list[tuple[float, float, str]]], path: Path) -> None:
    """Plot AP over relative time, one line for each refiner, with the peers."""
    figure, axes = plt.subplots(figsize=(8, 5), dpi=110)
    for name, line in points.items():
        x, y = [point[0] for point in line], [point[1] for point in line]
        axes.plot(x, y, marker="o", label=name)
        for along, up, label in line:
            axes.annotate(label, (along, up), textcoords="offset points", xytext=(4, -11), fontsize=8)
    for name, values in ELSEWHERE.items():
        axes.plot(*zip(*values, strict=True), marker="x", linestyle=":", label=f"{name} (measured elsewhere)")
    axes.set_xscale("log")
    axes.set_xlabel("time per picture, one thread; 1 is MoveNet MultiPose at 256 px")
    axes.set_ylabel("OKS AP on 300 pictures of COCO")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--peers", type=Path, help="folder with movenet-multipose-heads.onnx")
    parser.add_argument("--model", default="default")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--refiner", action="append", default=[])
    options = parser.parse_args()
    model = named_model(options.model, "pose")
    refiners = [named_model(name, "refine") for name in options.refiner or ["refine-n"]]
    ways = [Way("pose network alone", "", 0)]
    for file in refiners:
        stem = file.path.stem
        ways += [Way(f"{stem}, {people}", stem, people) for people in PEOPLE] + [Way(f"{stem}, all", stem, ALL)]
    multipose = options.peers / "movenet-multipose-heads.onnx" if options.peers else None
    peers = {f"MoveNet MultiPose {size}": movenet(multipose, size) for size in (256, 320)} if multipose else {}
    data = CocoPose([options.data])
    peer_seconds = measure(TwoStages(model, refiners, options.size), ways, data, peers)
    unit = next(iter(peer_seconds.values())) if peer_seconds else float(np.mean(ways[0].seconds))
    size = options.size or model.info.input_size
    rows: list[str] = []
    points: dict[str, list[tuple[float, float, str]]] = {}
    for way in ways:
        found: Evaluation = evaluate_predictions(way.predictions, data)
        relative = float(np.mean(way.seconds)) / unit
        rows.append(f"| {way.name} | {found.ap:.3f} | {found.ap50:.3f} | {found.ap_medium:.3f} | {found.ap_large:.3f} | {relative:.2f} |")
        label = {0: "alone", ALL: "all"}.get(way.people, str(way.people))
        for stem in [way.refiner] if way.refiner else [file.path.stem for file in refiners]:
            points.setdefault(f"{model.info.name} + {stem}", []).append((relative, found.ap, label))
    rows += [f"| {name} (network alone, float) | | | | | {value / unit:.2f} |" for name, value in peer_seconds.items()]
    image = options.page.parent / "images" / "refine.png"
    draw(points, image)
    refined = ", ".join(f"{file.path.stem} ({file.info.precision})" for file in refiners)
    table = "\n".join(
        [
            f"`make refine`, {datetime.now(timezone.utc):%Y-%m-%d}: {model.info.name} ({model.info.precision}, {size} px), {refined}; "
            f"{len(data)} pictures, one thread, time relative to {'MoveNet MultiPose at 256 px' if peer_seconds else 'the pose network'}:",
            "",
            "| refined people | AP | AP50 | APm | APl | time |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"![AP over time](images/{image.name})",
        ]
    )
    print(table)
    text = options.page.read_text()
    options.page.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
