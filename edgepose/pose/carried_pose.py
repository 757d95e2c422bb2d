"""Carried poses: between two refinements, a tracked person keeps the last refined pose, which moves with the box.

Refined keypoints are far better than those of the pose network. Without carrying, a person who is not refined in every frame would
alternate between two qualities. A box is good in every frame, so it says where the refined pose has gone since: the pose is shifted and
scaled with it. What limbs did since then is unknown, so the confidences fall with age, and the pose network's own keypoints are used
as soon as they are the more certain ones.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import RefineConfig
from edgepose.frame import NS_PER_S
from edgepose.motion import Motion
from edgepose.person import Person
from edgepose.pose.boxes import body_size
from edgepose.pose.clip import clip_keypoints, clip_points
from edgepose.pose.refine.schedule import is_too_small

# Of the confidences of a carried pose. The OKS of carried with freshly refined poses, by a refiner of 256 x 192: people who walk past a
# fixed camera 0.94, 0.86 and 0.81 after 0.07, 0.33 and 0.6 s; one of 80 px below a drone 0.82, 0.56 and 0.48 after 0.04, 0.2 and 0.48 s.
_HALF_LIFE_S = 0.5
_OWN_WEIGHT = 0.5  # of the confidence of the pose network's own, coarse keypoints, against that of a carried pose
_MAXIMUM_MOVE = 0.5  # body sizes per frame; what moves farther is most likely another person
_MAXIMUM_ASPECT_CHANGE = 1.5  # a body whose box changes more has another pose
_EDGE_SHARE = 0.01  # of the frame's side: a box that ends this close to the frame's edge may be cut by it


class _Refined(msgspec.Struct, eq=False):
    """The last refined pose of a track, and the box in the last frame with the track."""

    keypoints: NDArray[np.float32]  # (17, 3)
    box: NDArray[np.float32]  # (4,), of the frame in which it was refined
    frame: int
    time_ns: int
    last_box: NDArray[np.float32]  # (4,)
    last_frame: int


class RefinedPoseState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one track's last refined pose; `keypoints` is float32 (17, 3), the boxes are float32 (4,)."""

    keypoints: bytes
    box: bytes
    frame: int
    time_ns: int
    last_box: bytes
    last_frame: int


class CarriedPosesState(msgspec.Struct, frozen=True):
    """Snapshot of `CarriedPoses`: the number of frames, and the last refined poses by track number."""

    frame: int
    refined: dict[int, RefinedPoseState]


class CarriedPoses:
    """The last refined poses of one camera's tracks, for the frames in which they are not refined."""

    def __init__(self, config: RefineConfig) -> None:
        self._config = config
        self._frame = 0
        self._refined: dict[int, _Refined] = {}

    def configure(self, config: RefineConfig) -> None:
        """Apply other settings; people stay known."""
        self._config = config

    def reset(self) -> None:
        """Forget all poses, for a new epoch of a stream."""
        self._refined = {}

    def move(self, motion: Motion) -> None:
        """Move all poses and boxes with the ground, when the camera has moved since the last frame; before `update`."""
        for last in self._refined.values():
            last.keypoints = np.concatenate([motion.points(last.keypoints[:, :2]), last.keypoints[:, 2:]], axis=1)
            last.box, last.last_box = motion.box(last.box), motion.box(last.last_box)

    def snapshot(self) -> CarriedPosesState:
        """Return all poses, without the settings."""
        return CarriedPosesState(
            self._frame,
            {
                track: RefinedPoseState(
                    last.keypoints.tobytes(), last.box.tobytes(), last.frame, last.time_ns, last.last_box.tobytes(), last.last_frame
                )
                for track, last in self._refined.items()
            },
        )

    def restore(self, state: CarriedPosesState) -> None:
        """Continue from a snapshot."""
        self._frame = state.frame
        self._refined = {
            track: _Refined(
                _floats(last.keypoints).reshape(-1, 3), _floats(last.box), last.frame, last.time_ns, _floats(last.last_box), last.last_frame
            )
            for track, last in state.refined.items()
        }

    def update(
        self, people: Sequence[Person], refined: Sequence[bool], width: int, height: int, time_ns: int
    ) -> tuple[list[Person], list[bool]]:
        """Return the people of one frame, in the same order, with the poses to show, and whose pose is the refiner's, new or carried.

        Boxes, scores and track numbers do not change.

        Args:
            people: after refinement; without a track number, or too small to be refined, they do not change.
            refined: whether the pose of each is refined in this frame.
            width, height: size of the frame in pixels.
            time_ns: capture time of the frame.
        """
        self._frame += 1
        self._refined = {track: last for track, last in self._refined.items() if self._frame - last.frame <= self._config.carry_frames}
        shown, from_refiner = list(people), list(refined)
        for index, person in enumerate(people):
            if person.track is None:
                continue
            if refined[index]:
                self._refined[person.track] = _Refined(person.keypoints, person.box, self._frame, time_ns, person.box, self._frame)
                continue
            last = self._refined.get(person.track)
            if last is None:
                continue
            step = BoxMove.between(last.last_box, person.box, width, height)
            move = BoxMove.between(last.box, person.box, width, height)
            if time_ns < last.time_ns or not self._continues(last, step, move):  # a clock that was set back gives no age
                del self._refined[person.track]
                continue
            last.last_box, last.last_frame = person.box, self._frame
            carried = self._carried(last, person, move.apply(last.keypoints[:, :2]), width, height, time_ns)
            if carried is not None:
                shown[index], from_refiner[index] = carried, True
        return shown, from_refiner

    def _continues(self, last: _Refined, step: "BoxMove", move: "BoxMove") -> bool:
        """Return whether a person may still have the pose of the last refinement.

        Args:
            step: since the last frame with the track.
            move: since the last refinement.
        """
        farthest_px = _MAXIMUM_MOVE * float(body_size(last.last_box)) * (self._frame - last.last_frame)
        if math.hypot(*step.shift) > farthest_px:
            return False
        return move.cut or 1 / _MAXIMUM_ASPECT_CHANGE <= move.scale[0] / move.scale[1] <= _MAXIMUM_ASPECT_CHANGE

    def _carried(self, last: _Refined, person: Person, points: NDArray[np.float32], width: int, height: int, time_ns: int) -> Person | None:
        """Return a person with the last refined pose; None where the person is too small, or the own pose is more certain.

        Args:
            points: (17, 2), where the keypoints of the pose are now.
        """
        if is_too_small(person, self._config):
            return None
        points = points[None]
        confidences = last.keypoints[None, :, 2] * np.float32(0.5 ** ((time_ns - last.time_ns) / NS_PER_S / _HALF_LIFE_S))
        clipped = clip_points(points, width, height)
        keypoints = clip_keypoints(points, clipped, confidences, body_size(person.box[None]))[0]
        if float(person.keypoints[:, 2].mean()) * _OWN_WEIGHT > float(keypoints[:, 2].mean()):
            return None
        return Person(person.box, person.score, keypoints, person.track)


class BoxMove(msgspec.Struct, frozen=True):
    """The mapping by which one box of a person became another: scaling about a point, then a shift.

    Along an axis on which the frame's edge cuts one of the boxes, the length of the box says nothing about the size of the person: there
    the scale is 1, and the shift is that of the edge that is not cut, or that of the centers where both or none are.

    Attributes:
        anchor: x and y of the point in the first box, in pixels.
        shift: in x and y, in pixels.
        scale: in x and y.
        cut: whether the frame's edge cuts a box.
    """

    anchor: tuple[float, float]
    shift: tuple[float, float]
    scale: tuple[float, float]
    cut: bool

    @classmethod
    def between(cls, before: NDArray[np.float32], after: NDArray[np.float32], width: int, height: int) -> "BoxMove":
        """Return the mapping from a box to a later one, both (4,), in a frame of that size in pixels."""
        (left, top, right, bottom), (new_left, new_top, new_right, new_bottom) = before.tolist(), after.tolist()
        x = _axis_move(left, right, new_left, new_right, width)
        y = _axis_move(top, bottom, new_top, new_bottom, height)
        return cls((x[0], y[0]), (x[1], y[1]), (x[2], y[2]), x[3] or y[3])

    def apply(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return points (..., 2) where they are in the later box."""
        anchor = np.array(self.anchor)
        return np.asarray((points - anchor) * self.scale + (anchor + self.shift), np.float32)


def _axis_move(low: float, high: float, new_low: float, new_high: float, side: int) -> tuple[float, float, float, bool]:
    """Return anchor, shift, scale and cut of a `BoxMove` along one axis of the frame, whose length is `side` pixels."""
    margin = _EDGE_SHARE * side
    low_cut, high_cut = min(low, new_low) <= margin, max(high, new_high) >= side - margin
    scale = 1.0 if low_cut or high_cut else max(new_high - new_low, 1.0) / max(high - low, 1.0)
    if low_cut == high_cut:
        center = (low + high) / 2
        return center, (new_low + new_high) / 2 - center, scale, low_cut
    return (high, new_high - high, scale, True) if low_cut else (low, new_low - low, scale, True)


def refined_poses(before: Sequence[Person], after: Sequence[Person]) -> list[bool]:
    """Return whose pose is refined, among people before and after refinement: those whose keypoints changed.

    A recording holds both, so that a replay decides in the same way.
    """
    return [not np.array_equal(first.keypoints, second.keypoints) for first, second in zip(before, after, strict=True)]


def _floats(data: bytes) -> NDArray[np.float32]:
    floats: NDArray[np.float32] = np.frombuffer(data, np.float32).copy()
    return floats
