"""A thread for work that may block without end, so that waiting for it has a deadline."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def call_within(name: str, task: Callable[[], T], timeout_s: float) -> T:
    """Do one task in a thread of its own and return what it returns or raise what it raises.

    Raises:
        WorkerTimeoutError: it took longer; its thread is left to itself.
    """
    worker = Worker(name, lambda: None)
    try:
        return worker.call(task, timeout_s)
    finally:
        worker.close()


class WorkerClosedError(Exception):
    """The worker was closed while somebody waited for it."""


class WorkerTimeoutError(Exception):
    """The worker is still at its task when the time is up; its own class, since tasks raise `TimeoutError` themselves."""


class Worker:
    """One daemon thread that does one task at a time.

    A native library that hangs (a name server that does not answer, a frozen camera) cannot be interrupted from outside. So it
    hangs in here: whoever waits gives up in time, and the thread ends by itself when the library lets go of it.

    Args:
        name: of the thread.
        finish: called in the thread, as its last act, when it was closed: frees what only the thread may touch.
    """

    def __init__(self, name: str, finish: Callable[[], None]) -> None:
        self._finish = finish
        self._condition = threading.Condition()
        self._task: Callable[[], Any] | None = None
        self._outcome: tuple[Any, Exception | None] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, task: Callable[[], T], timeout_s: float) -> T:
        """Do a task in the thread and return what it returns or raise what it raises.

        Raises:
            WorkerTimeoutError: it took longer; the worker has to be closed then, since the thread is still at it.
            WorkerClosedError: `close` was called before or meanwhile.
        """
        with self._condition:
            if self._closed:
                raise WorkerClosedError
            self._outcome = None
            self._task = task
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._outcome is not None or self._closed, timeout_s)
            if self._closed:
                raise WorkerClosedError
            if self._outcome is None:
                raise WorkerTimeoutError
            value, error = self._outcome
            self._outcome = None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback knows this frame: a circle, which would keep what the task held until it is collected
        return value

    def close(self) -> None:
        """Let the thread end after its present task, and wake whoever waits for it."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end and return whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._next_task()) is not None:
            try:
                outcome: tuple[Any, Exception | None] = (task(), None)
            except Exception as error:  # carried to the waiting thread, whatever it is
                outcome = (None, error)
            with self._condition:
                self._outcome = outcome
                self._condition.notify_all()
            del task, outcome  # an idle thread must not keep the last picture in memory
        self._finish()

    def _next_task(self) -> Callable[[], Any] | None:
        with self._condition:
            # The one wait without a deadline: for orders, which `close` ends.
            self._condition.wait_for(lambda: self._task is not None or self._closed)
            task, self._task = self._task, None
            return None if self._closed else task
