"""Why there is no pose: nobody there, no video, nothing to be seen on it, or nobody looking."""

from dataclasses import dataclass

from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import Diagnosis
from edgepose.pose.image_quality import ImageQuality


@dataclass(frozen=True, slots=True)
class CameraProgress:
    """What came of a camera's frames.

    Attributes:
        published: pose messages since the start.
        failed: frames since the start that could not be looked at.
        people: people in the newest message.
    """

    published: int = 0
    failed: int = 0
    people: int = 0


def diagnose(state: CameraState, now: CameraProgress, before: CameraProgress, visibility: ImageQuality | None) -> Diagnosis:
    """The one reason that explains most.

    Args:
        now, before: at this report and at the one before.
        visibility: of a picture of the last second or so, None where none was measured.
    """
    if state.state == "paused":
        return "paused"
    if state.cause == "frozen":
        return "frozen"
    if state.state == "connecting" and state.epoch == 0:
        return "warming_up"
    if state.state != "streaming":
        return "no_video"
    if now.published == before.published and now.failed > before.failed:
        return "not_processed"
    if not now.published:
        return "warming_up"
    if now.people:
        return "person"
    impairment = visibility.impairment if visibility is not None else None
    return impairment or "no_person"
