"""The view of a person: from straight above, where feet are below the head, what the person does cannot be told from the pose.

The length of a body in the frame, from shoulders to feet in body sizes, is 1 or more seen from the side, some 0.65 seen from 60 degrees
above, and less than 0.4 from straight above (measured on rendered people). It depends neither on the distance nor on the camera's roll.
"""

from dataclasses import dataclass

from edgepose.event import EventKind
from edgepose.events.body import Body
from edgepose.frame import NS_PER_S

UNDECIDABLE_KINDS: tuple[EventKind, ...] = ("fallen", "waving", "arms_up")
"""Kinds of events that cannot be told from straight above."""

_BEGINS_BELOW, _ENDS_ABOVE = 0.4, 0.5  # mean length in body sizes
_MEAN_S = 0.5
_CERTAIN_AFTER_S = 1.0


@dataclass(slots=True)
class ViewHistory:
    """The analyzer's history of one person, in observed time.

    Attributes:
        length: mean length of the body, None before the first pose.
        last_ns: last frame with the length.
        above_ns: since when the person is seen from above, None while not.
        counted: whether this view was counted.
    """

    length: float | None = None
    last_ns: int = 0
    above_ns: int | None = None
    counted: bool = False


def begins_from_above(history: ViewHistory, body: Body, now_ns: int, fallen: bool) -> bool:
    """Update the history with one frame, and return once for each time that the person comes to be seen from above.

    Args:
        history: of the person.
        body: of the person.
        now_ns: observed time.
        fallen: whether the person has fallen, maybe along the view; the body is short then, too.
    """
    if body.length is None:
        return False
    share = 1.0 if history.length is None else min(1.0, (now_ns - history.last_ns) / NS_PER_S / _MEAN_S)
    history.length = body.length if history.length is None else history.length + share * (body.length - history.length)
    history.last_ns = now_ns
    if fallen or history.length > _ENDS_ABOVE:
        history.above_ns, history.counted = None, False
    elif history.length < _BEGINS_BELOW and history.above_ns is None:
        history.above_ns = now_ns
    if history.above_ns is None or history.counted or now_ns - history.above_ns < _CERTAIN_AFTER_S * NS_PER_S:
        return False
    history.counted = True
    return True
