"""State of a camera, as the camera thread reports it."""

from typing import Literal

import msgspec

State = Literal["connecting", "streaming", "stalled", "failed", "paused"]


class CameraState(msgspec.Struct, frozen=True):
    """State of a camera, published whenever it changes.

    Attributes:
        camera: name of the camera.
        state: `connecting`, `streaming`, `stalled` (open, but without new frames), `failed` (cannot be opened, or was interrupted)
            or `paused` (a file has ended, or on command).
        cause: machine-readable cause, None while there is no problem.
        detail: explanation in one sentence, with credentials redacted; None while there is no problem.
        epoch: number of times that the stream was opened before and then lost.
        width, height: size of the frames in pixels, None before the first frame.
    """

    camera: str
    state: State
    cause: str | None
    detail: str | None
    epoch: int
    width: int | None = None
    height: int | None = None
