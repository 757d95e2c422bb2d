"""Smoothing of keypoints with the One Euro filter (Casiez, Roussel, Vogel 2012, https://gery.casiez.net/1euro), which holds against jumps.

A low-pass filter whose cutoff frequency rises with speed: little jitter at rest, little lag in motion. Time is measured in
seconds and speed in body sizes per second, so one setting works for any frame rate and any distance.

A keypoint that the network is unsure of has two places, such as both ankles, and jumps from one to the other and back: that is most of the
jitter of people at rest, and no low-pass filter removes it. A keypoint that is farther from its place than a body can move in the time is
therefore held there, moving with the body, until it was seen elsewhere more often than there, weighted by its confidence. A sure one is
hardly held.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import SmoothConfig
from edgepose.frame import NS_PER_S
from edgepose.motion import Motion
from edgepose.person import Person
from edgepose.pose.boxes import body_size
from edgepose.pose.buffers import Rows

_RESET_AFTER_S = 0.5  # after a longer gap, the old position says nothing about the new one
_FULL_CONFIDENCE = 0.6  # from this confidence, a keypoint has the weight 1 in its filter; below, it is proportional ...
_MINIMUM_WEIGHT = 0.1  # ... but not lower than this, or a filter would never follow a lost keypoint
_NOISE_SPEED = 0.15  # body sizes / s; a filtered speed of this much is noise, and does not raise the cutoff
# Reach of a keypoint in one frame, in body sizes, beyond which it has jumped: noise and the acceleration of a limb (in body sizes / s²),
# more for a sure keypoint, and a multiple of the way that it was going.
_NOISE, _ACCELERATION, _SPEED_REACH, _LEAST_DOUBT = 0.03, 10.0, 2.0, 0.05
_BELIEF_GAIN = 0.25  # of belief in the place of a keypoint by a frame in which it is there with confidence 1; so much is lost elsewhere
_RESET_AFTER_NS = _RESET_AFTER_S * NS_PER_S


class _Filtered(msgspec.Struct, eq=False):
    """Filters of one person: where each keypoint was last seen, its smoothed position and speed, and the belief that it is there."""

    time_ns: int
    seen: NDArray[np.float32]  # (17, 2), pixels; where it jumped to does not count
    position: NDArray[np.float32]  # (17, 2), pixels
    speed: NDArray[np.float32]  # (17, 2), pixels / s
    belief: NDArray[np.float32]  # (17,), 0 to 1


class FilteredState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of one person's filters; `seen`, `position` and `speed` are float32 (17, 2), `belief` is float32 (17,)."""

    time_ns: int
    seen: bytes
    position: bytes
    speed: bytes
    belief: bytes


class SmootherState(msgspec.Struct, frozen=True):
    """Snapshot of a `Smoother`: filters by track number."""

    filtered: dict[int, FilteredState]


class Smoother:
    """One Euro filters, one for each keypoint of each tracked person."""

    def __init__(self, config: SmoothConfig) -> None:
        self._config = config
        self._filtered: dict[int, _Filtered] = {}
        self._rows = Rows()

    def configure(self, config: SmoothConfig) -> None:
        """Apply other settings; people stay known."""
        self._config = config

    def reset(self) -> None:
        """Forget all people, for a new epoch of a stream."""
        self._filtered = {}

    def move(self, motion: Motion) -> None:
        """Move all filters with the ground, when the camera has moved since the last frame; before `update`."""
        for filtered in self._filtered.values():
            filtered.speed = motion.vectors(filtered.speed, filtered.position)
            filtered.seen, filtered.position = motion.points(filtered.seen), motion.points(filtered.position)

    def snapshot(self) -> SmootherState:
        """Return the filters of all people, without the settings."""
        return SmootherState(
            {
                track: FilteredState(
                    filtered.time_ns,
                    filtered.seen.tobytes(),
                    filtered.position.tobytes(),
                    filtered.speed.tobytes(),
                    filtered.belief.tobytes(),
                )
                for track, filtered in self._filtered.items()
            }
        )

    def restore(self, state: SmootherState) -> None:
        """Continue from a snapshot."""
        self._filtered = {
            track: _Filtered(
                filtered.time_ns, _points(filtered.seen), _points(filtered.position), _points(filtered.speed), _floats(filtered.belief)
            )
            for track, filtered in state.filtered.items()
        }

    def update(self, people: Sequence[Person], time_ns: int) -> list[Person]:
        """Return the people of one frame with smoothed keypoints, in the same order.

        Boxes, scores and confidences do not change.

        Args:
            people: those without a track number or without a pose do not change.
            time_ns: capture time of the frame. The filters of a person reset if it goes back or jumps by more than half a second.
        """
        if not self._config.enabled:
            return list(people)
        result = list(people)
        known: list[tuple[int, Person, _Filtered]] = []  # index in the result, detection, filters
        for index, person in enumerate(people):
            if person.track is None or not person.has_pose:
                continue
            before = self._filtered.get(person.track)
            if before is None or not 0 <= time_ns - before.time_ns <= _RESET_AFTER_NS:
                position, belief = person.keypoints[:, :2], person.keypoints[:, 2] * np.float32(_BELIEF_GAIN)
                self._filtered[person.track] = _Filtered(time_ns, position.copy(), position.copy(), np.zeros_like(position), belief)
            else:
                known.append((index, person, before))
        if known:
            keypoints = self._smooth([person for _, person, _ in known], [before for _, _, before in known], time_ns)
            for (index, person, _), smoothed in zip(known, keypoints, strict=True):
                result[index] = Person(person.box, person.score, smoothed, person.track)
        self._filtered = {track: filtered for track, filtered in self._filtered.items() if time_ns - filtered.time_ns <= _RESET_AFTER_NS}
        return result

    def _smooth(self, people: Sequence[Person], filtered: Sequence[_Filtered], time_ns: int) -> NDArray[np.float32]:
        """Update the filters of all people together and return the keypoints (P, 17, 3) with the smoothed positions."""
        rows = self._rows
        keypoints = np.array([person.keypoints for person in people])  # (P, 17, 3)
        seen = rows.filled("seen", [before.seen for before in filtered])  # (P, 17, 2)
        positions = rows.filled("positions", [before.position for before in filtered])
        speeds = rows.filled("speeds", [before.speed for before in filtered])
        beliefs = rows.filled("beliefs", [before.belief for before in filtered])  # (P, 17)
        elapsed_s = np.array([(time_ns - before.time_ns) / NS_PER_S for before in filtered], np.float32)[:, None]  # (P, 1)
        sizes = body_size(np.array([person.box for person in people]))[:, None]  # (P, 1)

        places, confidences = keypoints[..., :2], keypoints[..., 2]
        gone, held = self._judge(places, confidences, seen, speeds, beliefs, sizes, elapsed_s)
        if gone.any():
            np.copyto(positions, places, where=gone[..., None])
            np.copyto(speeds, np.float32(0), where=gone[..., None])
        moved = rows.take("moved", *places.shape)
        np.subtract(places, positions, out=moved)
        if held.any():
            body_step = self._rows.medians(rows.take("steps", *places.shape))[:, None]
            seen += body_step
            np.copyto(seen, places, where=~held[..., None])
            np.copyto(moved, body_step, where=held[..., None])
        else:
            seen[:] = places

        self._follow(positions, speeds, moved, confidences, sizes, elapsed_s)
        for before, *values in zip(filtered, seen, positions, speeds, beliefs, strict=True):
            before.time_ns = time_ns
            before.seen[:], before.position[:], before.speed[:], before.belief[:] = values
        keypoints[..., :2] = positions
        return keypoints

    def _judge(
        self,
        places: NDArray[np.float32],
        confidences: NDArray[np.float32],
        seen: NDArray[np.float32],
        speeds: NDArray[np.float32],
        beliefs: NDArray[np.float32],
        sizes: NDArray[np.float32],
        elapsed_s: NDArray[np.float32],
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Update the beliefs, and return which keypoints (P, 17) are gone to another place, and which are held against a jump.

        The array `steps` is the way of each keypoint since it was seen.
        """
        rows = self._rows
        steps = np.subtract(places, seen, out=rows.take("steps", *places.shape))
        distances = self._lengths("distances", steps)
        from_body = np.subtract(steps, rows.medians(steps)[:, None], out=rows.take("from_body", *places.shape))
        np.minimum(distances, self._lengths("lengths", from_body), out=distances)
        distances /= sizes
        bodies_per_s = self._lengths("lengths", speeds)
        bodies_per_s /= sizes
        jumped = distances > self._reach(confidences, bodies_per_s, elapsed_s)
        gains = np.multiply(confidences, np.float32(_BELIEF_GAIN), out=rows.take("gains", *beliefs.shape))
        np.add(beliefs, gains, out=beliefs, where=~jumped)
        np.subtract(beliefs, gains, out=beliefs, where=jumped)
        np.minimum(beliefs, np.float32(1), out=beliefs)
        gone = beliefs < 0
        gone &= jumped
        np.copyto(beliefs, gains, where=gone)
        jumped &= ~gone
        return gone, jumped

    def _follow(
        self,
        positions: NDArray[np.float32],
        speeds: NDArray[np.float32],
        moved: NDArray[np.float32],
        confidences: NDArray[np.float32],
        sizes: NDArray[np.float32],
        elapsed_s: NDArray[np.float32],
    ) -> None:
        """Let positions and speeds follow the ways `moved` (P, 17, 2), which are overwritten."""
        rows = self._rows
        weights = np.divide(confidences, np.float32(_FULL_CONFIDENCE), out=rows.take("weights", *confidences.shape))  # (P, 17)
        np.maximum(weights, np.float32(_MINIMUM_WEIGHT), out=weights)
        np.minimum(weights, np.float32(1), out=weights)
        # If no time has passed, all gains are 0 and nothing changes; the divisor must not be 0.
        passed_s = np.where(elapsed_s > 0, elapsed_s, np.float32(1))[..., None]
        faster = np.divide(moved, passed_s, out=rows.take("from_body", *moved.shape))
        faster -= speeds
        gains = rows.take("gains", *weights.shape)
        gains[:] = _gain(np.float32(self._config.speed_cutoff_hz), elapsed_s)
        gains *= weights
        faster *= gains[..., None]
        speeds += faster
        cutoffs_hz = self._lengths("lengths", speeds)  # in bodies per second at first
        cutoffs_hz /= sizes
        cutoffs_hz -= np.float32(_NOISE_SPEED)
        np.maximum(cutoffs_hz, np.float32(0), out=cutoffs_hz)
        cutoffs_hz *= np.float32(self._config.speed_coefficient)
        cutoffs_hz += np.float32(self._config.minimum_cutoff_hz)
        weights *= _gain(cutoffs_hz, elapsed_s)
        moved *= weights[..., None]
        positions += moved

    def _lengths(self, name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the lengths (P, 17) of vectors (P, 17, 2), in the rows of a name."""
        squares = np.square(vectors, out=self._rows.take("squares", *vectors.shape))
        lengths: NDArray[np.float32] = self._rows.take(name, *vectors.shape[:2])
        np.add(squares[..., 0], squares[..., 1], out=lengths)
        return np.sqrt(lengths, out=lengths)

    def _reach(
        self, confidences: NDArray[np.float32], bodies_per_s: NDArray[np.float32], elapsed_s: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return how far from their places keypoints (P, 17) may be without having jumped, in body sizes; `bodies_per_s` is overwritten."""
        reach: NDArray[np.float32] = np.subtract(np.float32(1), confidences, out=self._rows.take("reach", *confidences.shape))
        np.maximum(reach, np.float32(_LEAST_DOUBT), out=reach)
        np.divide(np.float32(_NOISE) + np.float32(_ACCELERATION) * elapsed_s**2, reach, out=reach)
        bodies_per_s *= np.float32(_SPEED_REACH)
        bodies_per_s *= elapsed_s
        reach += bodies_per_s
        return reach


def _points(data: bytes) -> NDArray[np.float32]:
    return _floats(data).reshape(-1, 2)


def _floats(data: bytes) -> NDArray[np.float32]:
    floats: NDArray[np.float32] = np.frombuffer(data, np.float32).copy()
    return floats


def _gain(cutoff_hz: NDArray[np.float32] | np.float32, elapsed_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smoothing factor (alpha in the paper) of a first-order low-pass filter, 0 to 1."""
    angle = np.float32(2 * np.pi) * elapsed_s * cutoff_hz
    return np.asarray(angle / (angle + np.float32(1)), np.float32)
