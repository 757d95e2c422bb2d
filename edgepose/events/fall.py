"""Detection of falls: from standing to lying faster than people lie down on purpose, measured by heights above the feet.

Heights are measured above a person's own feet, relative to their heights when the person stood. They depend neither on the distance nor
on the pitch of the camera, and a camera that turns or flies moves both ends alike. Seen from straight above, nobody stands upright in
the frame, so no fall is detected: a case that cannot be decided produces no event. The same holds for a fall along the line of sight of
a camera far above, and for a fall from a chair.
"""

import math
from dataclasses import dataclass

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body
from edgepose.events.evidence import Evidence, strength
from edgepose.frame import NS_PER_S

_STANDING_MAXIMUM_TILT_DEG = 25.0  # of the trunk
_STANDING_MINIMUM_LEGS = 1.2  # length of the legs over that of the trunk: 1.8 standing, 1 on a chair seen from the front
_STANDING_S = 0.4  # net time of standing after which the heights are known ...
_STANDING_CREDIT_S = 0.5  # ... and its upper limit: a falling person ceases to stand soon
_HEIGHT_TIME_CONSTANT_S = 0.5
_LYING_SHOULDERS = 0.35  # height of the shoulders over that when standing: 0.7 on a chair, 0.5 picking something up
_LYING_HIPS = 0.35  # height of the hips over that of the shoulders when standing: 0.65 standing or bending over
_LYING_TILT_DEG = 50.0  # either this tilt of the trunk or, along the line of sight, ...
_LYING_TRUNK = 0.5  # ... a trunk of at most half its length
_LYING_BOX = 0.45  # alternatively, a box of at most this share of its standing height ...
_LYING_ASPECT = 1.3  # ... and at least this ratio of width to height: 0.7 picking something up
_SITTING_TILT_DEG = 35.0  # a trunk that is more upright belongs to a person who sits on the ground
_MAXIMUM_STEP_S = 0.5  # upper limit for one frame, after frames without the person
_CERTAIN_S = 0.4  # a fall of at most this duration has the score 1


@dataclass(slots=True)
class FallHistory:
    """The analyzer's history of one person; times are observed time, lengths are in pixels.

    Attributes:
        standing_s: net time of standing: seconds of standing less seconds of not standing.
        last_standing_ns: last frame of standing for long enough, None before the first.
        height_px: height of the shoulders above the feet when standing.
        trunk_px, size_px, box_height_px: length of the trunk, body size and height of the box when standing.
        last: time and height of the shoulders in the last frame.
        maximum_speed: highest downward speed since standing, in body sizes per second.
        down_s: duration from standing to lying, None until the person lies.
        lying_s: net time of lying since; networks know few lying people and lose them often.
        fallen: whether a fall was reported and the person has not stood up since.
    """

    standing_s: float = 0.0
    last_standing_ns: int | None = None
    height_px: float = 0.0
    trunk_px: float = 0.0
    size_px: float = 1.0
    box_height_px: float = 0.0
    last: tuple[int, float] | None = None
    maximum_speed: float = 0.0
    down_s: float | None = None
    lying_s: float = 0.0
    fallen: bool = False


def detect_fall(history: FallHistory, body: Body, now_ns: int, settings: EventsConfig) -> Evidence | None:
    """Update the history with one frame and return evidence for `fallen`, once per fall; the next fall requires standing up first."""
    shoulders, hips, feet = body.shoulders, body.hips, body.feet
    if shoulders is None or hips is None or feet is None:
        return None
    height, hip_height = feet[1] - shoulders[1], feet[1] - hips[1]
    across, up = shoulders[0] - hips[0], hips[1] - shoulders[1]
    trunk, tilt = math.hypot(across, up), math.degrees(math.atan2(abs(across), up))  # 0 upright, 90 lying, 180 head down
    if tilt <= _STANDING_MAXIMUM_TILT_DEG and hip_height >= _STANDING_MINIMUM_LEGS * trunk and height > 0:
        _update_standing(history, body, height, trunk, now_ns)
        return None
    elapsed_s = 0.0 if history.last is None else max(0.0, (now_ns - history.last[0]) / NS_PER_S)
    history.standing_s = max(0.0, history.standing_s - elapsed_s)
    if history.last_standing_ns is None:
        history.last = (now_ns, height)
        return None
    if history.last is not None and elapsed_s > 0:
        history.maximum_speed = max(history.maximum_speed, (history.last[1] - height) / history.size_px / elapsed_s)
    history.last = (now_ns, height)
    left, top, right, bottom = body.box
    aspect = (right - left) / max(1.0, bottom - top)
    low = height <= _LYING_SHOULDERS * history.height_px and hip_height <= _LYING_HIPS * history.height_px
    lying = low and (tilt >= _LYING_TILT_DEG or trunk <= _LYING_TRUNK * history.trunk_px)
    lying |= bottom - top <= _LYING_BOX * history.box_height_px and aspect >= _LYING_ASPECT and tilt > _SITTING_TILT_DEG
    if not lying:
        history.lying_s = max(0.0, history.lying_s - min(elapsed_s, _MAXIMUM_STEP_S))
        return None
    if history.down_s is None:
        history.down_s = (now_ns - history.last_standing_ns) / NS_PER_S
    else:
        history.lying_s += min(elapsed_s, _MAXIMUM_STEP_S)
    if history.fallen or history.down_s > settings.fall_within_s or history.lying_s < settings.fallen_after_s:
        return None
    history.fallen = True
    return Evidence(
        "fallen",
        since_ns=history.last_standing_ns,
        score=strength(history.down_s, settings.fall_within_s, min(_CERTAIN_S, settings.fall_within_s / 2)),
        measurements={
            "down_s": history.down_s,
            "lying_s": history.lying_s,
            "speed_bodies_per_s": history.maximum_speed,
            "tilt_deg": tilt,
            "height_ratio": height / history.height_px,
            "aspect": aspect,
        },
    )


def _update_standing(history: FallHistory, body: Body, height: float, trunk: float, now_ns: int) -> None:
    """Update the history with a frame in which the person stands; the heights follow with a low-pass filter."""
    if history.standing_s == 0 and history.last_standing_ns is None:
        history.height_px, history.trunk_px, history.size_px = height, trunk, body.size
        history.box_height_px = body.box[3] - body.box[1]
    elapsed_s = 0.0 if history.last is None else max(0.0, (now_ns - history.last[0]) / NS_PER_S)
    history.standing_s = min(_STANDING_CREDIT_S, history.standing_s + min(elapsed_s, _MAXIMUM_STEP_S / 2))
    share = min(1.0, elapsed_s / _HEIGHT_TIME_CONSTANT_S)
    history.height_px += share * (height - history.height_px)
    history.trunk_px += share * (trunk - history.trunk_px)
    history.size_px += share * (body.size - history.size_px)
    history.box_height_px += share * (body.box[3] - body.box[1] - history.box_height_px)
    history.last = (now_ns, height)
    if history.standing_s >= _STANDING_S:
        history.last_standing_ns, history.maximum_speed = now_ns, 0.0
        history.down_s, history.lying_s, history.fallen = None, 0.0, False
