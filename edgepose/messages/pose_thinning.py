"""The choice of the pose messages that are published where an operator wants fewer than one a frame (`mqtt.poses`)."""

import math
from collections.abc import Iterator, Sequence

import msgspec

from edgepose.config.schema import PosesConfig
from edgepose.messages.structs import PersonMessage, PosesMessage

SILENCE_S = 1.0
"""Longest time between two messages while frames come: a subscriber may take a longer silence for a camera without video."""

_MOVED_BODIES = 0.03  # body sizes; more than the smoothed keypoints of a person who stands still move
_VISIBLE = 0.2  # confidence below which a position is a guess, as the documentation tells subscribers
_EARLY_S = 0.002  # a frame that is early by no more than this is on time


class _Camera(msgspec.Struct):
    shown: PosesMessage  # the last message that passed
    shown_s: float
    due_s: float  # when the rate allows the next one
    seen_s: float  # the last frame


class PoseThinning:
    """The choice for all cameras; pure, with the time passed in. One thread at a time.

    Args:
        config: rate and mode.
    """

    def __init__(self, config: PosesConfig) -> None:
        self._config = config
        self._cameras: dict[str, _Camera] = {}

    def passes(self, message: PosesMessage, now_s: float) -> bool:
        """Return whether a message is to be published; called for every frame.

        Args:
            message: of the frame.
            now_s: monotonic time, seconds.
        """
        period_s = 0.0 if self._config.rate_hz is None else 1 / self._config.rate_hz
        if not (period_s or self._config.only_changes):
            return True
        camera = self._cameras.get(message.camera)
        if camera is None:
            self._cameras[message.camera] = _Camera(message, now_s, now_s + period_s, now_s)
            return True
        gap_s, camera.seen_s = now_s - camera.seen_s, now_s
        is_last_chance = now_s + gap_s - camera.shown_s > SILENCE_S  # if the next frame takes as long as this one
        changed = not self._config.only_changes or _differs(camera.shown, message)
        if not is_last_chance and (not changed or now_s < camera.due_s - _EARLY_S):
            return False
        camera.shown, camera.shown_s = message, now_s
        # On average the rate, also where the frames do not fall on its beat; after a pause it begins anew.
        camera.due_s = now_s + period_s if now_s - camera.due_s > period_s else camera.due_s + period_s
        return True


def _differs(shown: PosesMessage, now: PosesMessage) -> bool:
    if (shown.epoch, shown.width, shown.height, len(shown.people)) != (now.epoch, now.width, now.height, len(now.people)):
        return True
    before = dict(_by_track(shown.people))
    after = dict(_by_track(now.people))
    return before.keys() != after.keys() or any(_has_moved(before[key], person) for key, person in after.items())


def _by_track(people: Sequence[PersonMessage]) -> Iterator[tuple[str, PersonMessage]]:
    """Yield people by track number; those without one by their place."""
    for place, person in enumerate(people):
        yield (f"track {person.track}" if isinstance(person.track, int) else f"place {place}"), person


def _has_moved(before: PersonMessage, now: PersonMessage) -> bool:
    limit_px = _MOVED_BODIES * math.sqrt(max(1.0, before.box[2] * before.box[3]))
    if max(abs(old - new) for old, new in zip(before.box, now.box, strict=True)) > limit_px:
        return True
    for (old_x, old_y, was), (x, y, confidence) in zip(before.keypoints, now.keypoints, strict=True):
        if (was >= _VISIBLE) != (confidence >= _VISIBLE):
            continue  # a guess that comes and goes is no movement
        if confidence >= _VISIBLE and max(abs(old_x - x), abs(old_y - y)) > limit_px:
            return True
    return False
