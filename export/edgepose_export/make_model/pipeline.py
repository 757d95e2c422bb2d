"""The steps from a recipe to the files of a model that ship.

ghostify -> train -> calibrate-score -> onnx -> quantize-cpu, quantize-tensorrt -> table -> report -> gate -> card -> assets
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnx
from rich.table import Table

from edgepose.errors import ConfigError, EdgeposeError
from edgepose.model.file import METADATA_PREFIX, read_model
from edgepose_export.callbacks import TaskProgress
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.mix import MixedFolder
from edgepose_export.evaluation.score import calibrate_refiner, calibrate_score
from edgepose_export.make_model.card import card
from edgepose_export.make_model.compare import Pair, better_on_cpus, comparison, figures_of, times_ms
from edgepose_export.make_model.start import make_start
from edgepose_export.network.checkpoint import load_deployed, save_network
from edgepose_export.network.refiner import RefinerNetwork, RefinerSpec
from edgepose_export.network.to_onnx import Card, to_onnx
from edgepose_export.onnx_file import file_hash, set_metadata, store_half, write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.quantize import Target
from edgepose_export.quantization.quantize import quantize as quantize_file
from edgepose_export.report.columns import Column
from edgepose_export.report.gate import DropGate
from edgepose_export.report.measure import Measurements, ReportOptions
from edgepose_export.report.page import page
from edgepose_export.steps import Figures, Workspace, data_hash, replace_file, replace_text
from edgepose_export.training.callbacks import TrainingCallbacks
from edgepose_export.training.recipe import Recipe
from edgepose_export.training.trainer import Trainer

_SHIPPED = "shipped"
"""Name of the file that a new model would replace, in its report."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What a model is made from, and where it goes.

    Attributes:
        name: of the model, such as `ghost-n`.
        recipe: network and phases.
        data: training data with shares; calibration uses it too.
        evaluation: labeled pictures that nothing is trained or calibrated on.
        work: folder of the steps.
        assets: folder of the model files and cards.
        checkpoints: folder of the checkpoints.
        teacher: file of the teacher; not needed with `checkpoint`.
        checkpoint: a trained checkpoint, which replaces the steps ghostify and train.
        companion: the other network of the pair; a refiner needs its pose network.
        train_minutes: most minutes of training, over all calls; 0 trains the whole recipe.
        size: long side of a pose network's input in pixels.
        trained_on: data sets and teacher, in words.
        score_pictures: pictures that calibrate the score; 0 leaves the score.
        calibration_pictures: pictures that calibrate INT8.
        limit: pictures of the evaluation, from the first; 0 is all.
        rounds: calls of each file that are timed.
        robustness: pictures of the report's robustness; None measures none.
        latency: pictures whose time the report measures; 0 measures none.
        max_drop: AP that a new pair may have less than the one that it replaces.
        threads: of the network in training; 0 is one per core.
        workers: threads that make batches.
        force: replace a better model too.
    """

    name: str
    recipe: Recipe
    data: Sequence[MixedFolder]
    evaluation: Path
    work: Path
    assets: Path
    checkpoints: Path
    teacher: Path | None = None
    checkpoint: Path | None = None
    companion: Path | None = None
    train_minutes: float = 0.0
    size: int = 320
    trained_on: str = ""
    score_pictures: int = 600
    calibration_pictures: int = 200
    limit: int = 0
    rounds: int = 40
    robustness: int | None = 100
    latency: int = 1000
    max_drop: float = 0.0
    threads: int = 0
    workers: int = 1
    force: bool = False


class ModelSteps:
    """The making of one model; each method is a step, and a second run repeats what has changed.

    Args:
        options: what to make.
        report: takes a line about each step.
        progress: called for what takes time.
        callbacks: of the training.

    Raises:
        ConfigError: a file is missing or does not fit; the gate refuses.
    """

    def __init__(
        self,
        options: ModelOptions,
        *,
        report: Callable[[str], None] = lambda line: None,
        progress: TaskProgress = lambda task, done, total: None,
        callbacks: Sequence[TrainingCallbacks] = (),
    ) -> None:
        self.options = options
        self._progress, self._callbacks = progress, callbacks
        self._refines = isinstance(options.recipe.network, RefinerSpec)
        for what, path in (("teacher", options.teacher), ("checkpoint", options.checkpoint), ("companion", options.companion)):
            if path is not None and not path.is_file():
                raise ConfigError(f"{what} {path} does not exist; expected a file")
        if options.teacher is None and options.checkpoint is None:
            raise ConfigError(f"model {options.name} has no teacher; expected --teacher FILE, or --checkpoint FILE of a trained network")
        if self._refines and options.companion is None:
            raise ConfigError(f"model {options.name} is a refiner; expected its pose network as --companion")
        self._space = Workspace(options.work, report)
        self._folders = [source.folder for source in options.data]
        self._pair = Pair(options.companion)
        self._hashes: dict[Path, str] = {}

    def run(self) -> Table:
        """Run all steps, and return the table of the files."""
        trained = self.options.checkpoint or self._train(self._ghostify())
        final = self._calibrate(trained)
        files = self._files(final)
        rows = self._table(files)
        self._gate(files, rows)
        self._ship(final, files, rows)
        return comparison(self.options.name, rows)

    def _ghostify(self) -> Path:
        options, start = self.options, self.options.work / "start.pt"
        teacher = options.teacher
        assert teacher is not None
        inputs = {
            "network": msgspec.to_builtins(options.recipe.network),
            "teacher": file_hash(teacher),
            "data": self._data(),
            "size": options.size,
        }

        def work() -> Figures:
            steps = make_start(options.recipe.network, teacher, self._folders, start, size=options.size, progress=self._progress)
            return {step.name: step.error for step in steps}

        self._space.run("ghostify", inputs, [start], work)
        return start

    def _train(self, start: Path) -> Path:
        """Train for what is left of the recipe or of the minutes; a new start begins again, more minutes go on."""
        options, run = self.options, self.options.work / "train"
        last = run / "last.pt"
        inputs = {
            "recipe": msgspec.to_builtins(options.recipe),
            "start": file_hash(start),
            "data": self._data(),
            "shares": [source.share for source in options.data],
        }
        begun = run / "inputs.json"
        resume = begun.exists() and begun.read_text(encoding="utf-8") == json.dumps(inputs)

        def work() -> Figures:
            trainer = Trainer(
                options.recipe, options.data, start, run, resume=resume, workers=options.workers, threads=options.threads,
                callbacks=self._callbacks, progress=lambda done, total: self._progress("labels", done, total),
            )  # fmt: skip
            replace_text(begun, json.dumps(inputs))
            left = options.train_minutes - trainer.state.seconds / 60
            if not options.train_minutes or left > 0:
                trainer.run(max(left, 1e-9) if options.train_minutes else 0.0)
            state = trainer.state
            return {"steps": state.steps, "minutes": round(state.seconds / 60, 2), "complete": state.phase >= len(options.recipe.phases)}

        self._space.run("train", {**inputs, "minutes": options.train_minutes}, [last], work)
        return last

    def _calibrate(self, trained: Path) -> Path:
        options, final = self.options, self.options.work / "final.pt"
        inputs = {
            "checkpoint": file_hash(trained),
            "data": self._data(),
            "pictures": options.score_pictures,
            "size": options.size,
            "companion": file_hash(options.companion) if self._refines and options.companion else "",
        }

        def report(done: int, total: int) -> None:
            self._progress("pictures for the score", done, total)

        def work() -> Figures:
            network = load_deployed(trained)
            if network.spec != options.recipe.network:
                raise ConfigError(f"{trained} was made for another network than recipe {options.recipe.name} names")
            weights: Sequence[float] = ()
            if options.score_pictures:
                data = CocoPose(self._folders)
                if isinstance(network, RefinerNetwork):
                    assert options.companion is not None
                    weights = calibrate_refiner(network, options.companion, data, limit=options.score_pictures, progress=report)
                else:
                    weights = calibrate_score(network, data, options.size, limit=options.score_pictures, progress=report)
            save_network(final, network, half=True)
            return {"weights": list(weights)}

        self._space.run("calibrate-score", inputs, [final], work)
        return final

    def _files(self, final: Path) -> list[Path]:
        """Write the float file, and those for CPUs and TensorRT in INT8."""
        options, full = self.options, self.options.work / "float.onnx"
        plain, cpu, tensorrt = (options.work / f"{options.name}{ending}.onnx" for ending in ("", "-int8", "-tensorrt"))

        def trace() -> Figures:
            model = to_onnx(load_deployed(final), Card(options.name, options.size, options.trained_on))
            write_model(model, full)
            write_model(store_half(model), plain)
            return {}

        named = {"name": options.name, "size": options.size, "trained_on": options.trained_on}
        self._space.run("onnx", {"checkpoint": file_hash(final), **named}, [full, plain], trace)
        targets: dict[Target, Path] = {"cpu": cpu, "tensorrt": tensorrt}
        for target, path in targets.items():

            def quantize(target: Target = target, path: Path = path) -> Figures:
                pictures = CalibrationSet(self._folders, options.calibration_pictures)
                made = quantize_file(full, pictures, target=target, progress=self._progress)
                write_model(store_half(made) if target == "cpu" else made, path)  # TensorRT's parser gets weights as they are
                return {"bytes": path.stat().st_size}

            inputs = {"float": file_hash(full), "data": self._data(), "pictures": options.calibration_pictures}
            self._space.run(f"quantize-{target}", inputs, [path], quantize)
        return [plain, cpu, tensorrt]

    def _table(self, files: Sequence[Path]) -> dict[str, dict[str, Any]]:
        options = self.options
        inputs = {"files": [file_hash(path) for path in files], **self._evaluated(), "rounds": options.rounds}

        def work() -> Figures:
            rows = {path.name: figures_of(path, self._pair, options.evaluation, options.limit, self._progress) for path in files}
            pictures = CalibrationSet(self._folders, 32)
            compared = list(files[:2])  # a file for TensorRT is not made for CPUs
            times = times_ms(compared, pictures, options.rounds, lambda done, total: self._progress("timed calls", done, total))
            for path, value in zip(compared, times, strict=True):
                rows[path.name] |= {"time_ms": value, "time_ratio": value / times[0]}
            return rows

        return self._space.run("table", inputs, [], work)

    def _gate(self, files: Sequence[Path], rows: dict[str, dict[str, Any]]) -> None:
        """Write the report, and refuse to replace a model whose pair is better; both are the file that a CPU would run."""
        options = self.options
        old = self._default_file(options.assets)
        if old is not None and self._shipped(files):
            return
        new = files[better_on_cpus(*(rows[path.name] for path in files[:2])) == "int8"]
        precisions = self._report([path for path in (old, *files[:2]) if path is not None])
        if options.force or old is None or _SHIPPED not in precisions:
            return
        compared = {_SHIPPED: precisions[_SHIPPED], new.stem: precisions[new.stem]}

        def compare() -> Figures:
            gate = DropGate.compare(compared, options.max_drop)
            for failure in gate.failures:
                raise ConfigError(
                    f"{failure} on {options.evaluation}, as {options.work / 'report' / 'report.html'} shows: train for longer, or --force"
                )
            return gate.to_json()

        self._space.run("gate", {"precisions": compared, "max_drop": options.max_drop}, [], compare)

    def _report(self, files: Sequence[Path]) -> dict[str, float]:
        """Write `report/report.html` and its JSON about files with their companion; return the AP by the name of the column."""
        options = self.options
        page_file, figures_file = (options.work / "report" / f"report.{ending}" for ending in ("html", "json"))
        columns = []
        for path in files:
            if path.parent == options.assets and not _runs(path):
                continue  # of another version: there is nothing to compare with
            pose, refiner = (options.companion, path) if self._refines else (path, options.companion)
            assert pose is not None
            columns.append(Column(_SHIPPED if path.parent == options.assets else path.stem, pose, refiner))
        asked = ReportOptions(
            columns=columns,
            data=options.evaluation,
            work=options.work / "report",
            limit=options.limit,
            robustness=options.robustness,
            latency=options.latency,
        )

        def work() -> Figures:
            made = Measurements(asked, progress=self._progress).run()
            replace_text(page_file, page(made))
            replace_text(figures_file, json.dumps(made.figures, indent=1) + "\n")
            return {column["name"]: column["evaluation"]["AP"] for column in made.figures["columns"]}

        inputs = {
            "columns": {column.name: column.inputs() for column in columns},
            "robustness": options.robustness,
            "latency": options.latency,
            **self._evaluated(),
        }
        return self._space.run("report", inputs, [page_file, figures_file], work)

    def _ship(self, final: Path, files: Sequence[Path], rows: dict[str, dict[str, Any]]) -> None:
        """Write the figures into the files, the card from them, and copy all to where they ship."""
        options, folder = self.options, self.options.work / "assets"
        made = [folder / path.name for path in files]
        text = folder / f"{options.name}.md"
        precision = better_on_cpus(*(rows[path.name] for path in files[:2]))

        def work() -> Figures:
            for source, target in zip(files, made, strict=True):
                values = {"accuracy": json.dumps(rows[source.name]["accuracy"])}
                if source == files[0]:
                    values["cpu_precision"] = precision
                model = onnx.load(str(source))
                set_metadata(model, {METADATA_PREFIX + key: value for key, value in values.items()})
                write_model(model, target)
            replace_text(text, card(options.name, [read_model(path) for path in made], load_deployed(final)))
            return {"cpu_precision": precision}

        accuracy = {name: row["accuracy"] for name, row in rows.items()}
        inputs = {"files": [file_hash(path) for path in files], "accuracy": accuracy, "cpu_precision": precision}
        self._space.run("card", inputs, [*made, text], work)
        copies = {path: options.assets / path.name for path in (*made, text)} | {final: options.checkpoints / f"{options.name}.pt"}

        def copy() -> Figures:
            for source, target in copies.items():
                replace_file(source, target)
            return {}

        self._space.run("assets", {path.name: file_hash(path) for path in copies}, list(copies.values()), copy)

    def _shipped(self, files: Sequence[Path]) -> bool:
        """Return whether the model's files in the assets are the ones that the last run put there from these files."""
        made = [self.options.work / "assets" / path.name for path in files]
        theirs = [self.options.assets / path.name for path in files]
        if not all(path.is_file() for path in (*made, *theirs)):
            return False
        saved = json.loads((self.options.work / "card.json").read_text(encoding="utf-8"))["inputs"]["files"]
        current = [file_hash(path) for path in files]
        return bool(saved == current) and all(file_hash(a) == file_hash(b) for a, b in zip(made, theirs, strict=True))

    def _default_file(self, folder: Path) -> Path | None:
        """Return the file of the model in a folder that a CPU would run; None where there is none."""
        plain, quantized = folder / f"{self.options.name}.onnx", folder / f"{self.options.name}-int8.onnx"
        if not plain.is_file():
            return None
        if not _runs(plain):  # of another version
            return plain
        return quantized if read_model(plain).info.cpu_precision == "int8" and quantized.is_file() else plain

    def _data(self) -> list[str]:
        return [self._hash(folder) for folder in self._folders]

    def _evaluated(self) -> dict[str, object]:
        options = self.options
        companion = file_hash(options.companion) if options.companion is not None else ""
        return {"evaluation": self._hash(options.evaluation), "limit": options.limit, "companion": companion}

    def _hash(self, source: Path) -> str:
        if source not in self._hashes:
            self._hashes[source] = data_hash(source, lambda done, total: self._progress(f"labels of {source.name}", done, total))
        return self._hashes[source]


def _runs(path: Path) -> bool:
    """Return whether this version runs a model file."""
    try:
        read_model(path)
    except EdgeposeError:
        return False
    return True
