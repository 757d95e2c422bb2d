"""The people in one picture or frame, as the Python API returns them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.errors import UnavailableError
from edgepose.frame import Frame
from edgepose.ground import Aircraft
from edgepose.messages.compose import poses_message, source_scale
from edgepose.messages.structs import encode
from edgepose.output.coco import coco_results
from edgepose.output.files import FilePosesMessage, of_file
from edgepose.output.overlay import draw
from edgepose.person import KEYPOINT_NAMES, SKELETON, Person
from edgepose.pipeline.file_sinks import source_of
from edgepose.pixels import encode_picture, unguarded

if TYPE_CHECKING:
    import supervision

_NOTEBOOK_SIDE_PX = 1280  # a notebook keeps each picture that it shows


class PoseResult:
    """The people in one picture, or in one frame of a video, by falling score. Its length is the number of people.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in source pixels; (0, 0) is the top-left corner of the top-left pixel.
        scores: float32 (N,), 0 to 1.
        keypoints: float32 (N, 17, 3), x y in source pixels and confidence (0 to 1).
        tracks: track number of each person; None for a person who is not tracked.
        width, height: size of the source in pixels.
        source: path of the file, or a name where the picture comes from no file.
        sequence: number of the frame in its source, from 0.
        captured_at_ns: capture time of the frame, nanoseconds since the Unix epoch (UTC); in a file, times differ as in the video.
    """

    names = KEYPOINT_NAMES
    """The 17 COCO keypoints in COCO order."""

    skeleton = SKELETON
    """Pairs of keypoints that form the bones."""

    def __init__(self, frame: Frame, people: Sequence[Person], keypoint_threshold: float, aircraft: Aircraft | None = None) -> None:
        """
        Args:
            frame: the picture.
            people: in pixels of the frame's image.
            keypoint_threshold: confidence below which a keypoint is not drawn.
            aircraft: what carries the camera; None where nobody is placed.
        """
        scale = np.array(source_scale(frame), np.float32)
        self.boxes: NDArray[np.float32] = np.array([person.box for person in people], np.float32).reshape(-1, 4) * np.tile(scale, 2)
        self.scores: NDArray[np.float32] = np.array([person.score for person in people], np.float32)
        self.keypoints: NDArray[np.float32] = np.array([person.keypoints for person in people], np.float32).reshape(-1, 17, 3)
        self.keypoints[..., :2] *= scale
        self.tracks: tuple[int | None, ...] = tuple(person.track for person in people)
        self.width, self.height = frame.full_size or (frame.width, frame.height)
        self.source = source_of(frame)
        self.sequence = frame.sequence
        self.captured_at_ns = frame.captured_at_ns
        self._frame = frame
        self._people = tuple(people)
        self._keypoint_threshold = keypoint_threshold
        self._aircraft = aircraft

    def __len__(self) -> int:
        return len(self._people)

    def __repr__(self) -> str:
        people = "1 person" if len(self) == 1 else f"{len(self)} people"
        return f"<PoseResult: {people} in {self.source}, {self.width}x{self.height}, frame {self.sequence}>"

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture without drawings, uint8 (H, W, 3) BGR; of a very large JPEG, at a fraction of its size."""
        bgr: NDArray[np.uint8] = cv2.cvtColor(self._frame.image, cv2.COLOR_RGB2BGR)
        return bgr

    def plot(self) -> NDArray[np.uint8]:
        """Return the picture with boxes and skeletons drawn on it, uint8 (H, W, 3) BGR, as OpenCV shows and writes it."""
        drawn = draw(self._frame.image, self._people, keypoint_threshold=self._keypoint_threshold)
        bgr: NDArray[np.uint8] = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
        return bgr

    def to_json(self) -> str:
        """Return the line that `edgepose infer --output` writes for this picture, with `age_ms` 0."""
        return encode(self._message()).decode()

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Return COCO results, one for each person, as `edgepose infer --coco` writes them.

        Args:
            image_id: number of the picture in the data set.
        """
        return coco_results(self._message(), image_id)

    def to_supervision(self) -> "supervision.KeyPoints":
        """Return the poses for Roboflow's library supervision, whose `as_detections()` gives the boxes around them.

        Raises:
            UnavailableError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UnavailableError(
                f"supervision cannot be loaded ({error}); expected it to be installed: pip install supervision"
            ) from error
        if not len(self):
            return supervision.KeyPoints.empty()
        return supervision.KeyPoints(
            xy=self.keypoints[..., :2],
            keypoint_confidence=self.keypoints[..., 2],
            detection_confidence=self.scores,
            class_id=np.zeros(len(self), int),
            data={"class_name": np.full(len(self), "person")},
        )

    def _repr_png_(self) -> bytes:
        """Return the drawn picture as a notebook shows it."""
        drawn = self.plot()
        factor = _NOTEBOOK_SIDE_PX / max(drawn.shape[:2])
        if factor < 1:
            height, width = (max(1, round(side * factor)) for side in drawn.shape[:2])
            drawn = np.asarray(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        return encode_picture(unguarded(np.ascontiguousarray(drawn[..., ::-1])), ".png")  # the caller's own picture

    def _message(self) -> FilePosesMessage:
        return of_file(poses_message(self._frame, self._people, self._frame.captured_at_ns, aircraft=self._aircraft), self.source)
