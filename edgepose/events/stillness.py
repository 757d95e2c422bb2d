"""Detection of stillness after a fall. Keypoints are compared with one another, so camera motion does not count as movement.

For a lying person, the error of the network drifts slowly; real movement is faster. Positions are therefore compared with those of a
moment before, not with those at the beginning.
"""

from dataclasses import dataclass, field

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body, Point
from edgepose.events.evidence import Evidence
from edgepose.frame import NS_PER_S

_SHORT_MEAN_S = 0.3  # positions are averaged over this time, so that flicker does not count as movement ...
_LONG_MEAN_S = 2.0  # ... and compared with averages over this time
_MOVED = 0.2  # body sizes between both averages that count as movement ...
_MOVED_SHARE = 0.3  # ... for at least this share of the keypoints: every network misplaces a few
_MINIMUM_KEYPOINTS = 5  # visible keypoints

_Positions = dict[int, Point]  # by keypoint, in body sizes from the middle of the body


@dataclass(slots=True)
class StillnessHistory:
    """The analyzer's history of one person who has fallen, in observed time.

    Attributes:
        since_ns: last movement, None before the fall.
        last_ns: last frame with enough keypoints.
        short_mean, long_mean: positions averaged over a short and a long time.
        maximum_movement: largest movement since `since_ns`, in body sizes.
        reported: whether stillness was reported for this fall.
    """

    since_ns: int | None = None
    last_ns: int = 0
    short_mean: _Positions = field(default_factory=dict)
    long_mean: _Positions = field(default_factory=dict)
    maximum_movement: float = 0.0
    reported: bool = False


def detect_stillness(history: StillnessHistory, body: Body, now_ns: int, fallen: bool, settings: EventsConfig) -> Evidence | None:
    """Update the history with one frame and return evidence for `still`, once per fall."""
    if not fallen:
        history.since_ns, history.reported = None, False
        return None
    if len(body.points) < _MINIMUM_KEYPOINTS:
        return None
    movement = _movement(history, body, 0.0 if history.since_ns is None else (now_ns - history.last_ns) / NS_PER_S)
    history.last_ns = now_ns
    if history.since_ns is None or movement > _MOVED:
        history.since_ns, history.maximum_movement = now_ns, 0.0
        return None
    history.maximum_movement = max(history.maximum_movement, movement)
    still_s = (now_ns - history.since_ns) / NS_PER_S
    if history.reported or still_s < settings.still_after_s:
        return None
    history.reported = True
    score = 1 - 0.5 * history.maximum_movement / _MOVED
    return Evidence("still", history.since_ns, score, {"still_s": still_s, "moved_bodies": history.maximum_movement})


def _movement(history: StillnessHistory, body: Body, elapsed_s: float) -> float:
    """Update both averages and return their distance in body sizes, as the quantile of the keypoints that leaves `_MOVED_SHARE` out."""
    middle_x = sorted(x for x, _ in body.points.values())[len(body.points) // 2]
    middle_y = sorted(y for _, y in body.points.values())[len(body.points) // 2]
    distances = []
    for index, (x, y) in body.points.items():
        position = ((x - middle_x) / body.size, (y - middle_y) / body.size)
        short = history.short_mean[index] = _interpolate(history.short_mean.get(index, position), position, elapsed_s / _SHORT_MEAN_S)
        long = history.long_mean[index] = _interpolate(history.long_mean.get(index, position), position, elapsed_s / _LONG_MEAN_S)
        distances.append(max(abs(short[0] - long[0]), abs(short[1] - long[1])))
    return sorted(distances)[int(len(distances) * (1 - _MOVED_SHARE))]


def _interpolate(start: Point, end: Point, share: float) -> Point:
    share = min(1.0, share)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
