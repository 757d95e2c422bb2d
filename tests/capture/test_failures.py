"""Every exception of PyAV is mapped to a `SourceError`, including those that a new release adds."""

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
        mapped = source_error(raised, "camera front: rtsp://***@camera/cam", opening=opening)
        assert isinstance(mapped, SourceError)
        assert mapped.cause in CAUSES
        assert str(mapped).startswith("camera front: rtsp://***@camera/cam ")
        assert "something broke" in str(mapped)
        assert "s3cret" not in str(mapped)


def test_the_mapping_is_complete_and_uses_known_causes() -> None:
    assert len(EXCEPTIONS) >= 40
    assert set(CAUSE_BY_EXCEPTION.values()) <= set(CAUSES)


@pytest.mark.parametrize(("opening", "cause"), [(True, "timeout"), (False, "stalled")])
@pytest.mark.parametrize("exception", ["ExitError", "TimeoutError"])
def test_a_timeout_is_named_after_the_operation(exception: str, opening: bool, cause: str) -> None:
    assert source_error(getattr(av.error, exception)(1, "Late"), "here", opening=opening).cause == cause


def test_an_unknown_exception_is_a_failure() -> None:
    mapped = source_error(RuntimeError("odd at rtsp://pilot:s3cret@camera/"), "here", opening=False)
    assert mapped.cause == "failed"
    assert str(mapped) == "here failed (runtimeError)"


def test_our_own_error_is_unchanged() -> None:
    own = SourceError("no video stream", "no_video")
    assert source_error(own, "here", opening=True) is own


def test_a_host_name_that_cannot_be_resolved_is_reported() -> None:
    unresolved = unresolved_host("rtsp://camera.invalid/cam", "here")
    assert unresolved is not None
    assert unresolved.cause == "not_found"
    assert "cannot be resolved" in str(unresolved)
    assert unresolved_host("rtsp://127.0.0.1/cam", "here") is None


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_an_unreachable_host_has_no_route(number: int) -> None:
    mapped = source_error(av.error.OSError(number, "Network is unreachable"), "here", opening=True)
    assert mapped.cause == "no_route"
    assert str(mapped).startswith("here cannot be reached (network is unreachable)")
