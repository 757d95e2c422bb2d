"""Machine-readable description of the MQTT contract: all topics, the JSON Schema of each, and one AsyncAPI 3 document."""

from typing import Any

import msgspec

from edgepose.errors import UsageError
from edgepose.messages.command_requests import REQUESTS
from edgepose.messages.structs import (
    SCHEMA_VERSION,
    BundleMessage,
    CameraStatusMessage,
    CommandReplyMessage,
    EventMessage,
    HealthMessage,
    InfoMessage,
    OccupancyMessage,
    PosesMessage,
    StatusMessage,
    ZoneOccupancyMessage,
)


class Topic(msgspec.Struct, frozen=True):
    """An MQTT topic and its payload.

    Attributes:
        name: short name, as accepted by `edgepose schema`.
        address: levels after `<prefix>/<device>/`; `{camera}`, `{zone}` and `{command}` stand for the name of one.
        message: struct that describes the payload.
        qos: MQTT quality of service, 0 or 1.
        retained: whether the broker keeps the newest message for late subscribers.
        subscribed: whether the daemon subscribes to the topic; it publishes to all others.
    """

    name: str
    address: str
    message: type[msgspec.Struct]
    qos: int
    retained: bool
    subscribed: bool = False


TOPICS = (
    Topic("status", "status", StatusMessage, 1, True),
    Topic("info", "info", InfoMessage, 1, True),
    Topic("health", "health", HealthMessage, 0, False),
    Topic("camera-status", "cameras/{camera}/status", CameraStatusMessage, 1, True),
    Topic("poses", "cameras/{camera}/poses", PosesMessage, 0, False),
    Topic("events", "cameras/{camera}/events", EventMessage, 1, False),
    Topic("occupancy", "cameras/{camera}/occupancy", OccupancyMessage, 1, True),
    Topic("zone-occupancy", "cameras/{camera}/zones/{zone}/occupancy", ZoneOccupancyMessage, 1, True),
    Topic("bundle", "bundle", BundleMessage, 1, True),
    Topic("reply", "reply/{command}", CommandReplyMessage, 1, False),
)
"""The topics that the daemon publishes to."""

COMMANDS = tuple(Topic(f"command-{name}", f"command/{name}", request, 1, False, subscribed=True) for name, request in REQUESTS.items())
"""The topics that the daemon subscribes to when commands are enabled."""


def topic_address(name: str, camera: str | None = None, zone: str | None = None) -> str:
    """Return the levels of a topic after `<prefix>/<device>/`, such as `cameras/front/poses` for `poses` of the camera `front`.

    Args:
        name: short name of the topic.
        camera: name of the camera; without it, `{camera}` stays in the address.
        zone: name of the zone; without it, `{zone}` stays in the address.

    Raises:
        UsageError: there is no such topic.
    """
    return _topic(name).address.replace("{camera}", camera or "{camera}").replace("{zone}", zone or "{zone}")


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a topic's payload.

    Args:
        name: short name of the topic.

    Raises:
        UsageError: there is no such topic; the text lists those that exist.
    """
    schema = msgspec.json.schema(_topic(name).message)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of all topics, with MQTT bindings."""
    topics = TOPICS + COMMANDS
    references, schemas = msgspec.json.schema_components([topic.message for topic in topics], ref_template="#/components/schemas/{name}")
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic, reference in zip(topics, references, strict=True):
        parameters = {
            "prefix": {"description": "topic prefix: configuration key mqtt.prefix", "default": "edgepose"},
            "device": {"description": "name of the device: configuration key device, by default the host name"},
        }
        if "{camera}" in topic.address:
            parameters["camera"] = {"description": "name of the camera in the configuration"}
        if "{zone}" in topic.address:
            parameters["zone"] = {"description": "name of the zone in the configuration"}
        if "{command}" in topic.address:
            parameters["command"] = {
                "description": "name of the command; a command with a response topic (MQTT 5) is answered there instead"
            }
        channels[topic.name] = {
            "address": "{prefix}/{device}/" + topic.address,
            "description": topic.message.__doc__,
            "parameters": parameters,
            "messages": {topic.name: {"$ref": f"#/components/messages/{topic.name}"}},
        }
        operations[topic.name] = {
            "action": "receive" if topic.subscribed else "send",
            "channel": {"$ref": f"#/channels/{topic.name}"},
            "bindings": {"mqtt": {"qos": topic.qos, "retain": topic.retained, "bindingVersion": "0.2.0"}},
        }
        if topic.subscribed:
            operations[topic.name]["reply"] = {"channel": {"$ref": "#/channels/reply"}}
        messages[topic.name] = {"name": topic.name, "contentType": "application/json", "payload": reference}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "edgepose",
            "version": str(SCHEMA_VERSION),
            "description": "Human pose on the edge, from a camera stream to MQTT.",
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
    raise UsageError(f"There is no message named {name!r}; expected one of {', '.join(topic.name for topic in TOPICS + COMMANDS)}.")
