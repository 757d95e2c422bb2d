"""Every error that edgepose raises on purpose, drawn as a tree.

::

    EdgeposeError               70  internal
    ├── UsageError              64  a command line that makes no sense
    ├── ConfigError             78  a configuration that is refused
    │   └── ModelError          78  a model file that is missing or not what it should be
    ├── SourceError             66  a video source that gives no frames; `cause` names why
    │   └── EndOfStream         66  a finite source (file, folder) is over: not a fault
    ├── RecordingError          66  a black-box recording that is missing or damaged
    ├── UnavailableError        69  a library that is missing, a port, name or folder that somebody else has, or somebody who says nothing
    ├── EngineError             69  an inference backend that is unavailable or fails
    └── OutputError             74  a file or broker that cannot be written to

Exit codes follow sysexits(3). Each message is one sentence: what was found, where, and what would be accepted.
"""


class EdgeposeError(Exception):
    """Base of all errors that edgepose raises on purpose."""

    exit_code = 70


class UsageError(EdgeposeError):
    """A command line that makes no sense."""

    exit_code = 64


class ConfigError(EdgeposeError):
    """A configuration that is refused."""

    exit_code = 78


class ModelError(ConfigError):
    """A model file that is missing, damaged, or not a pose model."""


class SourceError(EdgeposeError):
    """A video source that gives no frames.

    Args:
        message: one sentence for the operator, with credentials already redacted.
        cause: stable name for machines, published on the camera's status topic, such as `refused` or `stalled`.
    """

    exit_code = 66

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class EndOfStream(SourceError):  # noqa: N818 (the end of a file is no error)
    """A finite source (file, folder of images) has given its last frame."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "end_of_stream")


class RecordingError(EdgeposeError):
    """A recording of the black box that is missing, damaged, or of another version."""

    exit_code = 66


class UnavailableError(EdgeposeError):
    """A library that is not installed, a port or a name that another program has, or somebody who was expected to say something."""

    exit_code = 69


class EngineError(EdgeposeError):
    """An inference backend that is unavailable, or that failed while running."""

    exit_code = 69


class OutputError(EdgeposeError):
    """A file or broker that cannot be written to."""

    exit_code = 74
