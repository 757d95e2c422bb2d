"""Building in a process of its own: its memory is free again afterwards, and a builder that crashes or is killed ends alone.

The process gets what to build as one JSON object on its standard input and writes a JSON object a line: how far it is, and how it
ended. It ends when its standard input is closed, and so with the process that started it.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO

import msgspec

from edgepose.config import schema
from edgepose.engine.tensorrt.build import BuildProgress, ReportProgress
from edgepose.errors import ConfigError, EdgeposeError, EngineError, ModelError, OutputError
from edgepose.model.file import ModelFile, read_model

_log = logging.getLogger(__name__)

_MODULE = "edgepose.engine.tensorrt.building"
_ENDING_S = 2.0
_ERRORS: dict[str, type[EdgeposeError]] = {kind.__name__: kind for kind in (ConfigError, ModelError, EngineError, OutputError)}


class BuildOrder(msgspec.Struct, frozen=True):
    """What the process builds.

    Attributes:
        paths: model files.
        settings: `model` of the configuration.
        force: whether to build what the cache has.
    """

    paths: list[str]
    settings: schema.ModelConfig
    force: bool = False


class BuildEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the process.

    Attributes:
        percent: of all that is built.
        phase: what is done now.
        error: name of the error's class, at the end; empty while all is well.
        message: of the error.
        done: whether everything is built; the last line.
    """

    percent: float = 0.0
    phase: str = ""
    error: str = ""
    message: str = ""
    done: bool = False


class EngineBuilder:
    """The process that builds; `run` waits for it, and `stop` ends it from another thread.

    Attributes:
        order: what it builds.
    """

    def __init__(self, models: Sequence[ModelFile], settings: schema.ModelConfig, *, force: bool = False) -> None:
        self.order = BuildOrder([str(model.path) for model in models], settings, force)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, report: ReportProgress = lambda progress: None) -> None:
        """Build everything.

        Args:
            report: called with each line of the process.

        Raises:
            EngineError: the build failed, or the process was stopped, killed or crashed.
            ConfigError, ModelError, OutputError: as of `TensorRtDevice.build_into_cache`.
        """
        with self._lock:
            if self._stopped:
                raise EngineError("the build was stopped")
            # -I would hide a checkout on PYTHONPATH; the working folder is not searched (-P) where this Python can do that.
            command = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", _MODULE]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        last: BuildEvent | None = None
        try:
            with contextlib.suppress(OSError):  # it ended already; below says why
                process.stdin.write(msgspec.json.encode(self.order) + b"\n")
                process.stdin.flush()
            for line in process.stdout:
                event = _event(line)
                if event is None:
                    continue
                last = event
                if not (event.error or event.done):
                    report(BuildProgress(event.percent, event.phase))
        finally:
            self._end(process)
        if last is not None and last.error:
            raise _ERRORS.get(last.error, EngineError)(last.message)
        if last is None or not last.done:
            raise EngineError(f"the process that builds engines {_end_words(process.returncode, self._stopped)}")

    def stop(self) -> None:
        """End the process; its engine is then not in the cache."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                process.terminate()

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _event(line: bytes) -> BuildEvent | None:
    try:
        return msgspec.json.decode(line, type=BuildEvent)
    except msgspec.MsgspecError:  # a library that prints
        _log.debug("the builder says: %s", line.decode(errors="replace").rstrip())
        return None


def _end_words(code: int, stopped: bool) -> str:
    if stopped:
        return "was stopped"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"was ended by {name}" + (": mostly because memory is short" if name == "SIGKILL" else "")
    return f"ended with exit code {code}"


def build_all(order: BuildOrder, report: ReportProgress) -> list[bool]:
    """Build engines in this process, one after the other; return for each whether it was built now. Errors as of `build_into_cache`."""
    from edgepose.engine.tensorrt.networks import TensorRtDevice

    device = TensorRtDevice(order.settings)
    built = []
    for index, path in enumerate(order.paths):
        model = read_model(path)

        def whole(progress: BuildProgress, index: int = index, name: str = model.path.stem) -> None:
            percent = (index * 100 + progress.percent) / len(order.paths)
            report(BuildProgress(percent, f"{name}: {progress.phase}"))

        built.append(device.build_into_cache(model, whole, force=order.force))
    return built


def serve(standard_input: IO[bytes], write: Callable[[bytes], object], leave: Callable[[int], object] = os._exit) -> int:
    """Build what the first line of the input says, and write a line about each step; end when the input ends. Return the exit code."""
    order = msgspec.json.decode(standard_input.readline(), type=BuildOrder)

    def watch() -> None:
        standard_input.read()
        leave(1)

    threading.Thread(target=watch, name="input", daemon=True).start()

    def tell(event: BuildEvent) -> None:
        write(msgspec.json.encode(event) + b"\n")

    try:
        build_all(order, lambda progress: tell(BuildEvent(round(progress.percent, 1), progress.phase)))
    except EdgeposeError as error:
        tell(BuildEvent(error=type(error).__name__, message=str(error)))
        return error.exit_code
    tell(BuildEvent(100, done=True))
    return 0


def main() -> None:
    """Run as the process that builds."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which goes to all processes: the one that started this one decides
    descriptor = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not disturb
    code = serve(sys.stdin.buffer, lambda line: os.write(descriptor, line))
    os._exit(code)  # the thread that reads the input would be waited for


if __name__ == "__main__":
    main()
