"""Commands as they arrive over MQTT: which are passed on, and where a reply may go. Their content is checked elsewhere."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edgepose.mqtt.outbox import Outgoing

_log = logging.getLogger(__name__)

PAYLOAD_LIMIT_BYTES = 64 * 1024
IGNORED_CAUSES = ("retained", "too_long", "failed")
REPLY_EXPIRY_S = 60
"""Longest wait of a reply; after that it is of no use."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        name: last level of its topic; any text.
        payload: at most 64 KiB of any bytes.
        response_topic: where the sender wants the reply (MQTT 5), or None.
        correlation: what the sender identifies the reply by (MQTT 5), or None.
    """

    name: str
    payload: bytes
    response_topic: str | None
    correlation: bytes | None


class CommandInbox:
    """A filter between messages on `<base>/command/<name>` and the commands that are passed on.

    Args:
        base: `<prefix>/<device>`.
        receive: called with each command, in the session's thread; must return immediately.
        ignored: counts commands that were not passed on, by cause (`IGNORED_CAUSES`); it outlives the session.
    """

    def __init__(self, base: str, receive: Callable[[Command], None], ignored: Counter[str]) -> None:
        self._base = base
        self._receive = receive
        self._ignored = ignored

    @property
    def topics(self) -> str:
        """The topics to subscribe to."""
        return f"{self._base}/command/+"

    def take(self, topic: str, payload: bytes, retained: bool, response_topic: str | None, correlation: bytes | None) -> bool:
        """Pass a message on if it is an acceptable command; return whether it is a command at all."""
        name = topic.removeprefix(f"{self._base}/command/")
        if name == topic:
            return False
        if retained and not payload:
            _log.debug("command %.64r: a retained one was cleared", name)
        elif retained:
            self._ignore("retained", name, "it was retained, and an outdated command must not be executed; expected one that is not")
        elif len(payload) > PAYLOAD_LIMIT_BYTES:
            self._ignore("too_long", name, f"its payload is {len(payload)} bytes long; expected at most {PAYLOAD_LIMIT_BYTES}")
        else:
            try:
                self._receive(Command(name, payload, response_topic, correlation))
            except Exception:  # no message may end the connection
                _log.exception("command %.64r: internal fault", name)
                self._ignored["failed"] += 1
        return True

    def reply(self, command: Command, payload: bytes, now_s: float) -> Outgoing:
        """Return the answer to a command: to where the sender wants it (MQTT 5), or to `<base>/reply/<name>`."""
        wanted = command.response_topic
        topic = wanted if wanted is not None and self._may_answer(wanted) else f"{self._base}/reply/{command.name}"
        return Outgoing(
            topic, payload, qos=1, expires_at_s=now_s + REPLY_EXPIRY_S, expiry_s=REPLY_EXPIRY_S, correlation=command.correlation
        )

    def _may_answer(self, topic: str) -> bool:
        """Return whether a reply may go to a topic: it must be outside of `<prefix>/`, or under this device's `reply`.

        Otherwise a sender could make this device publish where devices take commands or report states.
        """
        ours = topic.startswith(f"{self._base.rpartition('/')[0]}/")
        return bool(topic) and not set(topic) & set("+#\0") and (not ours or topic.startswith(f"{self._base}/reply/"))

    def _ignore(self, cause: str, name: str, reason: str) -> None:
        log = _log.debug if self._ignored[cause] else _log.warning  # a flood of them must not flood the log
        log("command %.64r ignored: %s", name, reason)
        self._ignored[cause] += 1
