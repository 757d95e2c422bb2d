"""The Python API: a model that is loaded once, and finds the people in pictures and videos. `edgepose.load` opens it.

The results are those of `edgepose infer`: both run the same functions with the same defaults.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args, overload

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgepose.capture.files.listing import is_pattern
from edgepose.capture.source import path_of
from edgepose.config.cross_checks import check_together
from edgepose.config.load import load as load_config
from edgepose.config.schema import Config, FilesConfig
from edgepose.engine.backend import open_backend, pose_model
from edgepose.errors import ConfigError, ModelError, SourceError, UsageError
from edgepose.frame import NS_PER_S, Frame
from edgepose.model.file import ModelInfo
from edgepose.pipeline.offline.people import FramePeople, people_in
from edgepose.pipeline.offline.pictures import PictureInput, PilPicture, rgb_of, type_name
from edgepose.pipeline.offline.result import PoseResult
from edgepose.pipeline.offline.run import naming_the_file, open_input
from edgepose.pipeline.offline.settings import offline_config
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.telemetry.metrics import Metrics
from edgepose.validation.inputs import OfflineInput, find_inputs, is_image

__all__ = ["PictureInput", "PoseModel", "PoseResult", "load_model"]

CallbackEvent = Literal["on_start", "on_result", "on_end"]
"""When a callback runs: before the first picture of a call (it gets the source), with each `PoseResult`, and at the end of the call (it
gets the number of results)."""

_LARGEST_SIDE_PX, _MOST_PEOPLE = 4096, 1000
_PICTURE = "image"  # name of the source of pictures that come from no file


def load_model(
    model: str | os.PathLike[str] = "default",
    *,
    refine: str | os.PathLike[str] | bool | None = None,
    refine_people: int | None = None,
    backend: str | None = None,
    config: str | os.PathLike[str] | None = None,
    settings: Mapping[str, object] | None = None,
) -> "PoseModel":
    """Load a pose network and a refiner; see `edgepose.load`."""
    texts = [f"{key}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}" for key, value in (settings or {}).items()]
    if backend is not None:
        texts.append(f"model.backend={backend}")
    if refine_people is not None:
        _check_number("refine_people", refine_people, 0, _MOST_PEOPLE, whole=True)
    try:
        loaded = load_config(Path(os.devnull) if config is None else Path(config), texts, {})
    except ConfigError as error:
        raise ConfigError(str(error).replace("--set ", "settings: ")) from error
    chosen = offline_config(
        loaded,
        [],
        FilesConfig(),
        model=os.fspath(model),
        refiner=None if refine is None or isinstance(refine, bool) else os.fspath(refine),
        refine_people=0 if refine is False else refine_people,
    )
    return PoseModel(replace(loaded, model=chosen.model, refine=chosen.refine))


class PoseModel:
    """A pose network and a refiner, loaded; a context manager. Every method may be called from several threads at once.

    Threads take turns at the network, which has threads of its own; reading and preparing pictures runs beside it.

    Attributes:
        info: description of the pose network.
        backend: library and kind of device that runs it, such as `onnxruntime-cpu`.
        refiner: description of the refiner; None where nobody is refined.
    """

    def __init__(self, config: Config) -> None:
        """
        Args:
            config: sections `model`, `pose`, `refine`, `tiles`, `track`, `smooth`, `motion` and `plausibility`; its cameras lend their
                settings to sources on the same host.

        Raises:
            ConfigError, ModelError, EngineError: a file or the device cannot be used.
        """
        check_together(config)
        self._config = config
        self._metrics = Metrics()
        self._turn = threading.Lock()
        self._callbacks: dict[str, list[Callable[[Any], object]]] = {event: [] for event in get_args(CallbackEvent)}
        model = pose_model(config.model)
        refiner = Refiner.configured(config, self._metrics)
        self._network = open_backend(model, config.model)
        if refiner is not None:
            try:
                refiner.open()
            except BaseException:
                self._network.close()
                raise
        self._refiner = refiner
        self.info: ModelInfo = model.info
        self.refiner: ModelInfo | None = None if refiner is None else refiner.model.info
        self.backend: str = self._network.name

    def __enter__(self) -> "PoseModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        refiner = "no refiner" if self.refiner is None else f"refiner {self.refiner.name}"
        return f"<PoseModel: {self.info.name} ({self.info.precision}, {refiner}) on {self.backend}>"

    def close(self) -> None:
        """Free the networks; the model cannot be used afterwards. Further calls have no effect."""
        with self._turn:
            self._network.close()
            if self._refiner is not None:
                self._refiner.close()

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is a sequence too: this overload takes it
        self, image: PictureInput, *, conf: float | None = None, imgsz: int | None = None, max_people: int | None = None, rgb: bool = False
    ) -> PoseResult: ...
    @overload
    def predict(
        self,
        image: Sequence[PictureInput],
        *,
        conf: float | None = None,
        imgsz: int | None = None,
        max_people: int | None = None,
        rgb: bool = False,
    ) -> list[PoseResult]: ...
    def predict(
        self,
        image: PictureInput | Sequence[PictureInput],
        *,
        conf: float | None = None,
        imgsz: int | None = None,
        max_people: int | None = None,
        rgb: bool = False,
    ) -> PoseResult | list[PoseResult]:
        """Return the people in a picture, or for a list of pictures a list of results in the same order.

        Args:
            image: path or URL of a picture; array, uint8 (H, W, 3); picture of Pillow; or a list of these. A file is turned upright as its
                Exif data say; the pixels of Pillow are taken as they are.
            conf: lowest score of a person. None is the configured one, 0.3 by default.
            imgsz: long side of the network's input in pixels. None is the model's own.
            max_people: maximum number of people. None is the configured number, 50 by default.
            rgb: whether the channels of arrays are red, green and blue; otherwise blue, green and red, as OpenCV reads them.

        Raises:
            UsageError: an argument is not accepted.
            SourceError: a file or URL cannot be read.
            EngineError: the network fails, or is closed.
        """
        config = self._adjusted(conf, imgsz, max_people)
        self._tell("on_start", image)
        count = 0
        try:
            if not isinstance(image, list | tuple):
                result = self._predict(image, _PICTURE, config, rgb)
                count = 1
                return result
            results = []
            for number, one in enumerate(image):
                results.append(self._predict(one, f"{_PICTURE} {number} of the list", config, rgb, number))
                count += 1
            return results
        finally:
            self._tell("on_end", count)

    def track(
        self,
        source: str | os.PathLike[str] | Iterable[NDArray[Any] | PilPicture],
        *,
        conf: float | None = None,
        imgsz: int | None = None,
        max_people: int | None = None,
        rgb: bool = False,
        rate: float | None = None,
    ) -> Generator[PoseResult, None, None]:
        """Yield the people of each frame, with track numbers. No frame of a file is skipped; of a stream, the newest is read.

        Everything is released when the frames end, when the generator is closed, and when it is forgotten. Several calls are independent.

        Args:
            source: video, folder of images, pattern, or URL of a stream; or an iterable of frames, arrays or pictures of Pillow.
            conf, imgsz, max_people: as in `predict`.
            rgb: as in `predict`, for arrays.
            rate: frames per second of images, of files without timestamps and of an iterable. None is 25 for files; the frames of an
                iterable are then timed as they arrive.

        Raises:
            UsageError, SourceError: immediately, where an argument is not accepted or a file does not exist.
            SourceError, EngineError: while it runs, where the source or the network fails.
        """
        config = self._adjusted(conf, imgsz, max_people)
        if rate is not None:
            _check_number("rate", rate, 0.001, 1000)
        if isinstance(source, str | os.PathLike):
            inputs = find_inputs([os.fspath(source)]).inputs
            config = offline_config(config, inputs, FilesConfig(), track=True, rate=rate)
            found = self._in_files(inputs, config)
        elif isinstance(source, Iterable) and not isinstance(source, np.ndarray):
            config = replace(config, track=replace(config.track, enabled=True))
            found = self._in_frames(source, config, rgb, rate)
        else:
            raise UsageError(f"the source is of type {type_name(source)}; expected a path, a URL or an iterable of frames")
        return self._told(source, found)

    def add_callback(self, event: CallbackEvent, callback: Callable[[Any], object]) -> None:
        """Call a function at an event of every later `predict` and `track`, in their thread; its exceptions are the caller's.

        Raises:
            UsageError: there is no such event, or the callback is no function.
        """
        callbacks = self._callbacks_of(event)
        if not callable(callback):
            raise UsageError(f"the callback is of type {type_name(callback)}; expected a function")
        callbacks.append(callback)

    def clear_callbacks(self, event: CallbackEvent | None = None) -> None:
        """Forget the callbacks of an event, or of all events."""
        for one in self._callbacks if event is None else (event,):
            self._callbacks_of(one).clear()

    def _callbacks_of(self, event: str) -> list[Callable[[Any], object]]:
        if event not in self._callbacks:
            raise UsageError(f"there is no event {event!r}; expected {', '.join(self._callbacks)}")
        return self._callbacks[event]

    def _tell(self, event: CallbackEvent, value: object) -> None:
        for callback in tuple(self._callbacks[event]):
            callback(value)

    def _told(self, source: object, found: Generator[PoseResult, None, None]) -> Generator[PoseResult, None, None]:
        count = 0
        self._tell("on_start", source)
        try:
            with closing(found):
                for result in found:
                    self._tell("on_result", result)
                    count += 1
                    yield result
        finally:
            self._tell("on_end", count)

    def _predict(self, image: object, name: str, config: Config, rgb: bool, number: int = 0) -> PoseResult:
        if isinstance(image, str | os.PathLike):
            frame = _first_frame(os.fspath(image), config, name)
        else:
            frame = Frame(rgb_of(image, rgb=rgb, name=name), time.time_ns(), "host", number, _PICTURE)
        config = replace(config, track=replace(config.track, enabled=False))
        prepared = Preprocessor(self.info, config.model.input_size, self._metrics.took).prepare(frame)
        find = self._people_of(frame.camera, config)
        result = PoseResult(frame, find(prepared), config.pose.keypoint_threshold, find.aircraft)
        self._tell("on_result", result)
        return result

    def _people_of(self, camera: str, config: Config) -> FramePeople:
        return FramePeople(camera, self._network, self.info, config, self._metrics, self._refiner, self._turn)

    def _in_files(self, inputs: Sequence[OfflineInput], config: Config) -> Generator[PoseResult, None, None]:
        for one in inputs:
            frames = 0
            of_input = replace(config, cameras={one.camera: config.cameras[one.camera]})
            with closing(open_input(of_input, one)) as source:
                found = people_in(source, self._network, self.info, of_input, self._metrics, self._refiner, turn=self._turn)
                try:
                    with naming_the_file(one), closing(found):
                        for frame, people, aircraft in found:
                            frames += 1
                            yield PoseResult(frame, people, config.pose.keypoint_threshold, aircraft)
                except SourceError as error:
                    if error.cause != "ended" or not frames:  # a server that plays a file: its end is an end
                        raise

    def _in_frames(self, images: Iterable[object], config: Config, rgb: bool, rate: float | None) -> Generator[PoseResult, None, None]:
        preprocessor = Preprocessor(self.info, config.model.input_size, self._metrics.took)
        find = self._people_of(_PICTURE, config)
        began_ns = time.time_ns()
        for number, image in enumerate(images):
            at_ns = time.time_ns() if rate is None else began_ns + round(number * NS_PER_S / rate)
            if isinstance(image, str | os.PathLike):
                raise UsageError(
                    f"frame {number} is the path {os.fspath(image)}; expected an array or a picture of Pillow: track reads the files of a"
                    " folder or a pattern, and predict a list of paths"
                )
            frame = Frame(rgb_of(image, rgb=rgb, name=f"frame {number}"), at_ns, "host" if rate is None else "stream", number, _PICTURE)
            people = find(preprocessor.prepare(frame))
            yield PoseResult(frame, people, config.pose.keypoint_threshold, find.aircraft)

    def _adjusted(self, conf: float | None, imgsz: int | None, max_people: int | None) -> Config:
        """Return the configuration with the arguments of a call."""
        pose, track, model = self._config.pose, self._config.track, self._config.model
        if conf is not None:
            _check_number("conf", conf, 0, 1)
            pose = replace(pose, score_threshold=float(conf))
            track = replace(track, low_score_threshold=min(track.low_score_threshold, float(conf)))
        if max_people is not None:
            _check_number("max_people", max_people, 1, _MOST_PEOPLE, whole=True)
            pose = replace(pose, maximum_people=int(max_people))
        if imgsz is not None:
            _check_number("imgsz", imgsz, self.info.stride, _LARGEST_SIDE_PX, whole=True)
            try:
                self.info.long_side(int(imgsz))
            except ModelError as error:
                raise UsageError(str(error).replace("model.input_size", "imgsz")) from error
            model = replace(model, input_size=int(imgsz))
        return replace(self._config, pose=pose, track=track, model=model)


def picture_input(source: str) -> OfflineInput:
    """Return a picture as an input.

    Args:
        source: path, or a URL, which is not contacted.

    Raises:
        UsageError: it names something else than one picture.
        SourceError: there is no such file.
    """
    path = path_of(source)
    if not source:
        raise UsageError("the path of the picture is empty; expected a file or a URL")
    if path is not None and not path.exists() and not is_pattern(path):
        raise SourceError(f"{source} does not exist; expected a picture", "not_found")
    if path is not None and path.exists() and not is_image(path):
        kind = "a folder" if path.is_dir() else "no picture by its name"
        expected = "expected a picture, such as a .jpg: track reads videos and folders, and a list of paths is a batch"
        raise UsageError(f"{source} is {kind}; {expected}")
    inputs = find_inputs([source]).inputs
    if len(inputs) != 1 or len(inputs[0].images) > 1:
        raise UsageError(f"{source} names several pictures; expected one: pass a list of paths")
    return inputs[0]


def _first_frame(source: str, config: Config, name: str) -> Frame:
    """Return the picture in a file, or the first frame of a URL, whose errors tell its number in a list: its path may be a secret."""
    one = picture_input(source)
    try:
        with closing(open_input(offline_config(config, [one], FilesConfig()), one)) as opened, naming_the_file(one):
            return opened.read()
    except SourceError as error:
        if path_of(source) is None and name != _PICTURE:
            error.args = (f"{name}: {error}",)
        raise


def _check_number(name: str, value: object, lowest: float, highest: float, *, whole: bool = False) -> None:
    kind = "a whole number" if whole else "a number"
    types = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, types) or not lowest <= value <= highest:  # NaN is refused too
        raise UsageError(f"{name} is {value!r}; expected {kind} from {lowest:g} to {highest:g}")
