"""Real inference servers: Triton Inference Server and MLServer (`make triton` installs them; see tools/get-inference-servers.sh)."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from edgepose.model.onnx_header import read_header
from testing.requirements import require
from testing.waiting import wait_for_port
from tools.triton_repository import write_model

SERVERS = Path(__file__).resolve().parents[2] / "build" / "servers"

_MLSERVER_MODEL = """
from pathlib import Path

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Model(MLModel):
    async def load(self) -> bool:
        file = Path(__file__).with_name("model.onnx")
        self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        given = NumpyCodec.decode_input(payload.inputs[0])
        names = [output.name for output in payload.outputs]
        computed = self._session.run(names, {payload.inputs[0].name: np.ascontiguousarray(given)})
        outputs = [NumpyCodec.encode_output(name, values) for name, values in zip(names, computed)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
"""
_DATATYPES = {"uint8": "UINT8", "float32": "FP32"}


class _Server:
    """A server process that listens on a port for gRPC.

    Attributes:
        port: of gRPC, the same after a restart.
    """

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str], port: int) -> None:
        self.port = port
        self.log = folder / "server.log"
        self._command, self._environment = command, {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, model: str) -> str:
        return f"triton+grpc://127.0.0.1:{self.port}/{model}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment, start_new_session=True)
        wait_for_port(self._process, self.port, self.log, within_s=30)

    def kill(self) -> None:
        """End it and its helpers at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Stop it, so that it accepts connections and answers nothing."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def __exit__(self, *_: object) -> None:
        self.kill()


class Triton(_Server):
    """Triton Inference Server, which runs ONNX files in its python backend.

    Args:
        folder: for the repository and the log.
        models: files by the model's name.
    """

    def __init__(self, folder: Path, models: dict[str, Path]) -> None:
        require("triton")
        home = SERVERS / "triton"
        site = next((home / "lib").glob("python3.*/site-packages"))
        for name, file in models.items():
            write_model(folder / "models", name, file, python=True)
        port, http = _free_ports(2)
        places = [f"--model-repository={folder / 'models'}", f"--backend-directory={home / 'server/backends'}", "--allow-metrics=false"]
        listen = ["--grpc-address=127.0.0.1", f"--grpc-port={port}", "--http-address=127.0.0.1", f"--http-port={http}"]
        command = [str(home / "server/bin/tritonserver"), *places, *listen]
        # The backend embeds the Python that it finds first; with one of another build its answers are empty.
        path = f"{home / 'bin'}:/usr/bin:/bin"
        paths = {"LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"), "PYTHONPATH": str(site), "PATH": path}
        super().__init__(folder, command, paths, port)

    def __enter__(self) -> "Triton":
        self.start()
        return self


class MlServer(_Server):
    """MLServer, which has no model configuration and no shared memory."""

    def __init__(self, folder: Path, name: str, file: Path) -> None:
        require("mlserver")
        header = read_header(file.read_bytes())
        place = folder / "models" / name
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(file.read_bytes())
        (place / "served.py").write_text(_MLSERVER_MODEL)
        tensors = {
            kind: [
                {"name": tensor.name, "datatype": _DATATYPES[tensor.element], "shape": [size or -1 for size in tensor.shape]}
                for tensor in found
            ]
            for kind, found in (("inputs", header.inputs), ("outputs", header.outputs))
        }
        (place / "model-settings.json").write_text(json.dumps({"name": name, "implementation": "served.Model", **tensors}))
        port, http, metrics = _free_ports(3)
        settings = {"host": "127.0.0.1", "grpc_port": port, "http_port": http, "metrics_port": metrics, "parallel_workers": 0}
        (folder / "models" / "settings.json").write_text(json.dumps(settings))
        command = [str(SERVERS / "mlserver/bin/python"), "-m", "mlserver.cli.main", "start", str(folder / "models")]
        super().__init__(folder, command, {"PYTHONPATH": str(place)}, port)

    def __enter__(self) -> "MlServer":
        self.start()
        return self


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()
