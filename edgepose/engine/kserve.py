"""A client of the KServe v2 protocol over gRPC: calls with deadlines, each failure with the state of the server that it means.

The protocol: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol; model configuration and shared memory are
Triton's extensions (https://github.com/triton-inference-server/server/tree/main/docs/protocol), which other servers lack.
"""

import logging
import math
import mmap
import os
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepose.config.addresses import RemoteModel
from edgepose.config.schema import RemoteConfig
from edgepose.errors import ConfigError, EngineError
from edgepose.model.onnx_header import TensorHeader
from edgepose.printable import printable

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # each failure of a call is an exception, whose text we report
import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

_log = logging.getLogger(__name__)

ServerState = Literal["", "unreachable", "slow", "not_ready", "refused", "failing"]
"""State of an inference server: empty where it works; `unreachable` (no connection), `slow` (no answer in time), `not_ready` (the server or
the model is loading or gone), `refused` (certificate or permission), `failing` (answers with an error)."""

_SHARED_MEMORY = Path("/dev/shm")
_LEAST_S = 0.001  # gRPC takes no deadline that has passed
_CLOSING_S = 0.2
_LONGEST = 300
_DTYPES: Mapping[str, type[np.generic]] = {"UINT8": np.uint8, "FP16": np.float16, "FP32": np.float32}
_NAMES = {np.dtype(kind): name for name, kind in _DTYPES.items()}
_ELEMENTS = {"UINT8": "uint8", "FP16": "float16", "FP32": "float32"}
_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "handshake failed", "Hostname Verification", "Peer name", "WRONG_VERSION_NUMBER")
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 2000),  # two minutes otherwise, in which a server that is back is not used
    ("grpc.enable_http_proxy", 0),  # images go to the server that is configured and nowhere else
)


class ServerError(EngineError):
    """A call to an inference server that failed.

    Args:
        message: one sentence.
        state: of the server.
        unknown: whether the server does not know the model, or does not offer the call.
    """

    def __init__(self, message: str, state: ServerState, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.state: ServerState = state
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a server says of a model.

    Attributes:
        inputs, outputs: with the batch dimension.
        parameters: of its configuration; empty where the server has no such call.
        maximum_batch: largest number of images in a request; None where the server names none.
        versions: served.
    """

    inputs: tuple[TensorHeader, ...]
    outputs: tuple[TensorHeader, ...]
    parameters: Mapping[str, str]
    maximum_batch: int | None
    versions: tuple[str, ...]


class KServeClient:
    """A connection to a server for one model; used by one thread at a time."""

    def __init__(self, remote: RemoteModel, settings: RemoteConfig) -> None:
        """Prepare a connection, which is made by the first call; ConfigError where a certificate or key cannot be read."""
        self._remote = remote
        self._where = f"the inference server {remote.server}"
        if remote.secure:
            self._channel = grpc.secure_channel(remote.server, _credentials(settings), options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(remote.server, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._region: _Region | None = None
        self._shares = settings.shared_memory and remote.local

    @property
    def transport(self) -> str:
        """How images reach the server, in words."""
        return "shared memory" if self._region is not None else "gRPC with TLS" if self._remote.secure else "gRPC"

    def describe(self, deadline_s: float) -> ServedModel:
        """Return what the server says of the model; ServerError where it does not answer by a time, or the model is not ready."""
        if not self._call(self._stub.ServerReady, service_pb2.ServerReadyRequest(), deadline_s).ready:
            raise ServerError(f"{self._where} is not ready yet", "not_ready")
        name, version = self._remote.name, self._remote.version
        metadata = self._call(self._stub.ModelMetadata, service_pb2.ModelMetadataRequest(name=name, version=version), deadline_s)
        if not self._call(self._stub.ModelReady, service_pb2.ModelReadyRequest(name=name, version=version), deadline_s).ready:
            raise ServerError(f"{self._where} has not loaded the model {name} yet", "not_ready")
        parameters, maximum_batch = {}, None
        try:
            request = service_pb2.ModelConfigRequest(name=name, version=version)
            config = self._call(self._stub.ModelConfig, request, deadline_s).config
        except ServerError as error:
            if not error.unknown:
                raise
        else:
            parameters = {key: value.string_value for key, value in config.parameters.items()}
            maximum_batch = config.max_batch_size or None
        return ServedModel(_headers(metadata.inputs), _headers(metadata.outputs), parameters, maximum_batch, tuple(metadata.versions))

    def infer(self, name: str, tensor: NDArray[Any], outputs: Sequence[str], deadline_s: float) -> list[NDArray[np.float32]]:
        """Return the outputs of these names, in float32 and in the shapes that the server says.

        Args:
            name: of the input tensor.
            tensor: of the type and shape that the model takes.
            outputs: names.
            deadline_s: reading of the monotonic clock.

        Raises:
            ServerError: the server does not answer by a time, or answers with an error or something else than these outputs.
        """
        request = service_pb2.ModelInferRequest(model_name=self._remote.name, model_version=self._remote.version)
        entry = request.inputs.add(name=name, datatype=_NAMES[tensor.dtype], shape=tensor.shape)
        for output in outputs:
            request.outputs.add(name=output)
        region = self._shared(tensor.nbytes, deadline_s)
        if region is not None:
            region.write(tensor)
            entry.parameters["shared_memory_region"].string_param = region.name
            entry.parameters["shared_memory_byte_size"].int64_param = tensor.nbytes
        else:
            request.raw_input_contents.append(tensor.tobytes())
        response = self._call(self._stub.ModelInfer, request, deadline_s)
        found = {output.name: _array(output, response, index) for index, output in enumerate(response.outputs)}
        broken = [output for output in outputs if found.get(output) is None]
        if broken:
            raise ServerError(f"{self._where} answered without {', '.join(broken)} in a usable form", "failing")
        return [np.asarray(found[output], np.float32) for output in outputs]

    def forget(self) -> None:
        """Drop what the server may have lost with a restart: it is registered again at the next request."""
        if self._region is not None:
            self._region.close()
            self._region = None

    def close(self) -> None:
        """End the connection."""
        if self._region is not None:
            request = service_pb2.SystemSharedMemoryUnregisterRequest(name=self._region.name)
            try:
                self._call(self._stub.SystemSharedMemoryUnregister, request, time.monotonic() + _CLOSING_S)
            except ServerError as error:
                _log.debug("%s", error)
            self.forget()
        self._channel.close()

    def _shared(self, size_bytes: int, deadline_s: float) -> "_Region | None":
        """Return a region of shared memory that the server has opened; None where images are sent."""
        if not self._shares or (self._region is not None and self._region.size_bytes >= size_bytes):
            return self._region
        self.forget()
        try:
            region = _Region(size_bytes)
        except OSError as error:
            self._shares = False
            _log.info("images are sent to %s, since no shared memory can be made: %s", self._where, error.strerror)
            return None
        try:
            request = service_pb2.SystemSharedMemoryRegisterRequest(name=region.name, key=f"/{region.name}", byte_size=size_bytes)
            self._call(self._stub.SystemSharedMemoryRegister, request, deadline_s)
        except ServerError as error:
            region.close()
            if error.state not in ("failing", "not_ready"):
                raise
            self._shares = False
            _log.info("images are sent to %s, which does not take them in shared memory: %s", self._where, error)
            return None
        finally:
            region.unlink()
        self._region = region
        return region

    def _call(self, method: Callable[..., Any], request: Any, deadline_s: float) -> Any:
        try:
            return method(request, timeout=max(_LEAST_S, deadline_s - time.monotonic()))
        except grpc.RpcError as error:
            raise self._failure(error.code(), printable(error.details() or "", _LONGEST)) from error
        except ValueError as error:  # the channel was closed by another thread
            raise ServerError(f"the connection to {self._where} is closed", "unreachable") from error

    def _failure(self, code: Any, details: str) -> ServerError:
        codes, model = grpc.StatusCode, f"the model {self._remote.name}"
        if code == codes.UNAVAILABLE:
            if any(sign in details for sign in _UNTRUSTED):
                return ServerError(f"{self._where} is not trusted: {details}", "refused")
            return ServerError(f"{self._where} cannot be reached: {details}", "unreachable")
        if code == codes.CANCELLED:
            return ServerError(f"the connection to {self._where} is closed", "unreachable")
        if code == codes.DEADLINE_EXCEEDED:
            return ServerError(f"{self._where} did not answer in time", "slow")
        if code == codes.NOT_FOUND:
            return ServerError(f"{self._where} does not serve {model}: {details}", "not_ready", unknown=True)
        if code == codes.UNIMPLEMENTED:
            return ServerError(f"{self._where} does not offer this: {details}", "failing", unknown=True)
        if code in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
            return ServerError(f"{self._where} refuses us: {details}", "refused")
        return ServerError(f"{self._where} failed on {model}: {details} ({code.name})", "failing")


class _Region:
    """Shared memory that a server on this machine opens by its name; nothing of it stays in the file system."""

    def __init__(self, size_bytes: int) -> None:
        self.name = f"edgepose-{os.getpid()}-{secrets.token_hex(4)}"
        self.size_bytes = size_bytes
        self._path = _SHARED_MEMORY / self.name
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(file, size_bytes)
            self._memory = mmap.mmap(file, size_bytes)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(file)

    def write(self, tensor: NDArray[Any]) -> None:
        """Copy a tensor to the beginning."""
        np.frombuffer(self._memory, tensor.dtype, tensor.size).reshape(tensor.shape)[:] = tensor

    def unlink(self) -> None:
        """Remove the name, once the server has opened it."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Free the memory here; the server keeps it until it is told."""
        self._memory.close()


def _credentials(settings: RemoteConfig) -> Any:
    authority = settings.ca_file or ssl.get_default_verify_paths().cafile
    if authority is None:
        raise ConfigError("this system has no certificate authorities; expected its package ca-certificates, or model.remote.ca_file")
    names = (("ca_file", authority), ("key_file", settings.key_file), ("certificate_file", settings.certificate_file))
    read: list[bytes | None] = []
    for key, name in names:
        try:
            read.append(None if name is None else Path(name).expanduser().read_bytes())
        except OSError as error:
            raise ConfigError(f"model.remote.{key}: {name} cannot be read: {error.strerror}; expected a PEM file") from error
    return grpc.ssl_channel_credentials(*read)


def _headers(tensors: Sequence[Any]) -> tuple[TensorHeader, ...]:
    return tuple(
        TensorHeader(
            tensor.name,
            _ELEMENTS.get(tensor.datatype, printable(tensor.datatype, 20)),
            tuple(size if size > 0 else None for size in tensor.shape),
        )
        for tensor in tensors
    )


def _array(output: Any, response: Any, index: int) -> NDArray[Any] | None:
    """Return an output, which servers send as raw bytes or as a list of floats; None where it is neither of the stated shape."""
    shape, kind = tuple(output.shape), _DTYPES.get(output.datatype)
    if kind is None or any(size < 0 for size in shape):
        return None
    if index < len(response.raw_output_contents):
        raw = response.raw_output_contents[index]
        whole = len(raw) == math.prod(shape) * np.dtype(kind).itemsize
        return np.frombuffer(raw, kind).reshape(shape) if whole else None
    values = output.contents.fp32_contents
    return np.array(values, np.float32).reshape(shape) if len(values) == math.prod(shape) else None
