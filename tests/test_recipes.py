"""Recipes of docs/ run: Python programs hear real messages through a stand-in of paho, and every topic that a recipe names exists."""

import json
import re
import smtplib
import types
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client
import paho.mqtt.subscribe
import pytest
from paho.mqtt.client import topic_matches_sub

from edgepose.messages.schema import COMMANDS, TOPICS
from edgepose.messages.structs import encode
from testing.sample import sample_event_message, sample_message

RECIPES = Path(__file__).resolve().parents[1] / "docs" / "recipes"
PAGES = sorted(RECIPES.glob("*.md"))
PROGRAMS = [
    pytest.param(page, code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]
ADDRESSES = [topic.address.replace("{camera}", "front").replace("{command}", "reload") for topic in (*TOPICS, *COMMANDS)]

Callback = Callable[[Any, Any, Any], None]


def exists(topic: str) -> bool:
    return any(topic_matches_sub(topic, f"edgepose/drone-7/{address}") for address in ADDRESSES)


def message(topic: str, payload: bytes) -> types.SimpleNamespace:
    return types.SimpleNamespace(topic=f"edgepose/drone-7/cameras/front/{topic}", payload=payload)


class StandIn:
    """A client that connects at once and hears the messages of `incoming`."""

    incoming: list[types.SimpleNamespace]

    def __init__(self, *arguments: object, **settings: object) -> None:
        self.on_connect: Callable[..., None] | None = None
        self.on_message: Callback | None = None
        self.topics: list[str] = []

    def connect(self, host: str) -> None:
        assert self.on_connect is not None
        self.on_connect(self, None, {}, 0, None)

    def subscribe(self, topic: str, qos: int = 0) -> None:
        assert exists(topic), topic
        self.topics.append(topic)

    def loop_forever(self) -> None:
        assert self.on_message is not None
        for heard in self.incoming:
            if any(topic_matches_sub(topic, heard.topic) for topic in self.topics):
                self.on_message(self, None, heard)


class StandInMail:
    sent: list[EmailMessage]

    def __init__(self, host: str) -> None:
        pass

    def __enter__(self) -> "StandInMail":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def send_message(self, mail: EmailMessage) -> None:
        self.sent.append(mail)


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> list[EmailMessage]:
    StandInMail.sent = []
    monkeypatch.setattr(smtplib, "SMTP", StandInMail)
    return StandInMail.sent


@pytest.fixture
def _messages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    poses = encode(sample_message())
    fall = sample_event_message()
    walk = msgspec.structs.replace(fall, kind="entered", id="another")
    doubtful = msgspec.structs.replace(fall, score=0.5, id="a third")
    StandIn.incoming = [message("poses", poses), *(message("events", encode(event)) for event in (fall, fall, walk, doubtful))]
    monkeypatch.setattr(paho.mqtt.client, "Client", StandIn)

    def callback(show: Callback, topic: str, hostname: str) -> None:
        assert exists(topic), topic
        for heard in StandIn.incoming:
            if topic_matches_sub(topic, heard.topic):
                show(None, None, heard)

    monkeypatch.setattr(paho.mqtt.subscribe, "callback", callback)
    (tmp_path / "poses.jsonl").write_bytes(poses + b"\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_messages")
@pytest.mark.parametrize(("page", "code"), PROGRAMS)
def test_programs_run(page: Path, code: str, mails: list[EmailMessage], capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, page.name, "exec"), {"__name__": "__main__"})
    if page.stem == "fall-alert":
        (mail,) = mails  # one for the event that came twice; none for another kind, or for weak evidence
        assert mail["Subject"].startswith("Fall: camera front of drone-7")
    else:
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_topics_exist(page: Path) -> None:
    topics = re.findall(r"edgepose/[\w+#/]+", page.read_text(encoding="utf-8"))
    assert [topic for topic in topics if not exists(topic)] == []


def test_the_flow_is_whole() -> None:
    flow = json.loads((RECIPES / "node-red-flow.json").read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in flow}
    assert len(nodes) == len(flow)
    topics = [node["topic"] for node in flow if node["type"] == "mqtt in"]
    assert topics
    assert all(exists(topic) for topic in topics)
    assert all(wire in nodes for node in flow for output in node.get("wires", []) for wire in output)
    assert all(node["broker"] in nodes for node in flow if node["type"] == "mqtt in")
