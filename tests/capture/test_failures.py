"""Every exception of PyAV is said as a `SourceError`: none may slip through when PyAV grows new ones."""

import errno

import av.error
import pytest

from edgepose.capture.failures import CAUSE_BY_EXCEPTION, CAUSES, source_error, unresolved_host
from edgepose.errors import SourceError

EXCEPTIONS = [found for found in vars(av.error).values() if isinstance(found, type) and issubclass(found, av.error.FFmpegError)]


@pytest.mark.parametrize("exception", EXCEPTIONS, ids=lambda exception: exception.__name__)
def test_every_exception_of_pyav_is_mapped(exception: type[Exception]) -> None:
    assert exception.__name__ in CAUSE_BY_EXCEPTION, f"av.error.{exception.__name__} has no cause"
    raised = exception(1, "Something broke", "rtsp://pilot:s3cret@camera/cam", (16, "rtsp", "asked rtsp://pilot:s3cret@camera/cam"))
    for opening in (True, False):
        said = source_error(raised, "camera front: rtsp://***@camera/cam", opening=opening)
        assert isinstance(said, SourceError)
        assert said.cause in CAUSES
        assert str(said).startswith("camera front: rtsp://***@camera/cam ")
        assert "something broke" in str(said)
        assert "s3cret" not in str(said)


def test_there_is_something_to_map() -> None:
    assert len(EXCEPTIONS) >= 40
    assert set(CAUSE_BY_EXCEPTION.values()) <= set(CAUSES)


@pytest.mark.parametrize(("opening", "cause"), [(True, "timeout"), (False, "stalled")])
@pytest.mark.parametrize("exception", ["ExitError", "TimeoutError"])
def test_a_time_out_is_named_after_what_was_waited_for(exception: str, opening: bool, cause: str) -> None:
    assert source_error(getattr(av.error, exception)(1, "Late"), "here", opening=opening).cause == cause


def test_an_exception_of_nobody_in_particular_has_failed() -> None:
    said = source_error(RuntimeError("odd at rtsp://pilot:s3cret@camera/"), "here", opening=False)
    assert said.cause == "failed"
    assert str(said) == "here failed (odd at rtsp://***@camera/)"


def test_an_error_of_our_own_stays_what_it_is() -> None:
    own = SourceError("no video stream", "no_video")
    assert source_error(own, "here", opening=True) is own


def test_a_host_name_that_cannot_be_resolved_is_told() -> None:
    unresolved = unresolved_host("rtsp://camera.invalid/cam", "here")
    assert unresolved is not None
    assert unresolved.cause == "not_found"
    assert "cannot be resolved" in str(unresolved)
    assert unresolved_host("rtsp://127.0.0.1/cam", "here") is None


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_what_cannot_be_reached_has_no_route(number: int) -> None:
    said = source_error(av.error.OSError(number, "Network is unreachable"), "here", opening=True)
    assert said.cause == "no_route"
    assert str(said).startswith("here cannot be reached (network is unreachable)")
