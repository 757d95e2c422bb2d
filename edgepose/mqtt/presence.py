"""What the device says of its being there: birth, will and goodbye of one session, and who else says so under the same name."""

import logging
import time
import uuid
from typing import Literal

import msgspec

from edgepose.messages.structs import StatusMessage, encode, timestamp
from edgepose.mqtt.outbox import Outgoing

_log = logging.getLogger(__name__)

DUPLICATES_LIMIT = 16


class Presence:
    """The retained status of one run of the daemon.

    Args:
        topic: of the status, full.
        encoding: of the messages.
    """

    def __init__(self, topic: str, encoding: Literal["json", "msgpack"]) -> None:
        self.topic = topic
        self.session = uuid.uuid4().hex[:16]
        self._encoding = encoding
        self._duplicate_sessions: dict[str, None] = {}

    @property
    def duplicate_session(self) -> str | None:
        """Session of another daemon that is online under our name, as far as we know."""
        return next(reversed(self._duplicate_sessions), None)

    def say(self, state: Literal["online", "stopped", "offline"], reason: str) -> Outgoing:
        """The message of a state; `offline` is the will."""
        message = StatusMessage(state=state, reason=reason, session=self.session, at=timestamp(time.time_ns()))
        return Outgoing(self.topic, encode(message, self._encoding), qos=1, retained=True)

    def hear(self, payload: bytes, *, live: bool) -> bool:
        """Take what somebody said on our topic, and tell whether `online` is to be said again.

        An earlier connection's will, coming late, would leave a retained `offline` behind. And a living rival is told once that we
        are here: what it said before we came is no proof that it lives.

        Args:
            payload: of the message.
            live: whether it was said just now; otherwise the broker had kept it.
        """
        decode = msgspec.json.decode if self._encoding == "json" else msgspec.msgpack.decode
        try:
            status = decode(payload, type=StatusMessage)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # text that is none, and brackets without end
            return True
        if status.state != "online":
            if self._duplicate_sessions.pop(status.session, self) is None:
                _log.info("the other daemon under %s is gone", self.topic)
            return True
        if (
            not live
            or status.session == self.session
            or status.session in self._duplicate_sessions
            or len(self._duplicate_sessions) >= DUPLICATES_LIMIT
        ):
            return False
        self._duplicate_sessions[status.session] = None
        _log.warning("another daemon publishes under %s as well; give one of them another `device` name", self.topic.rpartition("/")[0])
        return True
