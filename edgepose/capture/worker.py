"""A worker thread for calls that may block without end, so that waiting for them has a deadline."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_BUSY_TURN_S = 0.1
"""How often a task is asked whether it still computes."""


def call_within(name: str, task: Callable[[], T], timeout_s: float) -> T:
    """Run one task in its own thread and return its result or raise its exception.

    Raises:
        WorkerTimeoutError: the task took longer; its thread is abandoned.
    """
    worker = Worker(name, lambda: None)
    try:
        return worker.call(task, timeout_s)
    finally:
        worker.close()


class WorkerClosedError(Exception):
    """The error of a call whose worker was closed before it finished."""


class WorkerTimeoutError(Exception):
    """The error of a call that exceeds its time; a class of its own, since tasks raise `TimeoutError` themselves."""


class Worker:
    """One daemon thread that runs one task at a time.

    A native library that hangs (a DNS server that does not respond, a frozen camera) cannot be interrupted from outside. It hangs in this
    thread instead: the caller gives up in time, and the thread ends when the library returns.

    Args:
        name: name of the thread.
        finish: called last in the thread after `close`, to free what only the thread may touch.
    """

    def __init__(self, name: str, finish: Callable[[], None]) -> None:
        self._finish = finish
        self._condition = threading.Condition()
        self._task: Callable[[], Any] | None = None
        self._result: tuple[Any, Exception | None] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, task: Callable[[], T], timeout_s: float, *, busy: Callable[[], bool] = lambda: False, busy_s: float = 0.0) -> T:
        """Run a task in the thread and return its result or raise its exception.

        Args:
            task: what to run.
            timeout_s: how long it may take.
            busy: whether the task computes rather than waits, when its time is over.
            busy_s: how much longer it may take then.

        Raises:
            WorkerTimeoutError: the task took longer; the worker must be closed then, since its thread is still busy.
            WorkerClosedError: `close` was called before or during the call.
        """
        with self._condition:
            if self._closed:
                raise WorkerClosedError
            self._result = None
            self._task = task
            self._condition.notify_all()
            deadline_s = time.monotonic() + timeout_s + busy_s
            self._condition.wait_for(lambda: self._result is not None or self._closed, timeout_s)
            while self._result is None and not self._closed and busy() and (left_s := deadline_s - time.monotonic()) > 0:
                self._condition.wait(min(_BUSY_TURN_S, left_s))
            if self._closed:
                raise WorkerClosedError
            if self._result is None:
                raise WorkerTimeoutError
            value, error = self._result
            self._result = None
        if error is not None:
            try:
                raise error
            finally:
                del (
                    error
                )  # its traceback refers to this stack frame: a cycle that would keep the task's objects alive until garbage collection
        return value

    def close(self) -> None:
        """Let the thread end after its current task, and wake a waiting caller."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end and return whether it did."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._next_task()) is not None:
            try:
                result: tuple[Any, Exception | None] = (task(), None)
            except Exception as error:  # every exception is passed on to the waiting thread
                result = (None, error)
            with self._condition:
                self._result = result
                self._condition.notify_all()
            del task, result  # an idle thread must not keep the last frame in memory
        self._finish()

    def _next_task(self) -> Callable[[], Any] | None:
        with self._condition:
            # The only wait without a deadline: for the next task; `close` ends it.
            self._condition.wait_for(lambda: self._task is not None or self._closed)
            task, self._task = self._task, None
            return None if self._closed else task
