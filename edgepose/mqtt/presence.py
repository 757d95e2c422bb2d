"""The status of the device: birth, will and last message of one session, and other daemons that are online under the same name."""

import logging
import time
import uuid
from typing import Literal

import msgspec
from msgspec import UNSET

from edgepose.messages.structs import StatusMessage, encode, timestamp
from edgepose.mqtt.outbox import Outgoing

_log = logging.getLogger(__name__)

DUPLICATES_LIMIT = 16


class EngineBuild(msgspec.Struct, frozen=True):
    """An engine that is being built while another backend runs.

    Attributes:
        percent: how far it is.
        phase: what is done now.
    """

    percent: int
    phase: str


class Presence:
    """The retained status messages of one session.

    Args:
        topic: full name of the status topic.
        encoding: of the messages.

    Attributes:
        topic: as above.
        session: random identifier of the session.
        build: told with `online`; set by any thread.
    """

    def __init__(self, topic: str, encoding: Literal["json", "msgpack"]) -> None:
        self.topic = topic
        self.session = uuid.uuid4().hex[:16]
        self.build: EngineBuild | None = None
        self._encoding = encoding
        self._duplicate_sessions: dict[str, None] = {}

    @property
    def duplicate_session(self) -> str | None:
        """The session of another daemon that is known to be online under the same device name, or None."""
        return next(reversed(self._duplicate_sessions), None)

    def status_message(self, state: Literal["stopped", "offline"], reason: str) -> Outgoing:
        """Return the message of a state; `offline` is the will."""
        return self._outgoing(StatusMessage(state=state, reason=reason, session=self.session, at=timestamp(time.time_ns())))

    def online(self, build: EngineBuild | None) -> Outgoing:
        """Return the message `online`, with the build that is under way."""
        return self._outgoing(
            StatusMessage(
                state="online",
                reason="connected" if build is None else f"connected; the engine is being built: {build.phase}",
                session=self.session,
                at=timestamp(time.time_ns()),
                building_engine=UNSET if build is None else build.percent,
            )
        )

    def _outgoing(self, message: StatusMessage) -> Outgoing:
        return Outgoing(self.topic, encode(message, self._encoding), qos=1, retained=True)

    def receive(self, payload: bytes, *, live: bool) -> Literal["nothing", "online", "gone"]:
        """Process a message on the status topic that is not this session's birth.

        Returns:
            `online` where this session must publish `online` again, `gone` where the message also says that a session is gone (or is none
            of a daemon), so that retained states may be another's.

        The late will of an earlier connection would otherwise leave a retained `offline` behind. A duplicate that is online is answered
        once, so that it detects this session; a message from before this session does not prove that it is still online.

        Args:
            payload: of the message.
            live: whether it was published just now; otherwise the broker had kept it.
        """
        decode = msgspec.json.decode if self._encoding == "json" else msgspec.msgpack.decode
        try:
            status = decode(payload, type=StatusMessage)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # text that is not valid, and endless brackets
            return "gone"
        if status.state != "online":
            if self._duplicate_sessions.pop(status.session, self) is None:
                _log.info("the other daemon under %s is gone", self.topic)
            return "gone"
        if (
            not live
            or status.session == self.session
            or status.session in self._duplicate_sessions
            or len(self._duplicate_sessions) >= DUPLICATES_LIMIT
        ):
            return "nothing"
        self._duplicate_sessions[status.session] = None
        _log.warning("another daemon publishes under %s as well; give one of them another `device` name", self.topic.rpartition("/")[0])
        return "online"
