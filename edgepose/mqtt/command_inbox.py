"""Commands as they come over MQTT, before anybody judges what they ask for: who may be answered where, and what is not even looked at."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edgepose.mqtt.outbox import Outgoing

logger = logging.getLogger(__name__)

PAYLOAD_LIMIT_BYTES = 64 * 1024
IGNORED_CAUSES = ("retained", "too_long", "failed")
REPLY_EXPIRY_S = 60
"""An answer that has waited for so long has nobody waiting for it."""


@dataclass(frozen=True, slots=True)
class Command:
    """One order.

    Attributes:
        name: last level of its topic; anything at all.
        payload: at most 64 KiB of anything at all.
        response_topic: where the sender wants the reply (MQTT 5), or None.
        correlation: what the sender will know the reply by (MQTT 5), or None.
    """

    name: str
    payload: bytes
    response_topic: str | None
    correlation: bytes | None


class CommandInbox:
    """Takes messages on `<base>/command/<name>` and hands commands on.

    Args:
        base: `<prefix>/<device>`.
        obey: told of each command, in the publisher's thread; must return at once.
    """

    def __init__(self, base: str, obey: Callable[[Command], None]) -> None:
        self._base = base
        self._obey = obey
        self._ignored: Counter[str] = Counter()

    @property
    def topics(self) -> str:
        """What to subscribe to."""
        return f"{self._base}/command/+"

    @property
    def ignored(self) -> dict[str, int]:
        """Commands that were not handed on, by cause (`IGNORED_CAUSES`)."""
        return dict(self._ignored)

    def take(self, topic: str, payload: bytes, retained: bool, response_topic: str | None, correlation: bytes | None) -> bool:
        """Hand a message on if it is a command that may be obeyed; False where it is no command at all."""
        name = topic.removeprefix(f"{self._base}/command/")
        if name == topic:
            return False
        if retained and not payload:
            logger.debug("command %.64r: a retained one was cleared", name)
        elif retained:
            self._ignore("retained", name, "it was retained, and an old order must not be obeyed; expected one that is not")
        elif len(payload) > PAYLOAD_LIMIT_BYTES:
            self._ignore("too_long", name, f"its payload is {len(payload)} bytes long; expected at most {PAYLOAD_LIMIT_BYTES}")
        else:
            try:
                self._obey(Command(name, payload, response_topic, correlation))
            except Exception:  # nothing that somebody sends may end the connection
                logger.exception("command %.64r: internal fault", name)
                self._ignored["failed"] += 1
        return True

    def reply(self, command: Command, payload: bytes, now_s: float) -> Outgoing:
        """The answer to a command: to where the sender wants it (MQTT 5), or to `<base>/reply/<name>`."""
        wanted = command.response_topic
        topic = wanted if wanted is not None and self._may_answer(wanted) else f"{self._base}/reply/{command.name}"
        return Outgoing(
            topic, payload, qos=1, expires_at_s=now_s + REPLY_EXPIRY_S, expiry_s=REPLY_EXPIRY_S, correlation=command.correlation
        )

    def _may_answer(self, topic: str) -> bool:
        """A sender must not make us speak where devices hear orders or tell states: only outside of `<prefix>/`, or under our `reply`."""
        ours = topic.startswith(f"{self._base.rpartition('/')[0]}/")
        return bool(topic) and not set(topic) & set("+#\0") and (not ours or topic.startswith(f"{self._base}/reply/"))

    def _ignore(self, cause: str, name: str, why: str) -> None:
        log = logger.debug if self._ignored[cause] else logger.warning  # a flood of them must not flood the log
        log("command %.64r ignored: %s", name, why)
        self._ignored[cause] += 1
