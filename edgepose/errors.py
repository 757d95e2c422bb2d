"""Every error that edgepose raises on purpose, as a tree with its exit codes.

::

    EdgeposeError               70  internal error
    ├── UsageError              64  invalid command line, or argument of the Python API
    ├── ConfigError             78  invalid configuration
    │   └── ModelError          78  missing or invalid model file
    ├── SourceError             66  video source without frames; `cause` names the reason
    │   └── EndOfStream         66  end of a finite source (file, folder), which is not a fault
    ├── RecordingError          66  missing or damaged black-box recording
    ├── UnavailableError        69  missing library, occupied port, name or folder, or a peer that does not respond
    ├── EngineError             69  inference backend that is unavailable or fails
    └── OutputError             74  file or broker that cannot be written to

Exit codes follow sysexits(3). Each message is one sentence that says what was found, where, and what is accepted.
"""


class EdgeposeError(Exception):
    """Base of all errors that edgepose raises on purpose. They can be pickled, so that a process passes them to its parent."""

    exit_code = 70

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args), self.__dict__


class UsageError(EdgeposeError):
    """An invalid command line, or an invalid argument of the Python API."""

    exit_code = 64


class ConfigError(EdgeposeError):
    """An invalid configuration."""

    exit_code = 78


class ModelError(ConfigError):
    """A model file that is missing, damaged, or not a pose model."""

    exit_code = 78


class SourceError(EdgeposeError):
    """A video source that provides no frames.

    Args:
        message: one sentence for the operator, with credentials redacted.
        cause: stable name for programs, published on the camera's status topic, such as `refused` or `stalled`.
    """

    exit_code = 66

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class EndOfStream(SourceError):  # noqa: N818 (the end of a file is not an error)
    """The end of a finite source (file, folder of images)."""

    exit_code = 66

    def __init__(self, message: str) -> None:
        super().__init__(message, "end_of_stream")


class RecordingError(EdgeposeError):
    """A recording of the black box that is missing, damaged, or of another version."""

    exit_code = 66


class UnavailableError(EdgeposeError):
    """A library that is not installed, a port, name or folder that another program uses, or a peer that does not respond."""

    exit_code = 69


class EngineError(EdgeposeError):
    """An inference backend that is unavailable, or that failed while running."""

    exit_code = 69


class OutputError(EdgeposeError):
    """A file or broker that cannot be written to."""

    exit_code = 74


def _restored(kind: type[EdgeposeError], arguments: tuple[object, ...]) -> EdgeposeError:
    """Return an error of a kind whose constructor takes more than the message, without calling it."""
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    return error
