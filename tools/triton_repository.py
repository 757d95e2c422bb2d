"""A model repository for Triton Inference Server, made from model files: each with its configuration, which carries its description."""

import json
import shutil
from pathlib import Path

import click

from edgepose.errors import ModelError
from edgepose.model.file import read_model
from edgepose.model.onnx_header import TensorHeader, read_header
from edgepose.model.shipped import find_model

_DATATYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "float16": "TYPE_FP16"}
_PYTHON = '''"""An ONNX file run by ONNX Runtime in Triton's python backend, for servers that lack the backend onnxruntime."""

from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = self.session.get_inputs()[0].name
        names = list(request.requested_output_names())
        try:
            computed = self.session.run(names, {given: pb_utils.get_input_tensor_by_name(request, given).as_numpy()})
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in zip(names, computed)])
'''


def write_model(folder: Path, name: str, file: Path, *, python: bool = False) -> Path:
    """Write one model into a repository, and return its folder.

    Args:
        folder: the repository.
        name: of the model on the server.
        file: the ONNX file.
        python: whether the server lacks Triton's backend `onnxruntime` and runs the file in its python backend.

    Raises:
        ModelError: the file is not a pose network or a refiner.
    """
    read_model(file)
    header = read_header(file.read_bytes())
    place = folder / name
    (place / "1").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place / "1" / "model.onnx")
    if python:
        (place / "1" / "model.py").write_text(_PYTHON)
    lines = [f"name: {json.dumps(name)}", f'backend: "{"python" if python else "onnxruntime"}"', "max_batch_size: 0"]
    lines += [f"input {_tensor(tensor)}" for tensor in header.inputs]
    lines += [f"output {_tensor(tensor)}" for tensor in header.outputs]
    # JSON escapes as protobuf's text format does, but for \u, which it lacks.
    entries = ((key, json.dumps(value, ensure_ascii=False)) for key, value in header.metadata.items())
    lines += [f"parameters {{ key: {json.dumps(key)} value {{ string_value: {value} }} }}" for key, value in entries]
    (place / "config.pbtxt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def _tensor(tensor: TensorHeader) -> str:
    if tensor.element not in _DATATYPES:
        raise ModelError(f"{tensor.text()} has a type that Triton does not take; expected uint8, float32 or float16")
    sizes = ", ".join("-1" if size is None else str(size) for size in tensor.shape)
    return f"{{ name: {json.dumps(tensor.name)} data_type: {_DATATYPES[tensor.element]} dims: [ {sizes} ] }}"


@click.command(epilog="Example: python -m tools.triton_repository models default refine-n")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("models", nargs=-1, required=True, metavar="NAME|FILE…")
@click.option("--python", is_flag=True, help="For a server without the backend onnxruntime: run the file in its python backend.")
def main(folder: Path, models: tuple[str, ...], python: bool) -> None:
    """Write a repository into FOLDER with shipped models or ONNX files, each under its own name."""
    for name in models:
        try:
            file = find_model(name)
            place = write_model(folder, name if name != str(file) else file.stem, file, python=python)
        except ModelError as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{place}: {file}")


if __name__ == "__main__":
    main()
