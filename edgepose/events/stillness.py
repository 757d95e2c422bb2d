"""Whether somebody who has fallen moves: keypoints against one another, so that a camera in flight does not count as movement."""

from dataclasses import dataclass, field

from edgepose.config import Events
from edgepose.events.body import Body, Point
from edgepose.events.moment import Finding, S

_STEADY_S = 0.5  # keypoints are averaged over so long, so that their flicker does not count as movement either
_MOVED = 0.25  # body sizes that keypoints must go ...
_MOVED_SHARE = 0.4  # ... and the share of them that must: a few go astray in every network
_FEWEST = 5  # keypoints to be seen
_CERTAIN = 3.0  # times `still_after_s` after which nobody doubts


@dataclass(slots=True)
class StillMemory:
    """What is remembered of one person who has fallen; places in body sizes from the middle of the body."""

    since: int | None = None
    at: int = 0
    steady: dict[int, Point] = field(default_factory=dict)
    anchor: dict[int, Point] = field(default_factory=dict)  # where they were when the stillness began
    said: bool = False


def still(memory: StillMemory, body: Body, now: int, fallen: bool, settings: Events) -> Finding | None:
    """Takes in one moment of one person; `still` once a fall."""
    if not fallen:
        memory.since, memory.said = None, False
        return None
    if len(body.points) < _FEWEST:
        return None
    middle_x = sorted(x for x, _ in body.points.values())[len(body.points) // 2]
    middle_y = sorted(y for _, y in body.points.values())[len(body.points) // 2]
    share = 1.0 if memory.since is None else min(1.0, (now - memory.at) / S / _STEADY_S)
    for index, (x, y) in body.points.items():
        place = ((x - middle_x) / body.size, (y - middle_y) / body.size)
        before = memory.steady.get(index, place)
        memory.steady[index] = (before[0] + share * (place[0] - before[0]), before[1] + share * (place[1] - before[1]))
    memory.at = now
    moves = [
        max(abs(place[0] - memory.anchor[index][0]), abs(place[1] - memory.anchor[index][1]))
        for index, place in memory.steady.items()
        if index in memory.anchor
    ]
    farthest = sorted(moves)[int(len(moves) * (1 - _MOVED_SHARE))] if moves else 0.0
    if memory.since is None or farthest > _MOVED:
        memory.since, memory.anchor = now, dict(memory.steady)
        return None
    for index, place in memory.steady.items():
        memory.anchor.setdefault(index, place)
    still_s = (now - memory.since) / S
    if memory.said or still_s < settings.still_after_s:
        return None
    memory.said = True
    return Finding("still", memory.since, 1 - 0.5 * farthest / _MOVED, {"still_s": still_s, "moved_bodies": farthest})
