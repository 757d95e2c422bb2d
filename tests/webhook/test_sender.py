"""The webhook against real servers: down, slow, refusing, with a bad certificate; at least once, bounded, and nothing waits for it."""

import base64
import hashlib
import hmac
import logging
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgepose.config.schema import Config, EventsConfig, WebhookConfig
from edgepose.errors import ConfigError
from edgepose.messages.compose import event_message
from edgepose.messages.structs import EventMessage
from edgepose.webhook.sender import WebhookSender
from edgepose.webhook.settings import WebhookSettings
from testing.sample import sample_event
from testing.servers.certificates import Authority
from testing.servers.webhook_receiver import WebhookReceiver
from testing.waiting import in_time, wait_for

DOWN_S = float(os.environ.get("WEBHOOK_DOWN_S", "1.5"))
"""How long the receiver is down; a minute for the proof (WEBHOOK_DOWN_S=60)."""


def event(number: int, kind: Any = "fallen") -> EventMessage:
    return event_message(sample_event(sequence=number, kind=kind))


def settings(url: str, *, store: Path | None = None, limit: int = 1000, **more: Any) -> WebhookSettings:
    options = {"timeout_s": 5.0, "retry_maximum_s": 0.2} | more
    webhook = WebhookConfig(url=url, store=None if store is None else str(store), **options)
    found = WebhookSettings.of(Config(device="drone", webhook=webhook, events=EventsConfig(store_limit=limit)))
    assert found is not None
    return found


@contextmanager
def sending(*arguments: Any, **more: Any) -> Iterator[WebhookSender]:
    sender = WebhookSender(settings(*arguments, **more))
    sender.start()
    try:
        yield sender
    finally:
        sender.close(1.0)


def sequences(receiver: WebhookReceiver) -> list[int]:
    return [event["sequence"] for event in receiver.events]


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as started:
        yield started


@pytest.mark.needs("openssl")
def test_events_are_posted_over_https_and_signed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    secret = tmp_path / "secret"
    key = bytes(range(32))
    secret.write_text("whsec_" + base64.b64encode(key).decode() + "\n")
    with (
        WebhookReceiver(authority.issue("receiver", host="localhost")) as receiver,
        sending(receiver.url, ca_file=str(authority.certificate), secret_file=str(secret), kinds=["fallen"]) as sender,
    ):
        sender.take(event(1))
        sender.take(event(2, "waving"))  # not one of the kinds
        sender.take(event(3))
        wait_for(lambda: sender.stats().delivered == 2)
    assert sequences(receiver) == [1, 3]
    assert (receiver.events[0]["device"], receiver.events[0]["kind"], receiver.events[0]["schema"]) == ("drone", "fallen", 1)
    headers, body = receiver.headers[0], receiver.bodies[0]
    assert (headers["webhook-id"], headers["content-type"]) == (receiver.events[0]["id"], "application/json")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 600
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def test_a_receiver_that_is_down_gets_all_events_in_order_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    receiver = WebhookReceiver()
    with sending(receiver.url) as sender:
        for number in range(5):
            sender.take(event(number))
        wait_for(lambda: sender.stats().failures.get("unreachable", 0) >= 3)
        time.sleep(DOWN_S)
        failures = sender.stats().failures["unreachable"]
        assert failures <= 100 + DOWN_S * 40  # waits of 0.1 s on average: no storm
        with receiver:
            wait_for(lambda: sender.stats().delivered == 5)
            assert sequences(receiver) == [0, 1, 2, 3, 4]
    stats = sender.stats()
    assert (stats.waiting, stats.drops, stats.failure) == (0, {}, None)
    assert caplog.text.count("trying again") == 1  # each change of the outcome once, not each attempt
    assert "accepts events again" in caplog.text
    assert "secret-path" not in caplog.text


def test_an_answer_500_is_tried_again_and_given_up_in_the_end(receiver: WebhookReceiver) -> None:
    receiver.answers = [500, 503, 429]
    with sending(receiver.url, attempts=4) as sender:
        sender.take(event(1))
        wait_for(lambda: sender.stats().delivered == 1)
        assert sender.stats().failures == {"status": 3}
        receiver.answers = [500] * 4
        sender.take(event(2))
        sender.take(event(3))  # not blocked forever by the one before
        wait_for(lambda: sender.stats().delivered == 2)
    assert sequences(receiver) == [1, 3]
    assert (sender.stats().drops, receiver.requests) == ({"gave_up": 1}, 9)


@pytest.mark.parametrize("status", [400, 404, 410, 301, 307])
def test_an_event_that_the_receiver_does_not_want_is_dropped(receiver: WebhookReceiver, status: int) -> None:
    receiver.answers = [status]
    with sending(receiver.url) as sender:
        sender.take(event(1))
        sender.take(event(2))
        wait_for(lambda: sender.stats().delivered == 1)
    assert (sequences(receiver), sender.stats().drops) == ([2], {"refused": 1})


def test_a_wait_that_the_receiver_asks_for_is_kept(receiver: WebhookReceiver) -> None:
    receiver.answers, receiver.retry_after = [503], "1"
    with sending(receiver.url, retry_maximum_s=30) as sender:
        began_s = time.monotonic()
        sender.take(event(1))
        wait_for(lambda: sender.stats().delivered == 1)
        assert time.monotonic() - began_s >= 1


@pytest.mark.parametrize("answer", [3.0, "drip"])
def test_a_slow_receiver_delays_nothing_else(receiver: WebhookReceiver, answer: float | str) -> None:
    receiver.answers = [answer] * 2
    with sending(receiver.url, timeout_s=0.3) as sender:
        began_s = time.monotonic()
        for number in range(1000):
            sender.take(event(number % 3))
        assert in_time(time.monotonic() - began_s, 1.0)  # 1000 events, whose encoding is all that takes time
        wait_for(lambda: sender.stats().failures.get("timeout", 0) == 2, promised_s=3)
        wait_for(lambda: sender.stats().delivered > 5)


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("trusts", [False, True], ids=["unknown authority", "another name"])
def test_a_certificate_that_is_not_trusted_gets_nothing(tmp_path: Path, trusts: bool) -> None:
    authority = Authority(tmp_path)
    ca_file = authority.certificate if trusts else Authority(tmp_path, "other").certificate
    with (
        WebhookReceiver(authority.issue("receiver", host="elsewhere" if trusts else "localhost")) as receiver,
        sending(receiver.url, ca_file=str(ca_file)) as sender,
    ):
        sender.take(event(1))
        wait_for(lambda: sender.stats().failures.get("certificate", 0) >= 3)
        assert (receiver.requests, sender.stats().waiting, sender.stats().drops) == (0, 1, {})


def test_events_survive_a_restart(tmp_path: Path) -> None:
    receiver, store = WebhookReceiver(), tmp_path / "webhook.db"
    with sending(receiver.url, store=store) as sender:
        for number in range(3):
            sender.take(event(number))
        wait_for(lambda: sender.stats().failures)
        wait_for(lambda: sender._store is not None and all(map(sender._store.holds, list(sender._queue))))
    assert sender.stats().drops == {}
    with receiver, sending(receiver.url, store=store) as sender:
        sender.take(event(3))
        wait_for(lambda: sender.stats().delivered == 4)
        assert sequences(receiver) == [0, 1, 2, 3]
    with receiver, sending(receiver.url, store=store) as sender:
        assert sender._store is not None
        assert sender._store.loaded.wait(60)
        assert sender.stats().waiting == 0


def test_too_many_events_lose_the_oldest_and_are_counted() -> None:
    receiver = WebhookReceiver()
    with sending(receiver.url, limit=10) as sender:
        for number in range(25):
            sender.take(event(number))
        with receiver:
            wait_for(lambda: sender.stats().delivered == 10)
            assert sequences(receiver) == list(range(15, 25))
    assert sender.stats().drops == {"queue_full": 15}
    sender.take(event(99))
    assert sender.stats().drops == {"queue_full": 15, "stopped": 1}


def test_without_a_store_a_stop_counts_what_is_lost() -> None:
    with sending(WebhookReceiver().url) as sender:
        sender.take(event(1))
        wait_for(lambda: sender.stats().failures)
    assert sender.stats().drops == {"stopped": 1}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read"), (b"", "has 0 bytes"), (b"short", "has 5 bytes; expected at least 16"), (b"whsec_!!!!", "is no Base64")],
)
def test_a_secret_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        settings("http://localhost/", secret_file=str(path))


def test_a_ca_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"webhook\.ca_file: .* cannot be used"):
        settings("https://localhost/", ca_file=str(tmp_path / "none.pem"))
    tls = settings("https://localhost:8443/a?b=c").tls
    assert tls is not None
    assert tls.verify_mode == ssl.CERT_REQUIRED
    assert settings("https://localhost:8443/a?b=c").origin == "https://localhost:8443"
