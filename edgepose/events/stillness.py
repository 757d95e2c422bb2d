"""Whether somebody who has fallen moves: keypoints against one another, so that a camera in flight does not count as movement.

A network's error of somebody who lies wanders about slowly; who moves is faster. So places are compared with where they were a moment
before, not with where they were when all began.
"""

from dataclasses import dataclass, field

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body, Point
from edgepose.events.evidence import Evidence, S

_STEADY_S = 0.3  # places are averaged over so long, so that flicker does not count as movement ...
_BEFORE_S = 2.0  # ... and compared with averages over so long
_MOVED = 0.2  # body sizes that keypoints must be away from there ...
_MOVED_SHARE = 0.3  # ... and the share of them that must: a few go astray in every network
_FEWEST = 5  # keypoints to be seen

_Places = dict[int, Point]  # by keypoint, in body sizes from the middle of the body


@dataclass(slots=True)
class StillMemory:
    """What is remembered of one person who has fallen; times in nanoseconds."""

    since: int | None = None
    at: int = 0
    steady: _Places = field(default_factory=dict)
    before: _Places = field(default_factory=dict)
    most_moved: float = 0.0  # since then, body sizes
    said: bool = False


def still(memory: StillMemory, body: Body, now: int, fallen: bool, settings: EventsConfig) -> Evidence | None:
    """Takes in one moment of one person; `still` once a fall."""
    if not fallen:
        memory.since, memory.said = None, False
        return None
    if len(body.points) < _FEWEST:
        return None
    moved = _moved(memory, body, 0.0 if memory.since is None else (now - memory.at) / S)
    memory.at = now
    if memory.since is None or moved > _MOVED:
        memory.since, memory.most_moved = now, 0.0
        return None
    memory.most_moved = max(memory.most_moved, moved)
    still_s = (now - memory.since) / S
    if memory.said or still_s < settings.still_after_s:
        return None
    memory.said = True
    score = 1 - 0.5 * memory.most_moved / _MOVED
    return Evidence("still", memory.since, score, {"still_s": still_s, "moved_bodies": memory.most_moved})


def _moved(memory: StillMemory, body: Body, elapsed_s: float) -> float:
    """How far keypoints are from where they were a moment before, in body sizes: the farthest few left out."""
    middle_x = sorted(x for x, _ in body.points.values())[len(body.points) // 2]
    middle_y = sorted(y for _, y in body.points.values())[len(body.points) // 2]
    moves = []
    for index, (x, y) in body.points.items():
        place = ((x - middle_x) / body.size, (y - middle_y) / body.size)
        steady = memory.steady[index] = _towards(memory.steady.get(index, place), place, elapsed_s / _STEADY_S)
        before = memory.before[index] = _towards(memory.before.get(index, place), place, elapsed_s / _BEFORE_S)
        moves.append(max(abs(steady[0] - before[0]), abs(steady[1] - before[1])))
    return sorted(moves)[int(len(moves) * (1 - _MOVED_SHARE))]


def _towards(place: Point, to: Point, share: float) -> Point:
    share = min(1.0, share)
    return place[0] + share * (to[0] - place[0]), place[1] + share * (to[1] - place[1])
