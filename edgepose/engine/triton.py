"""Inference on a server: a pose network or refiner that Triton, or another server of the KServe v2 protocol, runs.

The server is described at the start and after each failure, and must be the network that it was: another one is an error of the model
(exit code 78). A server that is away, slow or loading is a state with a name, in which frames are dropped and each of them tries again.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.addresses import RemoteModel
from edgepose.config.schema import ModelConfig
from edgepose.engine.kserve import KServeClient, ServedModel, ServerError, ServerState
from edgepose.engine.networks import LoadedNetwork, PoseNetwork, RefinerNetwork
from edgepose.errors import EngineError, ModelError
from edgepose.model.file import METADATA_PREFIX, ModelFile, ModelInfo, Task, describe, read_model
from edgepose.model.onnx_header import OnnxHeader, TensorHeader
from edgepose.model.shipped import find_model
from edgepose.person import KEYPOINT_NAMES

_log = logging.getLogger(__name__)

_SLOW_BEFORE_RECONNECTING = 3  # a connection that died silently looks like a slow server
_KEYS: dict[Task, str] = {"pose": "header", "refine": "refiner_header"}
_KEYPOINTS = len(KEYPOINT_NAMES)
_Tensor = tuple[str | None, tuple[str, ...], tuple[int | None, ...]]


class _RemoteNetwork(LoadedNetwork):
    """A network on a server; see `edgepose.engine.backend.Network` for the attributes."""

    heals = True
    """Whether it recovers by itself, so that nobody needs to open it again."""

    def __init__(self, model: ModelFile, settings: ModelConfig) -> None:
        """Connect, where the server is there; otherwise the first `run` that reaches it does.

        Raises:
            ModelError: the server has no such model, or another one.
            ConfigError: a certificate or key cannot be read.
        """
        assert model.server is not None
        self._remote, self._settings = _parse(model.server), settings.remote
        where = f"{self._remote.server}, model {self._remote.name}"
        super().__init__(model, name="triton", device=where, reason="the model's path names a server")
        self.state: ServerState = ""
        """The server's state, empty where it works."""
        self.sends_to = None if self._remote.local else self._remote.server
        """The server, where images leave this machine."""
        self._model = model
        self._header = _header_of(settings, model.info.task)
        self._described = False
        self._slow = 0
        self._input_name, self._maximum_batch = "", model.info.batch
        client = KServeClient(self._remote, self._settings)
        self._client: KServeClient | None = client
        # A later `privacy.pixels: never` belongs into `edgepose.config.cross_checks`, beside the check of the URL.
        if self.sends_to is not None:
            _log.warning("images leave this device: they are sent to %s", self.sends_to)
        try:
            self._connect(client, time.monotonic() + self._settings.timeout_s)
        except ServerError as error:
            if error.unknown:
                raise ModelError(str(error)) from error
            self._failed(error)

    def close(self) -> None:
        """End the connection; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _compute(self, outputs: Sequence[str], tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the outputs of these names for one input tensor.

        Raises:
            EngineError: the server does not answer in time, or answers with an error.
            ModelError: it has another network now.
        """
        client = self._client
        if client is None:
            raise EngineError(f"the backend {self.name} is closed")
        deadline_s = time.monotonic() + self._settings.timeout_s
        try:
            if not self._described:
                self._connect(client, deadline_s)
            computed = client.infer(self._input_name, tensor, outputs, deadline_s)
        except ServerError as error:
            self._failed(error)
            raise
        if self.state:
            _log.info("the inference server %s works again, over %s", self._remote.server, client.transport)
        self.state, self._slow = "", 0
        return computed

    def _batch_limit(self) -> int | None:
        """Return the images of one request; None for any number."""
        return self._maximum_batch

    def _connect(self, client: KServeClient, deadline_s: float) -> None:
        """Ask the server what it serves, and compare that with what the configuration or an earlier answer says."""
        served = client.describe(deadline_s)
        if self._header is not None:
            _check_tensors(served, self.info, f"{self._model.where}, which {self._header} describes")
        elif (info := _described(served, self._model.where, self.info.task)) != self.info:
            raise ModelError(f"{self._model.where} is another network now: {_difference(self.info, info)}")
        image = served.inputs[0]
        self._input_name = image.name
        self._input_type = np.float16 if image.element == "float16" else np.float32
        self._maximum_batch = image.shape[0] or served.maximum_batch
        self._described = True
        if not self.state:
            _log.debug("%s serves %s, versions %s", self._remote.server, self._remote.name, ", ".join(served.versions))

    def _failed(self, error: ServerError) -> None:
        if self._client is None:  # closed meanwhile
            return
        if error.state != self.state:
            _log.warning("the inference server is %s, trying again with each frame: %s", error.state.replace("_", " "), error)
        self.state = error.state
        self._slow = self._slow + 1 if error.state == "slow" else 0
        if error.state == "slow" and self._slow < _SLOW_BEFORE_RECONNECTING:
            return
        self._described = False
        self._client.forget()
        if self._slow >= _SLOW_BEFORE_RECONNECTING:
            self._slow = 0
            self._client.close()
            self._client = KServeClient(self._remote, self._settings)


class TritonBackend(_RemoteNetwork, PoseNetwork):
    """A pose network on a server."""


class TritonRefinerBackend(_RemoteNetwork, RefinerNetwork):
    """A refiner on a server."""


def open_remote(model: ModelFile, settings: ModelConfig) -> TritonBackend | TritonRefinerBackend:
    """Connect to the server of a pose network or a refiner; a server that is away is a state, and no error.

    Raises:
        ModelError: the server has no such model, or another one.
        ConfigError: a certificate or key cannot be read.
    """
    return (TritonBackend if model.info.task == "pose" else TritonRefinerBackend)(model, settings)


def remote_model(url: str, task: Task, settings: ModelConfig) -> ModelFile:
    """Return the description of a model on a server: from the local header where one is configured, otherwise the server's own.

    Raises:
        ModelError: the URL, the header or the model is wrong.
        ServerError: there is no header, and the server cannot be asked.
    """
    remote, header = _parse(url), _header_of(settings, task)
    if header is not None:
        local = read_model(find_model(header)).expect(task)
        return replace(local, path=Path(remote.name), data=b"", server=url)
    client = KServeClient(remote, settings.remote)
    try:
        served = client.describe(time.monotonic() + settings.remote.timeout_s)
    except ServerError as error:
        if error.unknown:
            raise ModelError(str(error)) from error
        raise ServerError(f"{error}; with model.remote.{_KEYS[task]} the daemon starts without the server", error.state) from error
    finally:
        client.close()
    info = _described(served, url, task)
    text = msgspec.json.encode([remote.name, served.versions, served.inputs, served.outputs, dict(sorted(served.parameters.items()))])
    return ModelFile(Path(remote.name), hashlib.sha256(text).hexdigest(), info, b"", url).expect(task)


def _parse(url: str) -> RemoteModel:
    try:
        return RemoteModel.parse(url)
    except ValueError as error:
        raise ModelError(f"the model's path {url} {error}") from error


def _header_of(settings: ModelConfig, task: Task) -> str | None:
    return settings.remote.header if task == "pose" else settings.remote.refiner_header


def _described(served: ServedModel, where: str, task: Task) -> ModelInfo:
    """Return the description that a server gives of its model; ModelError where it gives none, or a wrong one."""
    try:
        return describe(OnnxHeader(served.inputs, served.outputs, dict(served.parameters)), where)
    except ModelError as error:
        if any(key.startswith(METADATA_PREFIX) for key in served.parameters):
            raise ModelError(f"{where}: {error}") from error
        raise ModelError(
            f"{where} does not describe itself; expected the parameters {METADATA_PREFIX}* in its configuration, or a file or shipped model"
            f" that describes it as model.remote.{_KEYS[task]}"
        ) from error


def _difference(before: ModelInfo, now: ModelInfo) -> str:
    """Return the first property in which two descriptions differ, in words."""
    name = next(field.name for field in msgspec.structs.fields(ModelInfo) if getattr(before, field.name) != getattr(now, field.name))
    return f"{name} was {getattr(before, name)} and is {getattr(now, name)}"


def _check_tensors(served: ServedModel, info: ModelInfo, where: str) -> None:
    """Raise ModelError where the tensors of a model on a server are not those of a description."""
    height, width, floats = info.input_height, info.input_width, ("float32", "float16")
    inputs: list[_Tensor]
    outputs: list[_Tensor]
    if info.head is not None:
        inputs, outputs = [(None, floats, (None, 3, height, width))], []
        found = next((tensor for tensor in served.outputs if tensor.name == info.head.output), None)
        if found is None or info.head.form(found.shape) is None:
            raise ModelError(f"{where} has the outputs {_shown(served.outputs)}; expected {info.head.output} of a pose network")
    elif info.task == "pose":
        inputs = [("images", ("uint8",), (None, height, width, 3))]
        outputs = [("boxes", floats, (None, None, 4)), ("scores", floats, (None, None)), ("keypoints", floats, (None, None, _KEYPOINTS, 3))]
    else:
        inputs, outputs = [("crops", ("uint8",), (None, height, width, 3))], [("keypoints", floats, (None, _KEYPOINTS, 3))]
    if len(served.inputs) != 1 or not _fits(served.inputs[0], *inputs[0]):
        raise ModelError(f"{where} has the inputs {_shown(served.inputs)}; expected one, {_in_words(*inputs[0])}")
    for name, elements, shape in outputs:
        if not any(_fits(tensor, name, elements, shape) for tensor in served.outputs):
            raise ModelError(f"{where} has the outputs {_shown(served.outputs)}; expected {_in_words(name, elements, shape)}")


def _fits(tensor: TensorHeader, name: str | None, elements: tuple[str, ...], shape: tuple[int | None, ...]) -> bool:
    sizes = len(tensor.shape) == len(shape) and all(
        wanted is None or found in (None, wanted) for found, wanted in zip(tensor.shape, shape, strict=True)
    )
    return sizes and tensor.element in elements and name in (None, tensor.name)


def _in_words(name: str | None, elements: tuple[str, ...], shape: tuple[int | None, ...]) -> str:
    return TensorHeader(name or "of any name", " or ".join(elements), shape).text()


def _shown(tensors: tuple[TensorHeader, ...]) -> str:
    return ", ".join(tensor.text() for tensor in tensors[:8]) or "(none)"
