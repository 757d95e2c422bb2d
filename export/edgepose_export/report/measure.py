"""All measurements of a report, each a step whose result is kept: a second run measures only what has changed."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from edgepose import __version__
from edgepose_export.callbacks import Progress, TaskProgress
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.boxes import MOST_PEOPLE, compare_boxes
from edgepose_export.evaluation.coco import predictions_of
from edgepose_export.evaluation.predictor import SCORE_THRESHOLD
from edgepose_export.evaluation.report import rounded
from edgepose_export.evaluation.robustness import STRENGTHS, under_strengths
from edgepose_export.report.accuracy import accuracy_figures
from edgepose_export.report.columns import Column
from edgepose_export.report.gate import DropGate
from edgepose_export.report.latency import measure_latency, thread_counts
from edgepose_export.report.layers import layer_ratios, pairs
from edgepose_export.report.predictions import load_people, save_people
from edgepose_export.report.worst import EmbeddedPicture, embed, worst_pictures
from edgepose_export.steps import Figures, Workspace, data_hash

FORMAT = 1
"""Version of the JSON."""

_LISTED = 12  # worst pictures of each kind that the JSON names
_SMALLEST_ABOVE = 1  # labels that a part of a data set needs to have figures


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report measures.

    Attributes:
        columns: models; the first is the reference of the others.
        data: labeled pictures.
        work: folder of the steps' results.
        above: sets of pictures from above, with boxes.
        limit: pictures of `data` and of each set from above, from the first; 0 is all.
        robustness: pictures for robustness, from the first; 0 is all that `limit` allows; None measures none.
        latency: pictures for the time; 0 measures none.
        max_drop: largest loss of AP against the first column that passes; None asks for none.
        embed: worst pictures of each kind to show; 0 shows none.
        fresh: measure everything again.
    """

    columns: Sequence[Column]
    data: Path
    work: Path
    above: Sequence[Path] = ()
    limit: int = 0
    robustness: int | None = 100
    latency: int = 1000
    max_drop: float | None = None
    embed: int = 0
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a report, as JSON has them, and the pictures that are embedded in the page."""

    figures: dict[str, Any]
    pictures: Sequence[EmbeddedPicture] = ()

    @property
    def gate(self) -> DropGate:
        """The comparison of the columns."""
        values = self.figures["gate"]
        return DropGate(values["reference"], values["drops"], values["max_drop"])


class Measurements:
    """The steps of a report.

    Args:
        options: what to measure.
        report: takes a line about each step.
        progress: called for what takes time.
    """

    def __init__(
        self,
        options: ReportOptions,
        *,
        report: Callable[[str], None] = lambda line: None,
        progress: TaskProgress = lambda task, done, total: None,
    ) -> None:
        self.options = options
        self._progress = progress
        self._space = Workspace(options.work, report)
        self._data = CocoPose([options.data])
        self._hash = data_hash(options.data, self._bar("labels"))

    def run(self) -> Report:
        """Measure everything, and return the report.

        Raises:
            ConfigError: a model or the data is refused.
            OutputError: a result cannot be written.
            EngineError: a network does not run.
        """
        options = self.options
        columns = [column.describe() | self._accuracy(column) for column in options.columns]
        for column, figures in zip(options.columns, columns, strict=True):
            if options.robustness is not None:
                figures["robustness"] = self._robustness(column, figures["evaluation"])
            figures["boxes"] = [self._boxes(column.alone(), folder) for folder in (options.data, *options.above)]
        for name, files in pairs(options.columns).items():
            figures = next(figures for figures in columns if figures["name"] == name)
            figures["layers"] = [self._layers(plain, quantized) for plain, quantized in files]
        if options.latency:
            timed = self._latency()
            for figures, latency in zip(columns, timed["columns"], strict=True):
                figures["latency"] = latency | {"load": timed["load"]}
        qualities = {figures["name"]: figures.pop("pictures") for figures in columns}
        worst = worst_pictures(qualities, max(_LISTED, options.embed))
        gate = DropGate.compare({figures["name"]: figures["evaluation"]["AP"] for figures in columns}, options.max_drop)
        result = {
            "format": FORMAT,
            "made": {"version": __version__, "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine()},
            "data": self._describe_data(),
            "options": {"limit": options.limit, "robustness": options.robustness, "latency": options.latency},
            "gate": gate.to_json(),
            "columns": columns,
            "worst": [{key: value for key, value in entry.items() if key != "index"} for entry in worst],
        }
        return Report(result, self._embedded(worst))

    def _describe_data(self) -> dict[str, Any]:
        pictures = list(islice(self._data, self.options.limit or None))
        people = sum(int(picture.keypoints[..., 2].any(1).sum()) for picture in pictures)
        return {"name": self.options.data.name, "pictures": len(pictures), "people": people, "hash": self._hash}

    def _embedded(self, worst: Sequence[dict[str, Any]]) -> list[EmbeddedPicture]:
        if not self.options.embed:
            return []
        chosen: list[dict[str, Any]] = []
        for note in ("worst", "lost"):
            chosen += [entry for entry in worst if entry["note"] == note][: self.options.embed]
        people = {column.name: load_people(self._people_file(column)) for column in self.options.columns}
        return embed(chosen, self._data, people)

    def _accuracy(self, column: Column) -> dict[str, Any]:
        path = self._people_file(column)
        pictures = self._data

        def find() -> Figures:
            with column.open() as predictor:
                predictions = predictions_of(predictor, pictures, self.options.limit, self._bar(f"{column.name}: pictures"))
                refiner = predictor.refiner
            save_people(path, predictions)
            return accuracy_figures(
                predictions,
                list(islice(pictures, len(predictions))),
                precision=predictor.precision,
                refiner="" if refiner is None else refiner.name,
                refined=0 if refiner is None else refiner.refined,
            )

        return self._step("accuracy", column, {}, [path], find)

    def _people_file(self, column: Column) -> Path:
        return self.options.work / f"people-{_key(column)}.npz"

    def _robustness(self, column: Column, clean: dict[str, Any]) -> dict[str, Any]:
        """Return the clean figures on the same pictures, and those of each strength of each corruption."""
        asked = self.options.robustness or self.options.limit
        limit = min(asked, self.options.limit or asked)
        found: dict[str, Any] = {}
        if limit and limit < clean["images"]:
            people = load_people(self._people_file(column))[:limit]
            clean = accuracy_figures(people, list(islice(self._data, limit)), precision=column.info.precision)["evaluation"]
        for index, name in enumerate(STRENGTHS):

            def report(done: int, total: int, index: int = index) -> None:
                self._progress(f"{column.name}: corrupted pictures", index * total + done, len(STRENGTHS) * total)

            def measure(name: str = name, bar: Progress = report) -> Figures:
                with column.open() as predictor:
                    results = under_strengths(predictor, self._data, name, limit=limit, progress=bar, precision=predictor.precision)
                return {"strengths": [rounded(result) for result in results]}

            step = "robustness-" + name.replace(" ", "-")
            found[name] = self._step(step, column, {"pictures": limit}, [], measure)["strengths"]
        return {"clean": clean, "corrupted": found}

    def _boxes(self, column: Column, folder: Path) -> dict[str, Any]:
        """Return the figures of the pose network's boxes on a data set, all and by part (`set`) of the data."""
        pictures = CocoPose([folder], cache=False)

        def measure() -> Figures:
            with column.open(score=SCORE_THRESHOLD, people=MOST_PEOPLE) as predictor:
                bar = self._bar(f"{column.model.stem}, boxes of {folder.name}: pictures")
                predictions = predictions_of(predictor, pictures, self.options.limit, bar)
            labels = list(islice(pictures, len(predictions)))
            groups: dict[str, list[int]] = {"all": list(range(len(labels)))}
            for index, picture in enumerate(labels):
                if picture.group:
                    groups.setdefault(picture.group, []).append(index)
            if len(groups) == 2:  # one part is all of it
                groups.popitem()
            rows = {}
            for name, chosen in groups.items():
                if sum(len(labels[index].boxes) + len(labels[index].ignored) for index in chosen) >= _SMALLEST_ABOVE:
                    boxes = compare_boxes([predictions[i] for i in chosen], [labels[i] for i in chosen], precision=predictor.precision)
                    rows[name] = rounded(boxes)
            return {"data": folder.name, "groups": rows}

        return self._run(
            f"boxes-{column.model.stem}-{folder.name}",
            column.inputs() | {"limit": self.options.limit, "pictures": data_hash(folder)},
            [],
            measure,
        )

    def _layers(self, plain: Path, quantized: Path) -> dict[str, Any]:
        def measure() -> Figures:
            bar = self._bar(f"{quantized.name}: pictures for SQNR")
            return {"file": quantized.name, "float": plain.name, "layers": layer_ratios(plain, quantized, self.options.data, bar)}

        files = [Column("", plain).inputs(), Column("", quantized).inputs()]
        return self._run(f"layers-{quantized.stem}", {"files": files}, [], measure)

    def _latency(self) -> dict[str, Any]:
        options, threads = self.options, thread_counts()

        def measure() -> Figures:
            load = round(os.getloadavg()[0], 2)
            return {
                "load": load,
                "columns": measure_latency(options.columns, self._data, options.latency, threads, self._bar("timed pictures")),
            }

        inputs = {"columns": [column.inputs() for column in options.columns], "pictures": options.latency, "machine": machine()}
        return self._run("latency", inputs, [], measure)

    def _step(
        self, step: str, column: Column, inputs: dict[str, object], outputs: Sequence[Path], work: Callable[[], Figures]
    ) -> dict[str, Any]:
        return self._run(f"{step}-{_key(column)}", column.inputs() | {"limit": self.options.limit} | inputs, outputs, work)

    def _run(self, step: str, inputs: dict[str, object], outputs: Sequence[Path], work: Callable[[], Figures]) -> dict[str, Any]:
        if self.options.fresh:
            (self.options.work / f"{step}.json").unlink(missing_ok=True)
        return self._space.run(step, inputs | {"data": self._hash, "version": __version__, "format": FORMAT}, outputs, work)

    def _bar(self, task: str) -> Progress:
        return lambda done, total: self._progress(task, done, total)


def _key(column: Column) -> str:
    """Return a name of the column for files."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in column.name)


def machine() -> str:
    """Return processor, threads and system of this machine in words."""
    names: list[str] = []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} threads"
