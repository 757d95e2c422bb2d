import threading

import pytest

from edgepose.supervision.uncaught import log_uncaught


def test_a_thread_that_ends_with_an_exception_is_logged_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # restored after the test
    log_uncaught()

    def fail() -> None:
        raise KeyError("x")

    thread = threading.Thread(target=fail, name="helper")
    thread.start()
    thread.join()
    (line,) = caplog.messages
    assert line.startswith("helper ended with an unexpected KeyError at test_uncaught.py:")
    assert line.endswith(" in fail: 'x'")
    assert "Traceback" not in capfd.readouterr().err
