"""The webhook: events posted over HTTPS, oldest first and at least once, by a thread that nothing else waits for.

The queue in memory leads, and an event store follows it, as that of the broker does. An event that the receiver does not accept is tried
again with growing waits, and is dropped after `webhook.attempts` of them; while no connection can be made, events wait.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgepose.messages.structs import EventMessage, encode
from edgepose.storage.event_store import EventStore
from edgepose.storage.span import Span
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.webhook.request import RequestFailure, post
from edgepose.webhook.settings import WebhookSettings

_log = logging.getLogger(__name__)

WEBHOOK_DROPS = ("refused", "gave_up", "queue_full", "damaged", "stopped")
"""Reasons why an event never reached the receiver."""

WEBHOOK_FAILURES = ("unreachable", "certificate", "timeout", "status")
"""Reasons why a request failed (`FailureCause`)."""

_TURN_S = 1.0
_STUCK_S = 120.0  # resolving a name may block for half a minute, and connecting takes a time-out for each address
_LOAD_S = 1.0  # longest wait for the events of earlier runs
_FIRST_WAIT_S = 0.5
_STORE_STOP_S = 0.3


class WebhookEventMessage(EventMessage, frozen=True, kw_only=True):
    """An event as the webhook posts it: the event message, and the device that it comes from."""

    device: Annotated[str, Meta(description="name of the device")]


@dataclass(frozen=True, slots=True, eq=False)
class PostedEvent:
    """One event that waits for the receiver.

    Attributes:
        topic: identifier of the event; an event store keeps two texts a message.
        payload: body of the request.
    """

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class WebhookStats:
    """The webhook at one moment; counts are since the start of the daemon.

    Attributes:
        delivered: events that the receiver accepted.
        waiting: events that it has not accepted yet.
        failures: requests that failed, by cause (`WEBHOOK_FAILURES`).
        drops: events lost, by cause (`WEBHOOK_DROPS`).
        failure: why the last request failed, in a few words; None where it did not.
        restarts: times that the thread died and was restarted.
    """

    delivered: int = 0
    waiting: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    failure: str | None = None
    restarts: int = 0


class WebhookSender(SupervisedThread):
    """The thread that posts events to one receiver.

    Args:
        settings: of the receiver.
        before: counts of the sender that this one takes over from.
    """

    def __init__(self, settings: WebhookSettings, before: WebhookStats | None = None) -> None:
        super().__init__("webhook", _STUCK_S)
        self._settings = settings
        before = before or WebhookStats()
        self._changed = threading.Condition()  # guards all below
        self._queue: deque[PostedEvent] = deque()
        self._attempts: Counter[PostedEvent] = Counter()  # of the oldest event only
        self._delivered = before.delivered
        self._failures, self._drops = Counter(before.failures), Counter(before.drops)
        self._failure: str | None = None
        self._backoff = FullJitterBackoff(_FIRST_WAIT_S, settings.retry_maximum_s)
        self._store: EventStore[PostedEvent] | None = None
        if settings.store is not None:
            self._store = EventStore(settings.store, settings.queue_limit, self._restore, PostedEvent)

    def start(self) -> None:
        """Start posting, events of earlier runs first."""
        if self._store is not None:
            self._store.start()
        super().start()

    def take(self, event: EventMessage) -> None:
        """Post an event soon; return immediately. Where too many wait, the oldest is dropped."""
        if self._settings.kinds and event.kind not in self._settings.kinds:
            return
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        message = PostedEvent(event.id, encode(WebhookEventMessage(**fields, device=self._settings.device)))
        with self._changed:
            kept = self._store is not None and self._store.keep(message)
            if self.ending.is_set():  # the next run posts what is kept
                self._drops["stopped"] += not kept
                return
            self._queue.append(message)
            self._shrink()
            self._changed.notify()

    def forget(self, span: Span, within_s: float, *, always: bool = True) -> int | None:
        """Delete the events of a span that wait, also from the store; return how many, None where that takes too long."""
        with self._changed:
            gone = [event for event in self._queue if span.holds_message(event.payload)]
            for event in gone:
                self._queue.remove(event)
                self._attempts.pop(event, None)
        if self._store is None:
            return len(gone)
        return self._store.purge(span.holds_message, within_s, always=always)

    def stats(self) -> WebhookStats:
        """Return the counts of this moment."""
        with self._changed:
            return WebhookStats(
                self._delivered, len(self._queue), dict(self._failures), dict(self._drops), self._failure, restarts=self.restarts
            )

    def close(self, within_s: float) -> None:
        """Post what waits while the receiver accepts it, then end; the store keeps the rest for the next run."""
        deadline_s = time.monotonic() + within_s
        with self._changed:
            self._changed.wait_for(lambda: not self._queue or self._failure is not None, within_s)
            self.ending.set()
            self._changed.notify_all()
        if self.ident is not None:
            self.join(max(0.0, deadline_s - time.monotonic()))
        if self._store is not None:
            self._store.close(_STORE_STOP_S)
        with self._changed:
            lost = [event for event in self._queue if self._store is None or not self._store.holds(event)]
            self._drops["stopped"] += len(lost)
            self._drops = +self._drops
            self._queue.clear()

    def work(self) -> None:
        """Post until `close`."""
        if self._store is not None:
            self._store.loaded.wait(_LOAD_S)
        while not self.ending.is_set():
            self.heartbeat.beat()
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self.ending.is_set(), _TURN_S)
                event = self._queue[0] if self._queue else None
            if event is not None and not self.ending.is_set():
                self._deliver(event)

    def _deliver(self, event: PostedEvent) -> None:
        """Post one event, and wait where that failed."""
        failure = post(self._settings, event.topic, event.payload, int(time.time()))
        self._note(failure)
        if failure is None or self._has_failed_for_good(event, failure):
            with self._changed:
                if self._queue and self._queue[0] is event:  # otherwise it was dropped meanwhile, since too many wait
                    self._queue.popleft()
                    self._delivered += failure is None
                    self._forget(event)
                self._changed.notify_all()
            return
        wait_s = max(self._backoff.next_s(), min(failure.retry_after_s, self._settings.retry_maximum_s))
        self.heartbeat.beat(wait_s + _STUCK_S)
        self.ending.wait(wait_s)

    def _has_failed_for_good(self, event: PostedEvent, failure: RequestFailure) -> bool:
        """Return whether an event is dropped after this failure, and count it."""
        with self._changed:
            self._attempts[event] += failure.received
            cause = "refused" if failure.final else "gave_up" if self._attempts[event] >= self._settings.attempts else None
            if cause is not None and self._queue and self._queue[0] is event:
                self._drops[cause] += 1
        if cause is not None:
            _log.warning("webhook %s: an event is dropped (%s): %s", self._settings.origin, cause, failure.detail)
        return cause is not None

    def _note(self, failure: RequestFailure | None) -> None:
        """Count a request, and log a change of its outcome."""
        outcome = None if failure is None else f"{failure.cause}: {failure.detail}"
        with self._changed:
            before, self._failure = self._failure, outcome
            if failure is not None:
                self._failures[failure.cause] += 1
            self._changed.notify_all()
        if outcome is None:
            self._backoff.reset()
            if before is not None:
                _log.info("webhook %s: accepts events again", self._settings.origin)
        elif outcome != before:
            _log.warning("webhook %s: %s; trying again", self._settings.origin, outcome)

    def _restore(self, events: list[PostedEvent], dropped: int) -> None:
        """Put the events of earlier runs before all others."""
        with self._changed:
            self._drops["queue_full"] += dropped
            self._drops["damaged"] += (self._store.lost or 0) if self._store is not None else 0
            self._drops = +self._drops
            self._queue.extendleft(reversed(events))
            self._shrink()
            self._changed.notify_all()

    def _shrink(self) -> None:
        while len(self._queue) > self._settings.queue_limit:
            self._drops["queue_full"] += 1
            self._forget(self._queue.popleft())

    def _forget(self, event: PostedEvent) -> None:
        self._attempts.pop(event, None)
        if self._store is not None:
            self._store.forget(event)


def webhook_schema() -> dict[str, Any]:
    """Return the JSON Schema of the body of a request."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(WebhookEventMessage)}
