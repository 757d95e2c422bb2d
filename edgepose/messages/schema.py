"""The contract as documents for other programs: every topic, its JSON Schema, and an AsyncAPI 3 description of all."""

from dataclasses import dataclass
from typing import Any

import msgspec

from edgepose.errors import UsageError
from edgepose.messages.command_requests import REQUESTS
from edgepose.messages.structs import (
    SCHEMA_VERSION,
    CameraStatusMessage,
    CommandReplyMessage,
    EventMessage,
    HealthMessage,
    InfoMessage,
    PosesMessage,
    StatusMessage,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: short name, as `edgepose schema` takes it.
        address: everything after `<prefix>/<device>/`; `{camera}` stands for a camera's name.
        message: struct of the payload.
        qos: MQTT quality of service, 0 or 1.
        retained: whether a late subscriber gets the newest message at once.
        heard: whether the daemon hears it; else it publishes it.
    """

    name: str
    address: str
    message: type[msgspec.Struct]
    qos: int
    retained: bool
    heard: bool = False


TOPICS = (
    Topic("status", "status", StatusMessage, 1, True),
    Topic("info", "info", InfoMessage, 1, True),
    Topic("health", "health", HealthMessage, 0, False),
    Topic("camera-status", "cameras/{camera}/status", CameraStatusMessage, 1, True),
    Topic("poses", "cameras/{camera}/poses", PosesMessage, 0, False),
    Topic("events", "cameras/{camera}/events", EventMessage, 1, False),
    Topic("reply", "reply/{command}", CommandReplyMessage, 1, False),
)
"""All topics that the daemon publishes."""

COMMANDS = tuple(Topic(f"command-{name}", f"command/{name}", request, 1, False, heard=True) for name, request in REQUESTS.items())
"""All topics that the daemon hears, where commands are enabled."""


def topic_address(name: str, camera: str | None = None) -> str:
    """Everything after `<prefix>/<device>/` of a topic by its short name, such as `cameras/front/poses` of `poses`."""
    return _topic(name).address.replace("{camera}", camera or "{camera}")


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of one topic's payload by its short name; UsageError lists the names there are."""
    schema = msgspec.json.schema(_topic(name).message)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0 document of all topics, with MQTT bindings."""
    topics = TOPICS + COMMANDS
    references, schemas = msgspec.json.schema_components([topic.message for topic in topics], ref_template="#/components/schemas/{name}")
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic, reference in zip(topics, references, strict=True):
        parameters = {
            "prefix": {"description": "configuration key mqtt.prefix", "default": "edgepose"},
            "device": {"description": "configuration key device; the host name where absent"},
        }
        if "{camera}" in topic.address:
            parameters["camera"] = {"description": "name of the camera in the configuration"}
        if "{command}" in topic.address:
            parameters["command"] = {"description": "name of the command, which may ask for another topic (MQTT 5: response topic)"}
        channels[topic.name] = {
            "address": "{prefix}/{device}/" + topic.address,
            "description": topic.message.__doc__,
            "parameters": parameters,
            "messages": {topic.name: {"$ref": f"#/components/messages/{topic.name}"}},
        }
        operations[topic.name] = {
            "action": "receive" if topic.heard else "send",
            "channel": {"$ref": f"#/channels/{topic.name}"},
            "bindings": {"mqtt": {"qos": topic.qos, "retain": topic.retained, "bindingVersion": "0.2.0"}},
        }
        if topic.heard:
            operations[topic.name]["reply"] = {"channel": {"$ref": "#/channels/reply"}}
        messages[topic.name] = {"name": topic.name, "contentType": "application/json", "payload": reference}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "edgepose",
            "version": str(SCHEMA_VERSION),
            "description": "People and their keypoints, from the edge, over MQTT.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _topic(name: str) -> Topic:
    for topic in TOPICS + COMMANDS:
        if topic.name == name:
            return topic
    raise UsageError(f"There is no message named {name!r}; there are {', '.join(topic.name for topic in TOPICS + COMMANDS)}.")
