"""Discovery messages: keys that Home Assistant knows, templates that say the right thing of real messages, topics of one device only."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
from msgspec.structs import replace

from edgepose.config.schema import Config, EventsConfig, HomeAssistantConfig, MqttConfig
from edgepose.errors import ConfigError
from edgepose.event import Occupancy
from edgepose.ground import WorldPlaces
from edgepose.messages.compose import event_message, occupancy_message
from edgepose.messages.home_assistant import check_discovery, discovery, discovery_topics, is_discovery
from edgepose.messages.structs import CameraStatusMessage, Message, StatusMessage, encode
from edgepose.mqtt.protocol import matches_any
from testing.discovery import KEYS, sample_config, sample_discovery
from testing.sample import sample_event

MESSAGES = sample_discovery()
ACCEPTED = json.loads(KEYS.read_text())["keys"]
RECIPE = Path(__file__).parents[2] / "docs" / "recipes" / "home-assistant.md"
AT = "2026-11-22T10:00:00.000000Z"


def rendered(template: str, message: Message) -> str:
    """Return what Home Assistant makes of a message; it strips the result."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["to_json"] = json.dumps
    return environment.from_string(template).render(value_json=json.loads(encode(message))).strip()


def of(component: str, unique: str) -> dict[str, Any]:
    (found,) = (
        message for topic, message in MESSAGES.items() if f"/{component}/" in topic and message["unique_id"] == f"edgepose.drone-7.{unique}"
    )
    return found


def test_keys_are_those_that_home_assistant_accepts() -> None:
    for topic, message in MESSAGES.items():
        assert set(message) - {"origin", "default_entity_id"} <= set(ACCEPTED[topic.split("/")[1]]), topic
        assert set(message["device"]) <= set(ACCEPTED["device"])
        assert set(message["origin"]) <= set(ACCEPTED["origin"])


@pytest.mark.skipif("HOME_ASSISTANT_PYTHON" not in os.environ, reason="HOME_ASSISTANT_PYTHON names no Python that has Home Assistant")
def test_every_message_passes_home_assistants_own_schema() -> None:
    tool = Path(__file__).parents[2] / "tools" / "check_home_assistant.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [os.environ["HOME_ASSISTANT_PYTHON"], str(tool)],
        input=json.dumps(MESSAGES),
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(KEYS.read_text())


def test_topics_and_identifiers_are_valid_and_each_is_there_once() -> None:
    for topic in MESSAGES:
        assert re.fullmatch(r"homeassistant/\w+/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config", topic)
        assert is_discovery(topic)
        assert matches_any(discovery_topics(sample_config().mqtt, "drone-7"), topic)
    identifiers = [message["unique_id"] for message in MESSAGES.values() if "unique_id" in message]
    assert len(identifiers) == len(set(identifiers)) == 2 * 5 + 2  # two cameras and three zones, and the events of two cameras
    assert not is_discovery("homeassistant/sensor/drone-7/temperature/config")
    assert not is_discovery("config")


def test_entities_have_the_ids_that_the_recipe_names() -> None:
    entities = {message["default_entity_id"] for message in MESSAGES.values() if "default_entity_id" in message}
    assert entities == {f"{topic.split('/')[1]}.{message['object_id']}" for topic, message in MESSAGES.items() if "object_id" in message}
    named = set(re.findall(r"(?:binary_sensor|sensor|event)\.drone_7_\w+", RECIPE.read_text()))
    assert named
    assert named <= entities


def test_occupancy_and_people_are_read_from_the_messages() -> None:
    for zone, unique in ((None, "front"), ("door", "front.zone.door"), ("meadow", "front.zone.meadow")):
        sensor, occupied = of("sensor", f"{unique}.people"), of("binary_sensor", f"{unique}.occupancy")
        address = "occupancy" if zone is None else f"zones/{zone}/occupancy"
        assert sensor["state_topic"] == occupied["state_topic"] == f"edgepose/drone-7/cameras/front/{address}"
        for count, state in ((0, "OFF"), (2, "ON")):
            message = occupancy_message("front", zone, Occupancy(count, 5, 3), 0)
            assert (rendered(sensor["value_template"], message), rendered(occupied["value_template"], message)) == (str(count), state)


def test_an_entity_is_available_while_device_and_camera_are() -> None:
    entities = [message for message in MESSAGES.values() if "unique_id" in message]
    for message in entities:
        assert message["availability_mode"] == "all"
        (device, of_device), (camera, of_camera) = ((one["topic"], one["value_template"]) for one in message["availability"])
        assert device == "edgepose/drone-7/status"
        assert re.fullmatch(r"edgepose/drone-7/cameras/(front|back_2)/status", camera)
        for state, expected in (("online", "online"), ("stopped", "offline"), ("offline", "offline")):
            assert rendered(of_device, StatusMessage(state=state, reason="", session="", at=AT)) == expected  # type: ignore[arg-type]
        for state, expected in (("streaming", "online"), ("connecting", "offline"), ("stalled", "offline"), ("failed", "offline")):
            assert rendered(of_camera, CameraStatusMessage(camera="front", state=state, epoch=0, at=AT)) == expected  # type: ignore[arg-type]


EVENTS = [
    (sample_event(), "fallen", "front"),
    (sample_event(kind="entered"), "entered", "front"),
    (sample_event(kind="zone_entered", zone="door"), "zone_entered", "front door"),
    (sample_event(kind="loitering", zone="a_b.c"), "loitering", "front a_b.c"),
    (sample_event(kind="line_crossed", line="gate", direction="to_left"), "line_crossed", "front gate"),
    (sample_event(kind="zone_left", zone="meadow"), "zone_left", "front meadow"),
    (sample_event(kind="line_crossed", line="fence", direction="to_right"), "line_crossed", "front fence"),
]


@pytest.mark.parametrize(("event", "kind", "subtype"), EVENTS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_event_fires_exactly_its_trigger(event, kind: str, subtype: str) -> None:
    message = event_message(event)
    triggers = [message for topic, message in MESSAGES.items() if "/device_automation/" in topic]
    assert all(trigger["topic"] in (f"edgepose/drone-7/cameras/{camera}/events" for camera in ("front", "back_2")) for trigger in triggers)
    front = [trigger for trigger in triggers if "/front/" in trigger["topic"]]
    fired = [(one["type"], one["subtype"]) for one in front if rendered(one["value_template"], message) == one["payload"]]
    assert fired == [(kind, subtype)]
    entity = of("event", "front.events")
    attributes = json.loads(rendered(entity["value_template"], message))
    assert attributes["event_type"] == kind
    assert kind in entity["event_types"]
    assert attributes["track"] == 7


def test_places_on_the_map_alone_make_events_of_zones_and_lines() -> None:
    config = replace(sample_config(), cameras={"front": replace(sample_config().cameras["front"], zones={}, lines={})})
    announced = discovery(config, "drone-7", WorldPlaces(zones={"meadow": []}))
    types = json.loads(announced["homeassistant/event/drone-7/edgepose__front__events/config"])["event_types"]
    assert {"zone_entered", "zone_left", "loitering"} <= set(types)
    assert "line_crossed" not in types


def test_kinds_that_cannot_happen_are_not_announced() -> None:
    assert "zone_entered" not in of("event", "back_2.events")["event_types"]
    quiet = replace(sample_config(), events=EventsConfig(disabled=["waving"]))
    assert not [topic for topic in discovery(quiet, "drone-7") if "waving" in topic]
    assert discovery(replace(sample_config(), mqtt=MqttConfig()), "drone-7") == {}
    assert discovery(Config(mqtt=MqttConfig(home_assistant=HomeAssistantConfig(enabled=True))), "drone-7") == {}


def test_a_device_name_that_home_assistant_does_not_accept_is_refused() -> None:
    check_discovery(MqttConfig(), "drone_7-a")
    with pytest.raises(ConfigError, match=r"'drone\.7' cannot be a node id"):
        check_discovery(MqttConfig(), "drone.7")
