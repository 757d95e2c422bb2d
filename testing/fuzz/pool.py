"""A pool of worker processes for fuzzing, so that a crash or hang of a native library is a finding and does not end the run."""

import contextlib
import json
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from testing.fuzz.tally import Tally

_START_S = 120.0  # a worker loads libraries and models first
_ROOT = Path(__file__).parents[2]


def hammer(
    module: str, arguments: Sequence[str], count: int, *, workers: int, patience_s: float, told: Callable[[], None] = lambda: None
) -> Tally:
    """Give the numbers from 0 to workers, each of which makes an input of its number.

    Args:
        module: run as a program with `arguments`; reads a number a line and answers each with a line of JSON, outcome and detail
            (see `answer`); its first line says that it is ready.
        workers: processes at the same time.
        patience_s: seconds after which an input counts as a hang, and its worker is ended.
        told: called after each input.
    """
    tally = Tally()
    numbers = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        worker: _Worker | None = None
        try:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                worker = worker or _Worker(module, arguments)
                outcome, detail = worker.ask(number, patience_s)
                if outcome in ("crash", "hang"):
                    worker.end()
                    worker = None
                with lock:
                    tally.add(outcome, f"number {number}: {detail}")
                    told()
        finally:
            if worker is not None:
                worker.end()

    threads = [threading.Thread(target=work, name=f"fuzz-{index}") for index in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


class _Worker:
    """One worker process."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=_ROOT)
        ready = self._line(_START_S)
        assert ready is not None, f"{module} did not start within {_START_S:g} s, its exit code is {self._process.poll()}"

    def ask(self, number: int, patience_s: float) -> tuple[str, str]:
        """Return outcome and detail of one input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"%d\n" % number)
            self._process.stdin.flush()
        except BrokenPipeError:
            return "crash", f"the process ended with code {self._process.wait(10)} after the input before"
        line = self._line(patience_s)
        if line is None:
            if self._process.poll() is None:
                return "hang", f"no answer within {patience_s:g} s"
            return "crash", f"the process ended with code {self._process.returncode}"
        answer = json.loads(line)
        return str(answer[0]), str(answer[1])

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _line(self, patience_s: float) -> bytes | None:
        """Return the next line; None where there is none in time or the process ended."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(patience_s):
                return None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            self._process.wait(10)
            return None
        return line


def answer(one: Callable[[int], tuple[str, str]]) -> None:
    """Answer numbers until there are no more; the worker's side."""
    import os

    answers = os.fdopen(os.dup(1), "w")  # libraries may write to standard output themselves
    os.dup2(2, 1)
    print(json.dumps(["ready", ""]), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(one(int(line))), file=answers, flush=True)
