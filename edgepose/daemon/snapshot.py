"""One picture, small enough for a message."""

import cv2

from edgepose.frame import Frame
from edgepose.messages.structs import SnapshotMessage, timestamp

LIMIT_BYTES = 256 * 1024
"""Most that a JPEG may take: brokers and radio links have bounds of their own."""

_QUALITIES = (85, 60, 35)


def snapshot_message(frame: Frame, width: int) -> SnapshotMessage | None:
    """The picture of a frame as a JPEG, at most `width` pixels wide; None where it would be larger than the limit at any quality."""
    image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)  # (H, W, 3)
    if frame.width > width:
        image = cv2.resize(image, (width, max(1, round(frame.height * width / frame.width))), interpolation=cv2.INTER_AREA)
    for quality in _QUALITIES:
        encoded, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if encoded and len(jpeg) <= LIMIT_BYTES:
            height, across = image.shape[:2]
            return SnapshotMessage(
                camera=frame.camera, captured_at=timestamp(frame.captured_at), width=across, height=height, jpeg=jpeg.tobytes()
            )
    return None
