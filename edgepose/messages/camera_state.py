"""What is known of a camera."""

from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "streaming", "stalled", "failed", "paused"]


@dataclass(frozen=True, slots=True)
class CameraState:
    """What is known of a camera, published whenever it changes.

    Attributes:
        camera: its name.
        state: `connecting`, `streaming`, `stalled` (open, but no frames come), `failed` (cannot be opened, or broke off)
            or `paused` (a file is over, or a command said so).
        cause: stable name of the reason, None while all is well.
        detail: the reason in one sentence, credentials redacted.
        epoch: number of times the source gave frames and lost them.
        width, height: size of the frames in pixels, None before the first.
    """

    camera: str
    state: State
    cause: str | None
    detail: str | None
    epoch: int
    width: int | None = None
    height: int | None = None
