"""The simulation: each kind of message and event within a minute, the same for the same seed, and true to the schemas."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from edgepose.event import EventKind
from edgepose.messages.schema import TOPICS
from edgepose.messages.structs import EventMessage, PosesMessage, encode
from testing.golden import GOLDEN, simulated_files, simulated_name
from testing.sample import CAPTURED_AT
from testing.servers.both_sides import Listener
from testing.servers.mosquitto import Mosquitto, free_port
from testing.servers.webhook_receiver import WebhookReceiver
from testing.simulated import Record, simulate, topic_of
from testing.waiting import wait_for

TIMES = re.compile(r'"(id|at|since|captured_at|started_at)":"[^"]*"|"(stages_ms|memory_mb)":(\{.*?\}\}|[0-9.]+)')


@pytest.fixture(scope="module")
def minute() -> Record:
    return simulate(seconds=60)


def lines(record: Record) -> list[str]:
    return [
        f"{address} {TIMES.sub('', encode(payload).decode())}" for address, payload in record.messages if not isinstance(payload, bytes)
    ]


def poses(record: Record) -> list[PosesMessage]:
    return [payload for _, payload in record.messages if isinstance(payload, PosesMessage)]


def events(record: Record) -> list[EventMessage]:
    return [payload for _, payload in record.messages if isinstance(payload, EventMessage)]


def test_each_kind_of_message_and_event_comes_within_a_minute(minute: Record) -> None:
    assert {topic_of(address) for address, _ in minute.messages} == set(TOPICS)
    assert {event.kind for event in events(minute)} == set(get_args(EventKind))
    assert {len(message.people) for message in poses(minute)} == {0, 1, 2}


def test_one_walker_is_enough_with_any_seed() -> None:
    assert {event.kind for event in events(simulate(seconds=60, people=1, seed=5))} == set(get_args(EventKind))


def test_the_same_seed_gives_the_same_messages_but_for_times(minute: Record) -> None:
    again = simulate(seconds=15, start_ns=CAPTURED_AT + 86_400_000_000_000)
    assert lines(again)[:-1] == lines(minute)[: len(again.messages) - 1]  # then it says `stopped`
    other = simulate(seconds=15, seed=1)
    assert lines(other) != lines(again)


def test_a_profile_holds_for_all_messages_with_people(minute: Record) -> None:
    minimal, standard = simulate(seconds=60, profile="minimal"), simulate(seconds=5, profile="standard")
    assert [(event.kind, event.box, event.evidence) for event in events(minimal)] == [
        (event.kind, (0, 0, 0, 0), {}) for event in events(minute)
    ]
    assert [len(message.people) for message in poses(minimal)] == [len(message.people) for message in poses(minute)]
    assert {person.box for message in poses(minimal) for person in message.people} == {(0, 0, 0, 0)}
    people = [person for message in poses(standard) for person in message.people]
    assert min(person.box[2] for person in people) > 0
    assert not any(any(point) for person in people for point in person.keypoints)


def test_every_message_is_valid_by_its_schema(minute: Record) -> None:
    validators = {
        topic: jsonschema.Draft202012Validator(json.loads((GOLDEN / f"{topic.name}.schema.json").read_text())) for topic in TOPICS
    }
    for address, payload in minute.messages[::7]:
        assert not isinstance(payload, bytes)
        validators[topic_of(address)].validate(json.loads(encode(payload)))


def numbers(value: Any) -> Iterator[float]:
    """Yield all numbers of a value, in order."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    elif isinstance(value, int | float):
        yield value


def shape(value: Any) -> Any:
    """Return a value with 0 in the place of each number: another processor may round the last digit otherwise."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items() if key not in ("stages_ms", "versions")}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return 0 if isinstance(value, int | float) else value


def test_the_golden_messages_are_what_the_simulation_publishes() -> None:
    for name, content in simulated_files().items():
        golden = [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]
        now = [json.loads(line) for line in content.splitlines()]
        assert golden, name
        assert [shape(message) for message in now] == [shape(message) for message in golden], "see testing/golden.py"
        if name not in ("simulated-health.jsonl", "simulated-info.jsonl"):
            for before, after in zip(golden, now, strict=True):
                assert list(numbers(after)) == pytest.approx(list(numbers(before)), abs=0.21)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_the_golden_messages_are_valid_by_their_schemas(topic) -> None:
    validator = jsonschema.Draft202012Validator(json.loads((GOLDEN / f"{topic.name}.schema.json").read_text()))
    for line in (GOLDEN / simulated_name(topic)).read_text().splitlines():
        message = json.loads(line)
        assert topic_of(message["topic"].removeprefix("edgepose/simulator/")) == topic
        validator.validate(message["payload"])


def test_the_command_publishes_all_of_it(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Listener(broker.port, "#") as listener, WebhookReceiver() as receiver:
        command = [
            *(sys.executable, "-m", "edgepose", "simulate", "--cameras", "1", "--people", "1", "--seconds", "4", "--speed", "10"),
            *("--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}", "--set", "health.interval_s=1"),
            *("--set", "mqtt.home_assistant.enabled=true", "--set", f"webhook.url={receiver.url}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        base = "edgepose/simulator/"
        wait_for(lambda: listener.on(f"{base}status") and json.loads(listener.on(f"{base}status")[-1].payload)["state"] == "stopped")
        topics = {message.topic.removeprefix(base) for message in listener.messages}
        expected = {"status", "info", "health", "cameras/front/status", "cameras/front/poses", "cameras/front/events"}
        assert expected | {"cameras/front/occupancy", "cameras/front/zones/door/occupancy"} <= topics
        announced = listener.on("homeassistant/sensor/simulator/edgepose__front__people/config")
        assert [bool(message.payload) for message in announced] == [True, False]  # and is gone with the simulation
        health = [json.loads(message.payload) for message in listener.on(f"{base}health")]
        assert health[-1]["messages"] > health[0]["messages"] > 0
        assert health[-1]["memory_mb"] > 10
        wait_for(lambda: len(receiver.events) == len(listener.on(f"{base}cameras/front/events")))
        session = json.loads(listener.on(f"{base}status")[0].payload)["session"]
        poses = [json.loads(message.payload) for message in listener.on(f"{base}cameras/front/poses")]
        assert {(message["session"], message["epoch"]) for message in poses} == {(session, 0)}
        info = json.loads(listener.on(f"{base}info")[0].payload)
        assert (info["session"], info["poses"]) == (session, {"encoding": "json", "only_changes": False})


def test_a_simulation_that_reached_no_broker_fails() -> None:
    command = [sys.executable, "-m", "edgepose", "simulate", "--seconds", "1", "--speed", "10", "--set", "mqtt.connect_timeout_s=0.2"]
    settings = ["--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={free_port()}"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 69
    assert "nothing was published: the broker is unreachable: connection refused" in done.stderr
