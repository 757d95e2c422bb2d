"""Falls: from standing to lying faster than anybody lies down, told by heights above the feet.

Heights above a person's own feet, measured by what they were when the person stood, know neither the distance nor how far a camera
looks down, and a camera that turns or flies moves both ends alike. From straight above nobody stands upright in the picture, so nobody
falls either: what cannot be decided is passed over in silence. The same holds for somebody who falls along a view from far above, and
for somebody who falls from a chair.
"""

import math
from dataclasses import dataclass

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body
from edgepose.events.evidence import Evidence, S, clarity

_STANDS_TILT_DEG = 25.0  # of the trunk
_STANDS_LEGS = 1.2  # least length of the legs by the trunk's: 1.8 for one who stands, 1 on a chair seen from the front
_STOOD_S = 0.4  # how long somebody must have stood, on balance, for heights to be known ...
_STOOD_AT_MOST_S = 0.5  # ... and how much of it counts: who falls does not stand any more soon after
_HEIGHT_MEMORY_S = 0.5
_LIES_SHOULDERS = 0.35  # height of the shoulders by what it was: 0.7 on a chair, 0.5 picking something up
_LIES_HIPS = 0.35  # of the hips by the shoulders' when standing: 0.65 standing or bending over
_LIES_TILT_DEG = 50.0  # or, along the view, ...
_LIES_TRUNK = 0.5  # ... a trunk of at most half its length
_LIES_BOX = 0.45  # or a box of at most so much of its height ...
_LIES_ASPECT = 1.3  # ... and so much wider than high: 0.7 picking something up
_SITS_TILT_DEG = 35.0  # a trunk that is more upright sits on the ground
_STEP_S = 0.5  # most that one frame may count for, after frames without the person
_CERTAIN_S = 0.4  # a fall in so little is beyond doubt


@dataclass(slots=True)
class FallMemory:
    """What is remembered of one person; times in nanoseconds, heights in pixels."""

    stands_s: float = 0.0  # seconds of standing, less those of not standing
    stood_at: int | None = None  # last seen standing for long enough
    height: float = 0.0  # of the shoulders above the feet, standing
    trunk: float = 0.0
    size: float = 1.0
    box_height: float = 0.0
    last: tuple[int, float] | None = None  # time and height of the shoulders
    fastest: float = 0.0  # body sizes a second downwards since standing
    down_s: float | None = None  # from standing to lying, once somebody does
    lying_s: float = 0.0  # seconds of lying since, less those of not lying: networks know few people who lie
    fallen: bool = False


def fall(memory: FallMemory, body: Body, now: int, settings: EventsConfig) -> Evidence | None:
    """Takes in one moment of one person; `fallen` once a fall, and again only after the person has stood up."""
    shoulders, hips, feet = body.shoulders, body.hips, body.feet
    if shoulders is None or hips is None or feet is None:
        return None
    height, hip_height = feet[1] - shoulders[1], feet[1] - hips[1]
    across, up = shoulders[0] - hips[0], hips[1] - shoulders[1]
    trunk, tilt = math.hypot(across, up), math.degrees(math.atan2(abs(across), up))  # 0 upright, 90 lying, 180 head down
    if tilt <= _STANDS_TILT_DEG and hip_height >= _STANDS_LEGS * trunk and height > 0:
        _stands(memory, body, height, trunk, now)
        return None
    elapsed_s = 0.0 if memory.last is None else max(0.0, (now - memory.last[0]) / S)
    memory.stands_s = max(0.0, memory.stands_s - elapsed_s)
    if memory.stood_at is None:
        memory.last = (now, height)
        return None
    if memory.last is not None and elapsed_s > 0:
        memory.fastest = max(memory.fastest, (memory.last[1] - height) / memory.size / elapsed_s)
    memory.last = (now, height)
    left, top, right, bottom = body.box
    aspect = (right - left) / max(1.0, bottom - top)
    low = height <= _LIES_SHOULDERS * memory.height and hip_height <= _LIES_HIPS * memory.height
    lies = low and (tilt >= _LIES_TILT_DEG or trunk <= _LIES_TRUNK * memory.trunk)
    lies |= bottom - top <= _LIES_BOX * memory.box_height and aspect >= _LIES_ASPECT and tilt > _SITS_TILT_DEG
    if not lies:
        memory.lying_s = max(0.0, memory.lying_s - min(elapsed_s, _STEP_S))
        return None
    if memory.down_s is None:
        memory.down_s = (now - memory.stood_at) / S
    else:
        memory.lying_s += min(elapsed_s, _STEP_S)
    if memory.fallen or memory.down_s > settings.fall_within_s or memory.lying_s < settings.fallen_after_s:
        return None
    memory.fallen = True
    return Evidence(
        "fallen",
        since=memory.stood_at,
        score=clarity(memory.down_s, settings.fall_within_s, min(_CERTAIN_S, settings.fall_within_s / 2)),
        evidence={
            "down_s": memory.down_s,
            "lying_s": memory.lying_s,
            "speed_bodies_per_s": memory.fastest,
            "tilt_deg": tilt,
            "height_ratio": height / memory.height,
            "aspect": aspect,
        },
    )


def _stands(memory: FallMemory, body: Body, height: float, trunk: float, now: int) -> None:
    if memory.stands_s == 0 and memory.stood_at is None:
        memory.height, memory.trunk, memory.size = height, trunk, body.size
        memory.box_height = body.box[3] - body.box[1]
    elapsed_s = 0.0 if memory.last is None else max(0.0, (now - memory.last[0]) / S)
    memory.stands_s = min(_STOOD_AT_MOST_S, memory.stands_s + min(elapsed_s, _STEP_S / 2))
    share = min(1.0, elapsed_s / _HEIGHT_MEMORY_S)
    memory.height += share * (height - memory.height)
    memory.trunk += share * (trunk - memory.trunk)
    memory.size += share * (body.size - memory.size)
    memory.box_height += share * (body.box[3] - body.box[1] - memory.box_height)
    memory.last = (now, height)
    if memory.stands_s >= _STOOD_S:
        memory.stood_at, memory.fastest = now, 0.0
        memory.down_s, memory.lying_s, memory.fallen = None, 0.0, False
