import threading
import time
from collections.abc import Iterator

import pytest

from edgepose.capture.worker import Worker, WorkerClosedError, WorkerTimeoutError, call_within
from testing.waiting import in_time, wait_for


class Finished:
    def __init__(self) -> None:
        self.event = threading.Event()
        self.thread = ""

    def __call__(self) -> None:
        self.thread = threading.current_thread().name
        self.event.set()


@pytest.fixture
def finished() -> Finished:
    return Finished()


@pytest.fixture
def worker(finished: Finished) -> Iterator[Worker]:
    worker = Worker("under-test", finished)
    yield worker
    worker.close()
    assert worker.join(5)


def test_tasks_run_in_the_thread_and_return(worker: Worker) -> None:
    assert worker.call(lambda: threading.current_thread().name, 5) == "under-test"
    assert worker.call(lambda: None, 5) is None


def test_an_exception_reaches_the_caller_and_the_thread_continues(worker: Worker) -> None:
    def fail() -> None:
        raise TimeoutError("of the task's own")

    with pytest.raises(TimeoutError, match="of the task's own"):
        worker.call(fail, 5)
    assert worker.call(lambda: 3, 5) == 3


def test_a_hanging_task_is_abandoned_in_time_and_cleaned_up_by_its_thread(worker: Worker, finished: Finished) -> None:
    release = threading.Event()
    start_s = time.monotonic()
    with pytest.raises(WorkerTimeoutError):
        worker.call(lambda: release.wait(20), 0.1)
    took_s = time.monotonic() - start_s
    assert took_s >= 0.1
    assert in_time(took_s, 1)
    worker.close()
    assert not finished.event.is_set()  # the task's resources must not be freed while it uses them
    release.set()
    assert finished.event.wait(5)
    assert finished.thread == "under-test"


def test_close_wakes_a_waiting_caller(worker: Worker) -> None:
    release, started = threading.Event(), threading.Event()
    results: list[str] = []

    def hang() -> None:
        started.set()
        release.wait(20)

    def wait() -> None:
        try:
            worker.call(hang, 20)
        except WorkerClosedError:
            results.append("closed")

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert started.wait(5)
    worker.close()
    waiter.join(5)
    release.set()
    assert results == ["closed"]
    with pytest.raises(WorkerClosedError):
        worker.call(lambda: None, 5)


def test_one_call_has_a_deadline_and_leaves_no_thread() -> None:
    assert call_within("once", lambda: 3, 5) == 3
    with pytest.raises(ZeroDivisionError):
        call_within("once", lambda: 1 // 0, 5)
    release = threading.Event()
    with pytest.raises(WorkerTimeoutError):
        call_within("once", lambda: release.wait(20), 0.05)
    release.set()
    assert wait_for(lambda: all(thread.name != "once" for thread in threading.enumerate()))


def test_a_task_that_computes_gets_more_time_than_one_that_waits() -> None:
    worker = Worker("w", lambda: None)
    computing = threading.Event()
    computing.set()
    assert worker.call(lambda: time.sleep(0.4) or "done", 0.1, busy=computing.is_set, busy_s=60) == "done"  # type: ignore[func-returns-value]
    with pytest.raises(WorkerTimeoutError):
        worker.call(lambda: time.sleep(0.6), 0.1, busy=lambda: False, busy_s=60)
    worker.close()


def test_a_task_that_computes_without_end_is_given_up() -> None:
    worker = Worker("w", lambda: None)
    released = threading.Event()
    began_s = time.monotonic()
    with pytest.raises(WorkerTimeoutError):
        worker.call(lambda: released.wait(60), 0.1, busy=lambda: True, busy_s=0.3)
    assert time.monotonic() - began_s > 0.35
    released.set()
    worker.close()
