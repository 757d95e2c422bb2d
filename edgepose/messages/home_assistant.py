"""Discovery messages for Home Assistant, which makes entities and triggers of them without YAML.

Source: Home Assistant, "MQTT", "MQTT Discovery"; binary_sensor, sensor, event and device_automation. `tools/check_home_assistant.py`
validates what is written here with Home Assistant's own schemas.
"""

import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from edgepose import __version__
from edgepose.config.schema import Config, MqttConfig
from edgepose.errors import ConfigError
from edgepose.event import EventKind
from edgepose.ground import WorldPlaces
from edgepose.messages.camera_places import NOWHERE, CameraPlaces, camera_places
from edgepose.messages.schema import topic_address

BIRTH = b"online"
"""Payload of the message that Home Assistant publishes when it has started."""

_OWN = "edgepose__"
"""Beginning of the object id of every discovery topic of ours: the device's node id may have topics of other programs."""

_ZONE_KINDS = ("zone_entered", "zone_left", "loitering")
_LINE_KINDS = ("line_crossed",)
_DEVICE = re.compile(r"[A-Za-z0-9_-]+")


def birth_topic(mqtt: MqttConfig) -> str | None:
    """Return the topic of Home Assistant's birth message; None where discovery is off."""
    return f"{mqtt.home_assistant.prefix.strip('/')}/status" if mqtt.home_assistant.enabled else None


def discovery_topics(mqtt: MqttConfig, device: str) -> list[str]:
    """Return filters of all topics on which a device announces itself; none where discovery is off."""
    return [f"{mqtt.home_assistant.prefix.strip('/')}/+/{device}/+/config"] if mqtt.home_assistant.enabled else []


def is_discovery(topic: str) -> bool:
    """Return whether a topic of `discovery_topics` is one of this program, and of no other."""
    return topic.split("/")[-2:-1] != [] and topic.split("/")[-2].startswith(_OWN)


def check_discovery(mqtt: MqttConfig, device: str) -> None:
    """Check that a device can be announced.

    Raises:
        ConfigError: its name cannot be a node id in Home Assistant's topics.
    """
    if not _DEVICE.fullmatch(device):
        raise ConfigError(
            f"the device name {device!r} cannot be a node id of Home Assistant (mqtt.home_assistant.enabled); expected letters, digits,"
            " '_' and '-' (key device)"
        )


def discovery(config: Config, device: str, on_map: WorldPlaces = NOWHERE) -> dict[str, bytes]:
    """Return the retained discovery messages of a device by topic; none where discovery is off.

    Args:
        config: in use.
        device: its name in topics.
        on_map: zones and lines on the map.
    """
    if not (config.mqtt.enabled and config.mqtt.home_assistant.enabled):
        return {}
    return dict(_Announcer(config, device, on_map).all())


class _Announcer:
    """The discovery messages of one configuration."""

    def __init__(self, config: Config, device: str, on_map: WorldPlaces) -> None:
        self._cameras = camera_places(config, on_map)
        self._device = device
        self._base = f"{config.mqtt.prefix.strip('/')}/{device}"
        self._prefix = config.mqtt.home_assistant.prefix.strip("/")
        self._kinds = [kind for kind in get_args(EventKind) if kind not in config.events.disabled]

    def all(self) -> Iterator[tuple[str, bytes]]:
        for places in self._cameras:
            for zone in (None, *places.zones):
                yield from self._occupancy(places.camera, zone)
            yield self._events(places)
            yield from self._triggers(places)

    def _occupancy(self, camera: str, zone: str | None) -> Iterator[tuple[str, bytes]]:
        """Yield occupancy and number of people of a camera, or of one of its zones."""
        place, parts = (camera, (camera,)) if zone is None else (f"{camera} {zone}", (camera, "zone", zone))
        address = topic_address("occupancy", camera) if zone is None else topic_address("zone-occupancy", camera, zone)
        state = {"state_topic": f"{self._base}/{address}"}
        occupied = {
            "name": f"{place} occupancy",
            "device_class": "occupancy",
            "value_template": "{{ 'ON' if value_json.occupied else 'OFF' }}",
        }
        count = {
            "name": f"{place} people",
            "icon": "mdi:account-group",
            "state_class": "measurement",
            "unit_of_measurement": "people",
            "value_template": "{{ value_json.count }}",
        }
        yield self._entity("binary_sensor", camera, (*parts, "occupancy"), state | occupied)
        yield self._entity("sensor", camera, (*parts, "people"), state | count)

    def _events(self, places: CameraPlaces) -> tuple[str, bytes]:
        """Return the entity that shows the last event of a camera, with its fields as attributes."""
        camera = places.camera
        return self._entity(
            "event",
            camera,
            (camera, "events"),
            {
                "name": f"{camera} event",
                "icon": "mdi:human",
                "event_types": [kind for kind, _ in self._kinds_and_places(places)],
                "state_topic": self._events_topic(camera),
                "value_template": "{{ dict(value_json, event_type=value_json.kind) | to_json }}",
                "qos": 1,
            },
        )

    def _triggers(self, places: CameraPlaces) -> Iterator[tuple[str, bytes]]:
        """Yield a device trigger for each kind of event, and for each zone or line that it is about."""
        camera = places.camera
        for kind, field in self._kinds_and_places(places):
            for place in [None] if field is None else getattr(places, f"{field}s"):
                message = {
                    "automation_type": "trigger",
                    "type": kind,
                    "subtype": camera if place is None else f"{camera} {place}",
                    "topic": self._events_topic(camera),
                    "payload": kind if place is None else f"{kind} {place}",
                    "value_template": "{{ value_json.kind }}" + ("" if place is None else f" {{{{ value_json.{field} | default('') }}}}"),
                    "qos": 1,
                }
                parts = (camera, kind) if place is None else (camera, kind, place)
                yield self._topic("device_automation", parts), self._encoded(message)

    def _kinds_and_places(self, places: CameraPlaces) -> list[tuple[str, str | None]]:
        """Return each kind of event that a camera can report, and the kind of place that it is about: zone, line or None."""
        kinds: list[tuple[str, str | None]] = []
        for kind in self._kinds:
            place = "zone" if kind in _ZONE_KINDS else "line" if kind in _LINE_KINDS else None
            if place is None or getattr(places, f"{place}s"):
                kinds.append((kind, place))
        return kinds

    def _events_topic(self, camera: str) -> str:
        return f"{self._base}/{topic_address('events', camera)}"

    def _entity(self, component: str, camera: str, parts: tuple[str, ...], fields: dict[str, Any]) -> tuple[str, bytes]:
        """Return topic and message of an entity that is available while both the device and its camera are."""
        name = ".".join((self._device, *parts))
        available = [
            (f"{self._base}/{topic_address('status')}", "online"),
            (f"{self._base}/{topic_address('camera-status', camera)}", "streaming"),
        ]
        object_id = re.sub(r"\W+", "_", name).lower()
        message = {
            "unique_id": f"edgepose.{name}",
            # The entity's id: the first is read from release 2025.10 on, the second up to 2026.3. Each ignores what it does not know.
            "default_entity_id": f"{component}.{object_id}",
            "object_id": object_id,
            **fields,
            # Anything but the good state is `offline`: Home Assistant ignores payloads that are neither.
            "availability": [
                {"topic": topic, "value_template": f"{{{{ 'online' if value_json.state == '{good}' else 'offline' }}}}"}
                for topic, good in available
            ],
            "availability_mode": "all",
        }
        return self._topic(component, parts), self._encoded(message)

    def _topic(self, component: str, parts: tuple[str, ...]) -> str:
        return f"{self._prefix}/{component}/{self._device}/{_OWN}{'__'.join(map(_escaped, parts))}/config"

    def _encoded(self, message: dict[str, Any]) -> bytes:
        device = {
            "identifiers": [f"edgepose.{self._device}"],
            "name": self._device,
            "manufacturer": "edgepose",
            "model": "pose estimation",
            "sw_version": __version__,
        }
        return msgspec.json.encode({**message, "device": device, "origin": {"name": "edgepose", "sw_version": __version__}})


def _escaped(name: str) -> str:
    """Return a name as letters, digits and '-', which Home Assistant accepts in topics; different names stay different."""
    return re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):02x}", name)
