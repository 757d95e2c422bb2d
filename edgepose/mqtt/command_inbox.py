"""Commands as they arrive over MQTT: which are passed on, and where a reply may go. Their content is checked elsewhere."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgepose.messages.command_requests import REQUESTS
from edgepose.mqtt.outbox import Outgoing
from edgepose.mqtt.protocol import matches_any, topic_fault
from edgepose.printable import printable

if TYPE_CHECKING:
    from edgepose.mqtt.connection import Incoming

_log = logging.getLogger(__name__)

PAYLOAD_LIMIT_BYTES = 64 * 1024
IGNORED_CAUSES = ("retained", "too_long", "failed")
NAME_LIMIT = 64
"""Longest name of a command that a reply's topic repeats, characters; no command has a longer one."""

REPLY_EXPIRY_S = 60
"""Longest wait of a reply; after that it is of no use."""


class Command(msgspec.Struct, frozen=True):
    """One command.

    Attributes:
        name: last level of its topic; any text.
        payload: at most 64 KiB of any bytes.
        response_topic: where the sender wants the reply (MQTT 5), or None.
        correlation: what the sender identifies the reply by (MQTT 5), or None.
        user_properties: what the sender says about itself (MQTT 5), pairs of name and value; nobody has verified them.
    """

    name: str
    payload: bytes
    response_topic: str | None
    correlation: bytes | None
    user_properties: tuple[tuple[str, str], ...] = ()


class CommandInbox:
    """A filter between messages on `<base>/command/<name>` and the commands that are passed on.

    Args:
        base: `<prefix>/<device>`.
        receive: called with each command, in the session's thread; must return immediately.
        ignored: counts commands that were not passed on, by cause (`IGNORED_CAUSES`); it outlives the session.
        response_topics: topic filters of the places outside `<base>/reply/` where replies may go (`commands.response_topics`).
    """

    def __init__(self, base: str, receive: Callable[[Command], None], ignored: Counter[str], response_topics: Sequence[str] = ()) -> None:
        self._base = base
        self._response_topics = response_topics
        self._receive = receive
        self._ignored = ignored

    @property
    def topics(self) -> str:
        """The topics to subscribe to."""
        return f"{self._base}/command/+"

    @property
    def plain_topics(self) -> list[str]:
        """The topics to subscribe to at a broker without wildcards: one for each command."""
        return [f"{self._base}/command/{name}" for name in REQUESTS]

    def take(self, incoming: "Incoming") -> bool:
        """Pass a message on if it is an acceptable command; return whether it is a command at all."""
        name = incoming.topic.removeprefix(f"{self._base}/command/")
        payload = incoming.payload
        if name == incoming.topic:
            return False
        if incoming.stored and not payload:
            _log.debug("command %s: a retained one was cleared", _shown(name))
        elif incoming.stored:
            self._ignore("retained", name, "it was retained, and an outdated command must not be executed; expected one that is not")
        elif len(payload) > PAYLOAD_LIMIT_BYTES:
            self._ignore("too_long", name, f"its payload is {len(payload)} bytes long; expected at most {PAYLOAD_LIMIT_BYTES}")
        else:
            try:
                self._receive(Command(name, payload, incoming.response_topic, incoming.correlation, incoming.user_properties))
            except Exception:  # no message may end the connection
                _log.exception("command %s: internal fault", _shown(name))
                self._ignored["failed"] += 1
        return True

    def reply(self, command: Command, payload: bytes, now_s: float) -> Outgoing:
        """Return the answer to a command: to where the sender wants it (MQTT 5), or to `<base>/reply/<name>`."""
        wanted = command.response_topic
        topic = wanted if wanted is not None and self.may_answer(wanted) else self._own_topic(command.name)
        return Outgoing(
            topic, payload, qos=1, expires_at_s=now_s + REPLY_EXPIRY_S, expiry_s=REPLY_EXPIRY_S, correlation=command.correlation
        )

    def may_answer(self, topic: str) -> bool:
        """Return whether a reply may go to a topic: below this device's `reply`, or where `commands.response_topics` says.

        Otherwise a sender could make this device publish where other programs take commands or report states. A topic that the broker
        does not accept would end the connection.
        """
        return topic_fault(topic) is None and (topic.startswith(f"{self._base}/reply/") or matches_any(self._response_topics, topic))

    def _own_topic(self, name: str) -> str:
        topic = f"{self._base}/reply/{name}"
        return topic if len(name) <= NAME_LIMIT and topic_fault(topic) is None else f"{self._base}/reply/unknown"

    def _ignore(self, cause: str, name: str, reason: str) -> None:
        log = _log.debug if self._ignored[cause] else _log.warning  # a flood of them must not flood the log
        log("command %s ignored: %s", _shown(name), reason)
        self._ignored[cause] += 1


def _shown(name: str) -> str:
    return repr(printable(name, NAME_LIMIT))
