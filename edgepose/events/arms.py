"""Detection of raised arms: both wrists above the head for some time."""

from dataclasses import dataclass

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body
from edgepose.events.evidence import Evidence, strength
from edgepose.frame import NS_PER_S

_MAXIMUM_GAP_S = 0.3  # the arms may be lowered, or not detected, for this long
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
    left, right = body.wrists
    up = left is not None and right is not None and body.head_top is not None and body.upright and max(left[1], right[1]) < body.head_top
    if not up:
        if now_ns - history.last_up_ns > _MAXIMUM_GAP_S * NS_PER_S:
            history.since_ns = None
        return None
    history.last_up_ns = now_ns
    if history.since_ns is None:
        history.since_ns = now_ns
    duration_s = (now_ns - history.since_ns) / NS_PER_S
    if duration_s < settings.arms_up_after_s:
        return None
    assert left is not None
    assert right is not None
    assert body.head_top is not None
    above = (body.head_top - max(left[1], right[1])) / body.size
    score = strength(duration_s, settings.arms_up_after_s, _CERTAIN_FACTOR * settings.arms_up_after_s)
    return Evidence("arms_up", history.since_ns, score, {"duration_s": duration_s, "above_head_bodies": above})
