"""Arms up: both wrists above the head for a while."""

from dataclasses import dataclass

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body
from edgepose.events.evidence import Evidence, S, clarity

_FLICKER_S = 0.3  # arms may be seen elsewhere, or not at all, for so long
_CERTAIN = 3.0  # times `arms_up_after_s`


@dataclass(slots=True)
class ArmsMemory:
    """Since when, and when last, the arms were up."""

    since: int | None = None
    at: int = 0


def arms_up(memory: ArmsMemory, body: Body, now: int, settings: EventsConfig) -> Evidence | None:
    """Takes in one moment of one person; `arms_up` in every frame in which the evidence is complete."""
    left, right = body.wrists
    up = left is not None and right is not None and body.head_top is not None and body.upright and max(left[1], right[1]) < body.head_top
    if not up:
        if now - memory.at > _FLICKER_S * S:
            memory.since = None
        return None
    memory.at = now
    if memory.since is None:
        memory.since = now
    duration_s = (now - memory.since) / S
    if duration_s < settings.arms_up_after_s:
        return None
    assert left is not None
    assert right is not None
    assert body.head_top is not None
    above = (body.head_top - max(left[1], right[1])) / body.size
    score = clarity(duration_s, settings.arms_up_after_s, _CERTAIN * settings.arms_up_after_s)
    return Evidence("arms_up", memory.since, score, {"duration_s": duration_s, "above_head_bodies": above})
