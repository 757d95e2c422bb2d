"""An inference server that speaks KServe v2 over real gRPC, in this process, and can be slow, away, or another one.

The real ones are in testing/servers/triton.py; this one does what they cannot be made to do at a given moment.
"""

import mmap
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2, service_pb2_grpc

from edgepose.model.onnx_header import OnnxHeader, read_header

_DATATYPES = {"uint8": "UINT8", "float32": "FP32", "float16": "FP16"}


class KServeServer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A server of one ONNX file.

    Attributes:
        port: where it listens.
        delay_s: wait before each answer of the model.
        ready: whether the server and its model say that they are.
        transports: for each request, `shared memory` or `raw`.
        batches: images in each request.
    """

    def __init__(
        self,
        file: Path,
        name: str = "pose",
        *,
        parameters: bool = True,
        shared_memory: bool = True,
        typed: bool = False,
        maximum_batch: int = 0,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """
        Args:
            file: what it serves.
            name: of the model.
            parameters: whether the model's configuration, an extension of Triton, exists and holds the file's metadata.
            shared_memory: whether it takes tensors in shared memory, another extension.
            typed: whether it answers with lists of floats rather than raw bytes, as MLServer may.
            maximum_batch: of the configuration.
            tls: certificate and key.
        """
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port: int = taken.getsockname()[1]
        self.name = name
        self.delay_s, self.ready = 0.0, True
        self.transports: list[str] = []
        self.batches: list[int] = []
        self._parameters, self._shared_memory, self._typed, self._maximum_batch = parameters, shared_memory, typed, maximum_batch
        self._tls = tls
        self._regions: dict[str, mmap.mmap] = {}
        self._server: Any = None
        self.serve(file)

    @property
    def url(self) -> str:
        return f"triton+grpc://127.0.0.1:{self.port}/{self.name}"

    def serve(self, file: Path) -> None:
        """Serve another file from now on."""
        self._header: OnnxHeader = read_header(file.read_bytes())
        self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def start(self) -> "KServeServer":
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        if self._tls is None:
            self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        else:
            certificate, key = (path.read_bytes() for path in self._tls)
            self._server.add_secure_port(f"127.0.0.1:{self.port}", grpc.ssl_server_credentials([(key, certificate)]))
        self._server.start()
        return self

    def stop(self) -> None:
        """End at once, as if killed; what was registered is forgotten."""
        if self._server is not None:
            self._server.stop(None).wait(10)
            self._server = None
        self._regions = {}

    def __enter__(self) -> "KServeServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.delay_s = 0.0
        self.stop()

    # The calls of the protocol, by their names there.

    def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._check_name(request.name, context)
        response = service_pb2.ModelMetadataResponse(name=self.name, versions=["1"], platform="onnxruntime_onnx")
        for tensors, added in ((self._header.inputs, response.inputs), (self._header.outputs, response.outputs)):
            for tensor in tensors:
                added.add(name=tensor.name, datatype=_DATATYPES[tensor.element], shape=[size or -1 for size in tensor.shape])
        return response

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self._parameters:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        response = service_pb2.ModelConfigResponse()
        response.config.max_batch_size = self._maximum_batch
        for key, value in self._header.metadata.items():
            response.config.parameters[key].string_value = value
        return response

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self._shared_memory:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        with (Path("/dev/shm") / request.key.lstrip("/")).open("r+b") as file:
            self._regions[request.name] = mmap.mmap(file.fileno(), request.byte_size)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._regions.pop(request.name, None)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._check_name(request.model_name, context)
        time.sleep(self.delay_s)
        tensor = request.inputs[0]
        if "shared_memory_region" in tensor.parameters:
            name = tensor.parameters["shared_memory_region"].string_param
            if name not in self._regions:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unable to find shared memory region: '{name}'")
            data: bytes | mmap.mmap = self._regions[name]
            self.transports.append("shared memory")
        else:
            data = request.raw_input_contents[0]
            self.transports.append("raw")
        kind = {"UINT8": np.uint8, "FP32": np.float32, "FP16": np.float16}[tensor.datatype]
        image = np.frombuffer(data, kind, int(np.prod(tensor.shape))).reshape(tensor.shape)
        self.batches.append(len(image))
        names = [output.name for output in request.outputs]
        response = service_pb2.ModelInferResponse(model_name=self.name)
        for name, computed in zip(names, self._session.run(names, {tensor.name: image}), strict=True):
            output = response.outputs.add(name=name, datatype=_DATATYPES[str(computed.dtype)], shape=computed.shape)
            if self._typed:
                output.contents.fp32_contents.extend(computed.ravel().tolist())
            else:
                response.raw_output_contents.append(computed.tobytes())
        return response

    def _check_name(self, name: str, context: Any) -> None:
        if name != self.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
