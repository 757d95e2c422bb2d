"""Detection of raised arms: both wrists above the head for some time.

Seen from above, raised arms lie lower in the frame: arms that are held a little to the front end beside the head. There, wrists near the
head count if the elbows are not far below the shoulders either.
"""

from dataclasses import dataclass

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body
from edgepose.events.evidence import Evidence, strength
from edgepose.frame import NS_PER_S

_MAXIMUM_GAP_S = 0.3  # the arms may be lowered, or not detected, for this long
_STEEP_WRISTS, _STEEP_ELBOWS = 0.3, 0.12  # body sizes below the head and the shoulders, from 60 degrees above
_ELBOW_NOISE = 0.1  # body sizes
_CERTAIN_FACTOR = 3.0  # multiple of `arms_up_after_s` from which the score is 1


@dataclass(slots=True)
class ArmsHistory:
    """The analyzer's history of one person, in observed time.

    Attributes:
        since_ns: when the arms were raised, None while they are down.
        last_up_ns: last frame in which the arms were up.
    """

    since_ns: int | None = None
    last_up_ns: int = 0


def detect_arms_up(history: ArmsHistory, body: Body, now_ns: int, settings: EventsConfig) -> Evidence | None:
    """Update the history with one frame and return evidence for `arms_up` in every frame in which it is complete."""
    above = _above_head(body)
    if above is None:
        if now_ns - history.last_up_ns > _MAXIMUM_GAP_S * NS_PER_S:
            history.since_ns = None
        return None
    history.last_up_ns = now_ns
    if history.since_ns is None:
        history.since_ns = now_ns
    duration_s = (now_ns - history.since_ns) / NS_PER_S
    if duration_s < settings.arms_up_after_s:
        return None
    score = strength(duration_s, settings.arms_up_after_s, _CERTAIN_FACTOR * settings.arms_up_after_s)
    return Evidence("arms_up", history.since_ns, score, {"duration_s": duration_s, "above_head_bodies": above})


def _above_head(body: Body) -> float | None:
    """Return how far the lower wrist is above the head in body sizes, as far as the view shows it; None if the arms are not raised."""
    left, right = body.wrists
    if left is None or right is None or body.head_top is None or not body.upright:
        return None
    above = (body.head_top - max(left[1], right[1])) / body.size
    if above <= -_STEEP_WRISTS * body.steepness:
        return None
    assert body.shoulders is not None
    lowest = max((elbow[1] for elbow in body.elbows if elbow is not None), default=body.shoulders[1])
    return above if (lowest - body.shoulders[1]) / body.size < _STEEP_ELBOWS * body.steepness + _ELBOW_NOISE else None
