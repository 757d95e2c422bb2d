"""Detection of falls: from standing to lying faster than people lie down on purpose, measured by heights above the feet.

Heights are measured above a person's own feet, relative to their heights when the person stood. They depend neither on the distance nor
on the pitch of the camera, and a camera that turns or flies moves both ends alike. Seen from straight above, nobody stands upright in
the frame, so no fall is detected (`edgepose.events.view` counts that). From some 50 degrees or more above, who falls away from the
camera becomes longer in the frame, and from less than that shorter without being low, which counts only with arms that are spread: a
crouch looks alike otherwise. A fall from a chair produces no event.
"""

import math
from dataclasses import dataclass

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body
from edgepose.events.evidence import Evidence, strength
from edgepose.frame import NS_PER_S

_STANDING_MAXIMUM_TILT_DEG = 25.0  # of the trunk, ...
_STEEP_TILT_DEG = 10.0  # ... and this much more from 60 degrees above, where people at the sides of the frame lean outwards
_STANDING_MINIMUM_LEGS = 1.2  # length of the legs over that of the trunk: 1.8 standing, 1 on a chair seen from the front ...
_STEEP_SHORTER_LEGS = 0.25  # ... and this much less from 60 degrees above, where the nearer trunk looks longer
_STANDING_MAXIMUM_LEGS = 2.7  # who bends down or crouches has a short trunk, seen from above
_STANDING_S = 0.3  # net time of standing after which the heights are known ...
_STANDING_CREDIT_S = 0.5  # ... and its upper limit: a falling person ceases to stand soon
_HEIGHT_TIME_CONSTANT_S = 0.5
_SPREADING = 0.25  # of the filter's speed, for a box that becomes wider
_LYING_SHOULDERS = 0.35  # height of the shoulders over that when standing: 0.7 on a chair, 0.5 picking something up
_LYING_HIPS = 0.35  # height of the hips over that of the shoulders when standing: 0.65 standing or bending over
_LYING_TILT_DEG = 50.0  # either this tilt of the trunk or, along the line of sight, ...
_LYING_TRUNK = 0.5  # ... a trunk of at most half its length
_LEVEL = 0.8  # of a camera that looked at the standing body (`Body.length`) from less than some 50 degrees above
_LYING_BOX = 0.45  # alternatively, a box of at most this share of its standing height ...
_LYING_ASPECT = 1.3  # ... and at least this ratio of width to height: 0.7 picking something up
_SUNK_HIPS, _ASIDE_ASPECT, _ASIDE_WIDER = 0.8, 1.15, 1.7  # hips over those when standing, width over height, and over that when standing
_ASIDE_SHARE = 0.6  # of the time of a fall, until the trunk is tilted so far
_LOW_BOX, _WIDE_BOX = 0.6, 1.4  # without a pose: share of the standing height, and width over the standing width and over the height
_SITTING_TILT_DEG = 35.0  # a trunk that is more upright belongs to a person who sits on the ground
_STEEP = 0.5  # `Body.steepness` from which people who fall away from the camera become longer: 45 degrees above
_GROWING, _LONGER = 1.2, 1.45  # height and trunk over those when standing: not standing any more, and lying ...
_WIDER = 1.2  # ... with arms that are not at the sides: who rises from a crouch becomes longer, too
_SHORTER, _MUCH_WIDER = 0.77, 1.3  # height, trunk and legs, and width of the box, of who falls away from a camera at half height
_MAXIMUM_STEP_S = 0.5  # upper limit for one frame, after frames without the person
_SEEN_S, _UNSEEN_S = 0.25, 1.0  # longest time between frames that see a person, and of the time without, how much does not count for a fall
_CERTAIN_S = 0.4  # a fall of at most this duration has the score 1


@dataclass(slots=True)
class FallHistory:
    """The analyzer's history of one person; times are observed time, lengths are in pixels.

    Attributes:
        standing_s: net time of standing: seconds of standing less seconds of not standing.
        last_standing_ns: last frame of standing for long enough, None before the first.
        height_px, hip_height_px: height of the shoulders and of the hips above the feet when standing.
        trunk_px, size_px, box_width_px, box_height_px: length of the trunk, body size and box when standing.
        length: `Body.length` when standing.
        steepness: the smallest when standing: who crouches looks like one who stands and is seen from above.
        last: time and height of the shoulders in the last frame.
        maximum_speed: highest downward speed since standing, in body sizes per second.
        down_s: duration from standing to lying, None until the person lies.
        lying_s: net time of lying since; networks know few lying people and lose them often.
        fallen: whether a fall was reported and the person has not stood up since.
    """

    standing_s: float = 0.0
    last_standing_ns: int | None = None
    height_px: float = 0.0
    hip_height_px: float = 0.0
    trunk_px: float = 0.0
    size_px: float = 1.0
    box_width_px: float = 0.0
    box_height_px: float = 0.0
    length: float = 0.0
    steepness: float = 1.0
    last: tuple[int, float] | None = None
    maximum_speed: float = 0.0
    down_s: float | None = None
    lying_s: float = 0.0
    fallen: bool = False

    @property
    def lies(self) -> bool:
        """Whether the person fell, or lies after standing, on balance."""
        return self.fallen or self.lying_s > 0


def detect_fall(history: FallHistory, body: Body, now_ns: int, settings: EventsConfig) -> Evidence | None:
    """Update the history with one frame and return evidence for `fallen`, once per fall; the next fall requires standing up first."""
    shoulders, hips, feet = body.shoulders, body.hips, body.feet
    if shoulders is None or hips is None or feet is None:
        if not _lies_by_box(history, body):
            return None
        elapsed_s = _elapsed_s(history, now_ns)
        history.standing_s = max(0.0, history.standing_s - elapsed_s)
        history.last = (now_ns, 0.0 if history.last is None else history.last[1])
        return _lie(history, elapsed_s, now_ns, settings, {"aspect": _aspect(body)})
    height, hip_height = feet[1] - shoulders[1], feet[1] - hips[1]
    across, up = shoulders[0] - hips[0], hips[1] - shoulders[1]
    trunk, tilt = math.hypot(across, up), math.degrees(math.atan2(abs(across), up))  # 0 upright, 90 lying, 180 head down
    left, top, right, bottom = body.box
    grown, width = _grown(history, height, hip_height, trunk), right - left
    shrunk = _shrunk(history, height, hip_height, trunk) and width >= _MUCH_WIDER * history.box_width_px
    stands = tilt <= _STANDING_MAXIMUM_TILT_DEG + _STEEP_TILT_DEG * body.steepness and height > 0 and not body.foreshortened
    stands &= (_STANDING_MINIMUM_LEGS - _STEEP_SHORTER_LEGS * body.steepness) * trunk <= hip_height <= _STANDING_MAXIMUM_LEGS * trunk
    if stands and not ((grown > _GROWING or shrunk) and _may_be_falling(history, now_ns, settings)):
        _update_standing(history, body, (height, hip_height, trunk), now_ns)
        return None
    elapsed_s = _elapsed_s(history, now_ns)
    history.standing_s = max(0.0, history.standing_s - elapsed_s)
    if history.last_standing_ns is None:
        history.last = (now_ns, height)
        return None
    if history.last is not None and elapsed_s > 0:
        history.maximum_speed = max(history.maximum_speed, (history.last[1] - height) / history.size_px / elapsed_s)
    history.last = (now_ns, height)
    aspect = _aspect(body)
    low = height <= _LYING_SHOULDERS * history.height_px and hip_height <= _LYING_HIPS * history.height_px
    along_view = trunk <= _LYING_TRUNK * history.trunk_px and history.length >= _LEVEL  # not a person whom the camera is coming above
    lying = low and (along_view or (tilt >= _LYING_TILT_DEG and not body.foreshortened))
    lying |= shrunk or (grown >= _LONGER and width >= _WIDER * history.box_width_px)
    lying |= bottom - top <= _LYING_BOX * history.box_height_px and aspect >= _LYING_ASPECT and tilt > _SITTING_TILT_DEG
    aside = not lying and _lies_aside(history, hip_height, tilt, body)
    if not (lying or aside):
        history.lying_s = max(0.0, history.lying_s - min(elapsed_s, _MAXIMUM_STEP_S))
        return None
    measurements = {"tilt_deg": tilt, "height_ratio": height / history.height_px, "aspect": aspect}
    return _lie(history, elapsed_s, now_ns, settings, measurements, _ASIDE_SHARE if aside else 1.0)


def _lie(
    history: FallHistory,
    elapsed_s: float,
    now_ns: int,
    settings: EventsConfig,
    measurements: dict[str, float],
    share: float = 1.0,
) -> Evidence | None:
    """Update the history with a frame in which the person lies, and return the evidence once that lasts.

    Args:
        elapsed_s: time since the frame before that saw the person.
        measurements: of this frame.
        share: of a whole fall that is over when this way of lying begins.
    """
    if history.down_s is None:
        unseen_s = min(_UNSEEN_S, max(0.0, elapsed_s - _SEEN_S))  # networks lose people who fall
        history.down_s = ((now_ns - (history.last_standing_ns or now_ns)) / NS_PER_S - unseen_s) / share
    else:
        history.lying_s += min(elapsed_s, _MAXIMUM_STEP_S)
    if history.fallen or history.down_s > settings.fall_within_s or history.lying_s < settings.fallen_after_s:
        return None
    history.fallen = True
    return Evidence(
        "fallen",
        since_ns=history.last_standing_ns or now_ns,
        score=strength(history.down_s, settings.fall_within_s, min(_CERTAIN_S, settings.fall_within_s / 2)),
        measurements={"down_s": history.down_s, "lying_s": history.lying_s, "speed_bodies_per_s": history.maximum_speed, **measurements},
    )


def _lies_aside(history: FallHistory, hip_height: float, tilt: float, body: Body) -> bool:
    """Return whether the body lies across the frame and away from a camera at half height, where shoulders and hips are not low."""
    left, _, right, _ = body.box
    sunk = hip_height <= _SUNK_HIPS * history.hip_height_px  # not somebody who bends over
    return sunk and tilt >= _LYING_TILT_DEG and _aspect(body) >= _ASIDE_ASPECT and right - left >= _ASIDE_WIDER * history.box_width_px


def _lies_by_box(history: FallHistory, body: Body) -> bool:
    """Return whether the box of a person whose trunk or feet are not visible says that they lie: low, and wider than it was.

    Networks know few lying people and doubt their keypoints. A person whose legs are hidden has a low box that is no wider.
    """
    if history.last_standing_ns is None:
        return False
    left, top, right, bottom = body.box
    width, height = right - left, bottom - top
    low = height <= _LOW_BOX * history.box_height_px
    return low and width >= _WIDE_BOX * max(history.box_width_px, height)


def _elapsed_s(history: FallHistory, now_ns: int) -> float:
    """Return the time since the last frame that told a height or a lying box."""
    return 0.0 if history.last is None else max(0.0, (now_ns - history.last[0]) / NS_PER_S)


def _aspect(body: Body) -> float:
    left, top, right, bottom = body.box
    return (right - left) / max(1.0, bottom - top)


def _grown(history: FallHistory, height: float, hip_height: float, trunk: float) -> float:
    """Return how many times longer the body is than when it stood, seen from far above; 1 otherwise."""
    if history.last_standing_ns is None or history.steepness < _STEEP:
        return 1.0
    return min(height / history.height_px, hip_height / history.hip_height_px, trunk / history.trunk_px)


def _shrunk(history: FallHistory, height: float, hip_height: float, trunk: float) -> bool:
    """Return whether the whole body is shorter than when it stood, trunk and legs alike."""
    if history.last_standing_ns is None:
        return False
    return max(height / history.height_px, hip_height / history.hip_height_px, trunk / history.trunk_px) <= _SHORTER


def _may_be_falling(history: FallHistory, now_ns: int, settings: EventsConfig) -> bool:
    """Return whether somebody who is longer may be falling or lying; later, it was the heights that were wrong."""
    since_s = (now_ns - (history.last_standing_ns or 0)) / NS_PER_S
    return history.fallen or since_s <= settings.fall_within_s + 2 * settings.fallen_after_s


def _update_standing(history: FallHistory, body: Body, lengths: tuple[float, float, float], now_ns: int) -> None:
    """Update the history with a frame in which the person stands; `lengths` as of the history follow with a low-pass filter."""
    width, box_height = body.box[2] - body.box[0], body.box[3] - body.box[1]
    elapsed_s = _elapsed_s(history, now_ns)
    first = history.standing_s == 0 and (history.last_standing_ns is None or _grown(history, *lengths) > _GROWING)
    share = 1.0 if first else min(1.0, elapsed_s / _HEIGHT_TIME_CONSTANT_S)
    history.standing_s = min(_STANDING_CREDIT_S, history.standing_s + min(elapsed_s, _MAXIMUM_STEP_S / 2))
    history.height_px += share * (lengths[0] - history.height_px)
    history.hip_height_px += share * (lengths[1] - history.hip_height_px)
    history.trunk_px += share * (lengths[2] - history.trunk_px)
    history.size_px += share * (body.size - history.size_px)
    wider = not first and width > history.box_width_px  # arms spread while falling
    history.box_width_px += (_SPREADING if wider else 1.0) * share * (width - history.box_width_px)
    history.length += share * ((body.length or 0.0) - history.length)
    history.box_height_px += share * (box_height - history.box_height_px)
    history.last = (now_ns, lengths[0])
    history.steepness = min(history.steepness, body.steepness)
    if history.standing_s >= _STANDING_S:
        history.last_standing_ns, history.maximum_speed = now_ns, 0.0
        history.down_s, history.lying_s, history.fallen = None, 0.0, False
