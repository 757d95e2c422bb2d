"""The class `Model`: everything that is done with one network, from training to the measured model file, as methods.

Each method calls the functions that the commands call, so its figures are theirs.
"""

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from msgspec.structs import replace
from numpy.typing import NDArray

import edgepose
from edgepose.api import PictureInput, PoseModel, PoseResult, picture_input
from edgepose.config.load import load as load_config
from edgepose.diagnostics.bench import BenchResult, bench, bench_source
from edgepose.errors import ConfigError, UsageError
from edgepose.model.file import read_model
from edgepose.model.shipped import find_model, shipped_models
from edgepose.validation.inputs import find_inputs
from edgepose_export.callbacks import TaskProgress
from edgepose_export.data.formats import find_source
from edgepose_export.evaluation.coco import Evaluation, evaluate
from edgepose_export.evaluation.true_boxes import RefinerEvaluation, evaluate_true_boxes
from edgepose_export.network.checkpoint import build, load_averaged, load_deployed, parameters_count, save_network
from edgepose_export.network.layers import count_multiply_adds, fuse
from edgepose_export.network.refiner import RefinerNetwork
from edgepose_export.network.to_onnx import Card, write_onnx
from edgepose_export.onnx_file import write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.quantize import Target, quantize
from edgepose_export.search.training_search import DEFAULT_FACTORS, TuneResult, tune_training
from edgepose_export.shipped import find_checkpoint, find_recipe
from edgepose_export.training.callbacks import TrainingCallbacks, TrainingProgress
from edgepose_export.training.recipe import load_recipe
from edgepose_export.training_runs import TrainingOptions, TrainingResult, run_training

_log = logging.getLogger(__name__)

TrainingEvent = Literal["on_start", "on_step", "on_measure", "on_phase_end", "on_end"]
"""Event of a training; a callback gets the arguments of the method of this name of `TrainingCallbacks`."""

_Callback = Callable[..., object]

_SIZE_PX = 320


def _log_measurement(progress: TrainingProgress, ap: float, best: bool) -> None:
    _log.info("%.1f minutes, %d steps: AP %.4f%s", progress.minutes, progress.steps, ap, " (best)" if best else "")


_DEFAULT_CALLBACKS: Mapping[str, tuple[_Callback, ...]] = {"on_measure": (_log_measurement,)}


class Model:
    """One network: a checkpoint, which can be trained and exported, or a model file in ONNX, which runs as it is.

    Files that a method needs and nobody named lie in a temporary folder, which goes with the object.

    Args:
        name_or_path: shipped checkpoint or model (`ghost-n`, `refine-n`, `default`), checkpoint (`.pt`) or model file (`.onnx`).

    Attributes:
        path: file of the network as it is now; training and tuning set it to their best checkpoint.

    Raises:
        ConfigError: there is no such file.
    """

    def __init__(self, name_or_path: str | os.PathLike[str] = "ghost-n") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="edgepose-model-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._callbacks: dict[str, list[_Callback]] = {}
        self._made: dict[Path, Path] = {}  # ONNX file by the checkpoint that it was made from
        self._numbers = count()
        self._runner: tuple[object, PoseModel] | None = None
        self._recipe: str | None = None
        self.reset_callbacks()
        self.path = _find(os.fspath(name_or_path))

    @classmethod
    def new(cls, recipe: str | os.PathLike[str] = "ghost-n") -> "Model":
        """Make the network of a recipe (a shipped name, or a YAML file) with weights drawn by the recipe's seed; ConfigError as of it."""
        plan = load_recipe(find_recipe(os.fspath(recipe)))
        model = cls()
        torch.manual_seed(plan.seed)
        model.path = model._folder / f"{plan.name}.pt"
        save_network(model.path, build(plan.network))
        model._recipe = os.fspath(recipe)
        return model

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> "Model":
        """Load a checkpoint or a model file; as `Model(name_or_path)`."""
        return cls(name_or_path)

    def __repr__(self) -> str:
        return f"<Model: {self.path}>"

    @property
    def is_checkpoint(self) -> bool:
        """Whether the network can be trained: it is a checkpoint, and no model file."""
        return self.path.suffix != ".onnx"

    def fuse(self) -> "Model":
        """Fold the batch-norms into the convolutions, and return this model; a model file is folded already."""
        if self.is_checkpoint:
            network = load_averaged(self.path)
            fuse(network)
            self.path = self._folder / f"{self.path.stem}-fused.pt"
            save_network(self.path, network.eval())
            self._made.pop(self.path, None)
        return self

    def info(self) -> dict[str, Any]:
        """Return what the network is: file, task, parameters and multiply-adds of a checkpoint, the description of a model file."""
        if not self.is_checkpoint:
            model = read_model(self.path)
            described = {key: getattr(model.info, key) for key in ("name", "task", "precision", "input_size", "candidates", "trained_on")}
            return {"path": str(self.path), **described, "accuracy": dict(model.info.accuracy), "sha256": model.sha256}
        network = load_deployed(self.path)
        refines = isinstance(network, RefinerNetwork)
        sides = (network.spec.crop_height, network.spec.crop_width) if isinstance(network, RefinerNetwork) else (_SIZE_PX, _SIZE_PX)
        with torch.no_grad():
            multiply_adds = count_multiply_adds(network, torch.zeros(1, 3, *sides))
        return {
            "path": str(self.path),
            "task": "refine" if refines else "pose",
            "parameters": parameters_count(network),
            "multiply_adds": multiply_adds,
            "input": f"{sides[1]}x{sides[0]}",
        }

    def predict(self, image: PictureInput | Sequence[PictureInput], *, refine: str | bool | None = None, **arguments: Any) -> Any:
        """Return the people in a picture, or in each of a list.

        Args:
            image: as of `edgepose.api.PoseModel.predict`, as are further arguments.
            refine: as of `edgepose.load`.
        """
        for one in image if isinstance(image, list | tuple) else (image,):
            if isinstance(one, str | os.PathLike):
                picture_input(os.fspath(one))
        return self._loaded(refine).predict(image, **arguments)

    def track(
        self, source: str | os.PathLike[str] | Iterable[NDArray[Any]], *, refine: str | bool | None = None, **arguments: Any
    ) -> Generator[PoseResult, None, None]:
        """Yield the people of each frame of a video, with track numbers; arguments as of `edgepose.api.PoseModel.track`."""
        if isinstance(source, str | os.PathLike):
            find_inputs([os.fspath(source)])
        return self._loaded(refine).track(source, **arguments)

    def train(
        self,
        data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        *,
        evaluate: str | os.PathLike[str] | None = None,
        progress: TaskProgress = lambda task, done, total: None,
        **options: Any,
    ) -> TrainingResult:
        """Train the network further, as `edgepose-export train` does; then this model is the best checkpoint of the run.

        Args:
            data: labeled pictures, `FOLDER[:SPLIT][@SHARE]`, one or several.
            output: folder of the run.
            evaluate: other labeled pictures to measure with.
            progress: called while labels are read and the network is measured.
            options: further attributes of `edgepose_export.training_runs.TrainingOptions`, such as `pictures`, `minutes` and `recipe`.

        Raises:
            UsageError: an option is not accepted, or this is a model file.
            ConfigError: data, checkpoint or recipe are refused.
        """
        chosen = self._options(data, output, evaluate, options)
        result = run_training(chosen, callbacks=[_Dispatched(self._callbacks)], progress=progress)
        if result is None:
            raise UsageError("this is not the first of several processes; expected the command train for those")
        self.path = result.checkpoint.absolute()
        self._made.pop(self.path, None)
        return result

    def tune(
        self,
        data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        *,
        evaluate: str | os.PathLike[str],
        learning_rates: Sequence[float] = DEFAULT_FACTORS,
        trials: int = 0,
        progress: TaskProgress = lambda task, done, total: None,
        **options: Any,
    ) -> TuneResult:
        """Train several times with other settings, as `edgepose-export tune --train` does; then this model is the most accurate checkpoint.

        Args:
            data, output, evaluate, progress, options: as of `train`; `pictures` or `minutes` is the length of each run.
            learning_rates: factors on the recipe's, one for each run, all else equal.
            trials: number of runs of a search for learning rate, weights of the losses and augmentation; 0 compares `learning_rates`.
        """
        chosen = self._options(data, output, evaluate, options)
        choices = None if trials else {"learning_rate": learning_rates}
        result = tune_training(chosen, choices, trials=trials, callbacks=[_Dispatched(self._callbacks)], progress=progress)
        self.path = result.best.checkpoint.absolute()
        self._made.pop(self.path, None)
        return result

    def val(self, data: str | os.PathLike[str], **options: Any) -> Evaluation | RefinerEvaluation:
        """Measure the accuracy as `edgepose-export evaluate` does, with the figures by `to_json()`.

        Args:
            data: labeled pictures.
            options: of a pose network those of `edgepose_export.evaluation.coco.evaluate`, such as `limit`, `input_size` and `refiner`;
                a refiner is measured on the labeled boxes (`edgepose_export.evaluation.true_boxes.evaluate_true_boxes`).

        Raises:
            ConfigError: the data is refused.
            ModelError: there is no such refiner.
        """
        find_source(Path(data))  # before a checkpoint becomes a file, which takes seconds
        refiner = options.pop("refiner", None)
        refiner_path = None if refiner is None else find_model(os.fspath(refiner))
        path = self._model_file()
        if read_model(path).info.task == "refine":
            return evaluate_true_boxes(path, Path(data), **options)
        return evaluate(path, Path(data), refiner=refiner_path, **options)

    def export(
        self,
        output: str | os.PathLike[str],
        *,
        size: int = _SIZE_PX,
        height: int = 0,
        width: int = 0,
        half: bool = False,
        trained_on: str = "",
        int8: bool = False,
        data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        pictures: int = 200,
        target: Target = "cpu",
    ) -> Path:
        """Write an ONNX file, as the commands `onnx` and, with `int8`, `quantize` do; return its path.

        Args:
            output: file to write.
            size, height, width, half, trained_on: as of `edgepose-export onnx`.
            int8: quantize to INT8, calibrated on `pictures` pictures of `data`, for the backend `target`.

        Raises:
            UsageError: INT8 without pictures, or a model file that would only be copied.
            ConfigError: the pictures, a size or the checkpoint are refused.
        """
        written = Path(output)
        if written.suffix.lower() != ".onnx":
            raise UsageError(f"{written} is no ONNX file by its name; expected .onnx (`edgepose build-engine` makes engines)")
        folders = _texts(data)
        if int8 != bool(folders):
            raise UsageError(f"int8 is {int8} and data names {len(folders)} folders; expected int8=True and pictures that calibrate it")
        if not (int8 or self.is_checkpoint):
            raise UsageError(f"{self.path} is a model file already; expected int8=True with data, or a checkpoint")
        pictures_to_calibrate = CalibrationSet([Path(folder) for folder in folders], pictures) if int8 else None
        source = self.path
        if self.is_checkpoint:
            source = self._folder / "float.onnx" if int8 else written
            write_onnx(self.path, source, Card(written.stem, max(height, width) or size, trained_on), height=height, width=width, half=half)
        if pictures_to_calibrate is not None:
            write_model(quantize(source, pictures_to_calibrate, target=target), written)
        return written

    def benchmark(self, source: str | os.PathLike[str] | None = None, *, rounds: int = 6, seconds: float = 2.0) -> BenchResult:
        """Measure the speed on this machine as `edgepose bench` does.

        Args:
            source: video, image or folder; None is the video at hand, such as the packaged clip.
            rounds, seconds: pairs of measurements, and length of each.
        """
        config = load_config(Path(os.devnull), (), {})
        with bench_source(None if source is None else os.fspath(source)) as video:
            config = replace(config, model=replace(config.model, path=str(self._model_file())))
            return bench(config, video, rounds=rounds, seconds=seconds, done=lambda: None)

    def add_callback(self, event: TrainingEvent, callback: _Callback) -> None:
        """Call a function at an event of every later training; an exception ends the training.

        Raises:
            UsageError: there is no such event.
        """
        self._callbacks_of(event).append(callback)

    def clear_callback(self, event: TrainingEvent) -> None:
        """Forget all callbacks of an event, the default one too."""
        self._callbacks_of(event).clear()

    def reset_callbacks(self) -> None:
        """Forget all callbacks and restore the default: each measurement is logged."""
        self._callbacks = {event: list(_DEFAULT_CALLBACKS.get(event, ())) for event in get_args(TrainingEvent)}

    def _callbacks_of(self, event: str) -> list[_Callback]:
        if event not in self._callbacks:
            raise UsageError(f"there is no event {event!r}; expected {', '.join(self._callbacks)}")
        return self._callbacks[event]

    def _options(
        self,
        data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        evaluate_on: str | os.PathLike[str] | None,
        options: Mapping[str, Any],
    ) -> TrainingOptions:
        if not self.is_checkpoint:
            raise UsageError(f"{self.path} is a model file, which cannot be trained; expected a checkpoint, such as ghost-n")
        defaults: dict[str, Any] = {"labels_only": True} if self._recipe is not None else {}  # drawn weights teach nothing
        measured = None if evaluate_on is None else Path(evaluate_on)
        try:
            return TrainingOptions(
                data=_texts(data), warm_start=str(self.path), output=Path(output), evaluate=measured, **defaults | dict(options)
            )
        except TypeError as error:
            names = ", ".join(name for name in TrainingOptions.__slots__ if name not in ("data", "warm_start", "output", "evaluate"))
            raise UsageError(f"an option of the training is not known ({str(error).partition('() ')[2]}); expected {names}") from error

    def _model_file(self) -> Path:
        """Return an ONNX file of the network as it is now."""
        if not self.is_checkpoint:
            return self.path
        if self.path not in self._made:
            made = self._folder / f"{self.path.stem}-{next(self._numbers)}.onnx"
            write_onnx(self.path, made, Card(self.path.stem, _SIZE_PX))
            self._made[self.path] = made
        return self._made[self.path]

    def _loaded(self, refine: str | bool | None) -> PoseModel:
        key = (self._model_file(), refine)
        if self._runner is None or self._runner[0] != key:
            self._runner = (key, edgepose.load(key[0], refine=refine))
        return self._runner[1]


class _Dispatched(TrainingCallbacks):
    """The callbacks of a model, by event."""

    def __init__(self, callbacks: Mapping[str, Sequence[_Callback]]) -> None:
        self._callbacks = callbacks

    def on_start(self, progress: TrainingProgress) -> None:
        self._tell("on_start", progress)

    def on_step(self, progress: TrainingProgress) -> None:
        self._tell("on_step", progress)

    def on_measure(self, progress: TrainingProgress, ap: float, best: bool) -> None:
        self._tell("on_measure", progress, ap, best)

    def on_phase_end(self, progress: TrainingProgress) -> None:
        self._tell("on_phase_end", progress)

    def on_end(self, complete: bool) -> None:
        self._tell("on_end", complete)

    def _tell(self, event: str, *values: object) -> None:
        for callback in tuple(self._callbacks[event]):
            callback(*values)


def _find(name_or_path: str) -> Path:
    """Return the path of a checkpoint or a model file; a bare name is a checkpoint where one of this name is shipped."""
    if name_or_path.endswith(".onnx"):
        return find_model(name_or_path)
    try:
        return find_checkpoint(name_or_path)
    except ConfigError as error:
        if name_or_path == "default" or name_or_path.partition("-int8")[0] in shipped_models():
            return find_model(name_or_path)
        raise ConfigError(f"{error}; of model files the name ends in .onnx") from error


def _texts(data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    return [os.fspath(data)] if isinstance(data, str | os.PathLike) else [os.fspath(one) for one in data]
