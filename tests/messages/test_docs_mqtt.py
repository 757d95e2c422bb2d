"""Every topic, field, value and cause is documented in docs/mqtt.md, and nothing else is."""

import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from edgepose.messages import flight_structs
from edgepose.messages import structs as messages
from edgepose.messages.command_requests import REQUESTS
from edgepose.messages.schema import TOPICS, json_schema
from edgepose.mqtt.outbox import Cause
from edgepose.person import KEYPOINT_NAMES

TEXT = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text()
SECTIONS = {match[1]: match[2] for match in re.finditer(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)}
TABLES: dict[str, list[type[msgspec.Struct]]] = {
    "poses": [messages.PosesMessage, messages.PersonMessage, flight_structs.GroundMessage, flight_structs.AircraftMessage],
    "events": [messages.EventMessage],
    "occupancy": [messages.OccupancyMessage],
    "zone occupancy": [messages.ZoneOccupancyMessage],
    "status": [messages.StatusMessage],
    "info": [
        messages.InfoMessage,
        messages.ModelMessage,
        messages.BackendMessage,
        messages.RefinerMessage,
        messages.PosesInfoMessage,
        messages.PrivacyInfoMessage,
        messages.CameraMessage,
    ],
    "health": [
        messages.HealthMessage,
        messages.CameraHealthMessage,
        messages.RefineHealthMessage,
        messages.WebhookHealthMessage,
        flight_structs.HeatHealthMessage,
        flight_structs.FlightHealthMessage,
        messages.QuantilesMessage,
    ],
    "camera status": [messages.CameraStatusMessage],
    "bundle": [messages.BundleMessage],
    "reply": [messages.CommandReplyMessage, messages.SnapshotMessage],
}
"""Structs by section, in the order of the section's tables."""


def tables(section):
    """Return the rows of each table of a section, without header and rule, with stripped cells."""
    found = re.findall(r"(?:^\|.*\n)+", SECTIONS[section], re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]] for table in found]


def test_every_topic_is_documented_with_its_quality_of_service():
    rows = {row[0].strip("`"): row for row in tables("Topics")[0]}
    assert set(rows) == {topic.address for topic in TOPICS}
    for topic in TOPICS:
        assert rows[topic.address][1] == str(topic.qos)
        assert rows[topic.address][2].startswith("yes" if topic.retained else "no")


def test_every_struct_has_a_table():
    structs = {value for value in vars(messages).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)}
    assert {struct for table in TABLES.values() for struct in table} == {
        struct for struct in structs if not struct.__name__.startswith("_")
    }


@pytest.mark.parametrize("section", TABLES)
def test_exactly_the_fields_are_documented_with_their_types(section):
    assert len(tables(section)) == len(TABLES[section])
    for struct, table in zip(TABLES[section], tables(section), strict=True):
        schema = msgspec.json.schema(struct)["$defs"][struct.__name__]
        assert [row[0].strip("`") for row in table] == list(schema["properties"])
        for name, kind, meaning in table:
            assert len(meaning) > 0
            field = next(field for field in msgspec.structs.fields(struct) if field.name == name.strip("`"))
            assert (", optional" in kind) == (msgspec.UNSET is field.default), f"{struct.__name__}.{field.name}"
            assert kind.split(",")[0].split(" of ")[0] == expected_kind(schema["properties"][field.name]), f"{struct.__name__}.{field.name}"


def test_every_command_is_documented_with_its_fields():
    documented: dict[str, list[str]] = {}
    name = ""
    for row in tables("Commands")[0]:
        name = row[0].strip("`") or name  # only the first row of a command names it
        documented.setdefault(name, []).extend([row[1].strip("`")] if row[1] else [])
    assert documented == {name: list(request.__struct_fields__) for name, request in REQUESTS.items()}


def expected_kind(property_schema):
    if property_schema.get("format") == "date-time":
        return "time"
    if "QuantilesMessage" in property_schema.get("$ref", "") or "QuantilesMessage" in str(property_schema.get("anyOf", "")):
        return "distribution"
    if "$ref" in property_schema or "anyOf" in property_schema:
        return "object"
    if "enum" in property_schema:
        return "string" if isinstance(property_schema["enum"][0], str) else "integer"
    return property_schema["type"]


def test_every_enum_value_is_documented():
    for topic in TOPICS:
        section = SECTIONS[topic.name.replace("-", " ")]
        for struct in json_schema(topic.name)["$defs"].values():
            for name, field in struct["properties"].items():
                for value in field.get("enum", []):
                    assert str(value) in section, f"{topic.name}: {name} {value}"


def test_every_keypoint_is_documented_in_order():
    listed = re.search(r"COCO order: (.*?)\.", SECTIONS["poses"], re.DOTALL)
    assert listed is not None
    assert listed[1].replace("\n", " ") == ", ".join(f"{index} {name.replace('_', ' ')}" for index, name in enumerate(KEYPOINT_NAMES))


def test_every_cause_of_loss_is_documented():
    assert [row[0].strip("`") for row in tables("What is lost, and why")[0]] == list(get_args(Cause))


def test_the_example_is_the_beginning_of_the_golden_message():
    example = re.search(r"poses (\{.*),…\]\}\]\}$", TEXT, re.MULTILINE)
    assert example is not None
    golden = (Path(__file__).parent / "golden" / "poses.jsonl").read_text()
    assert golden.startswith(example[1])
    assert json.loads(golden)
