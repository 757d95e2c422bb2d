"""The model files that are part of the package, by name, and the choice between the files of one model.

`NAME.onnx` is a model in float, `NAME-int8.onnx` the same in INT8 for CPUs, `NAME-tensorrt.onnx` in INT8 for TensorRT.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from edgepose.errors import ModelError
from edgepose.model.file import ModelFile, ModelInfo, Task, read_model

BackendChoice = Literal["auto", "cpu", "cuda", "tensorrt", "triton"]
"""A backend as the configuration names it (`model.backend`)."""

PrecisionChoice = Literal["auto", "float32", "int8"]
"""A precision as the configuration names it (`model.precision`)."""

_ASSETS = Path(__file__).parents[1] / "assets"
_ALIASES = {"default": "ghost-n"}
_INT8, _TENSORRT = "-int8", "-tensorrt"


def is_shipped(path: Path) -> bool:
    """Return whether a file is part of the package."""
    return path in _files().values()


def shipped_models() -> dict[str, Task]:
    """Return the task of each model that is part of the package, by name."""
    return {stem: _info(path).task for stem, path in _files().items() if not stem.endswith((_INT8, _TENSORRT))}


def named_model(name_or_path: str, task: Task, *, backend: BackendChoice = "auto", precision: PrecisionChoice = "auto") -> ModelFile:
    """Find, read and check the model for a task; see `find_model`. ModelError says what is wrong."""
    path = find_model(name_or_path, backend=backend, precision=precision)
    model = _read(path) if is_shipped(path) else read_model(path)
    try:
        return model.expect(task)
    except ModelError as error:
        raise ModelError(f"{error}; {_shipped()}") from error


def find_model(name_or_path: str, *, backend: BackendChoice = "auto", precision: PrecisionChoice = "auto") -> Path:
    """Return the path of a model file.

    Args:
        name_or_path: name of a shipped model (`default` is another name for `ghost-n`), of one file of it (`ghost-n-int8`), or a path.
        backend: `auto` is the CPU here.
        precision: of a shipped model. `auto` takes the file for TensorRT where that is the backend and the file exists. On a CPU it takes
            the precision that the float file names as the better one (`edgepose.cpu_precision`), otherwise float. A path, or the name
            of one file, is taken as it is.

    Raises:
        ModelError: there is no such model or file, or none of that precision; lists the shipped models.
    """
    files = _files()
    name = name_or_path if name_or_path in files else _ALIASES.get(name_or_path, name_or_path)
    if name in files:
        if name.endswith((_INT8, _TENSORRT)):
            return files[name]
        return _variant(name, files, backend, precision)
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    raise ModelError(f"no model '{name_or_path}': there is no such file, and {_shipped()}")


def _variant(name: str, files: dict[str, Path], backend: BackendChoice, precision: PrecisionChoice) -> Path:
    """Return the file of a shipped model for a backend and a precision."""
    plain, quantized = files[name], files.get(name + (_TENSORRT if backend == "tensorrt" else _INT8))
    if precision == "auto":
        int8 = backend == "tensorrt" or (backend in ("auto", "cpu") and _info(plain).cpu_precision == "int8")
        return quantized if int8 and quantized is not None else plain
    for path in (quantized, plain):
        if path is not None and _info(path).precision == precision:
            return path
    raise ModelError(
        f"the shipped model '{name}' has no file of precision {precision} for the backend {backend}; expected model.precision auto"
    )


def _info(path: Path) -> ModelInfo:
    """Return the description of a shipped file, which is read once: several parts of a program ask for it when it starts."""
    return _info_of(path, *_stamp(path))


def _read(path: Path) -> ModelFile:
    """Return a shipped file, which is read once where it was read last: its description says whether it is the one that is wanted."""
    return _file_of(path, *_stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=16)
def _info_of(path: Path, modified_ns: int, size: int) -> ModelInfo:
    return _file_of(path, modified_ns, size).info


@lru_cache(maxsize=1)
def _file_of(path: Path, modified_ns: int, size: int) -> ModelFile:
    return read_model(path)


def _files() -> dict[str, Path]:
    """Return the shipped files by name without `.onnx`."""
    return {path.stem: path for path in sorted(_ASSETS.glob("*.onnx"))}


def _shipped() -> str:
    kinds = shipped_models()
    listed = ", ".join(f"{name} ({kinds[name]})" for name in sorted(kinds, key=lambda name: (kinds[name], name)))
    return f"the shipped models are {listed or 'none (this package has no assets)'}"
