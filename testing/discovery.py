"""Discovery messages of a sample configuration: `python -m testing.discovery` writes them as JSON for tools/check_home_assistant.py."""

import json
from pathlib import Path
from typing import Any

from edgepose.config.aircraft import FlightConfig, MountConfig
from edgepose.config.schema import CameraConfig, Config, HomeAssistantConfig, MqttConfig
from edgepose.ground import WorldPlaces
from edgepose.messages.home_assistant import discovery

KEYS = Path(__file__).parent / "home_assistant_keys.json"
"""Keys that Home Assistant accepts, by component, with its version; written by `make home-assistant`."""

_CORNERS = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]
_ON_MAP = WorldPlaces(zones={"meadow": _CORNERS}, lines={"fence": ((0.0, 0.0), (1.0, 1.0))})


def sample_config() -> Config:
    """Return a configuration whose names have all characters that names may have."""
    return Config(
        device="drone-7",
        cameras={
            "front": CameraConfig(
                source="x",
                zones={"door": _CORNERS, "a_b.c": _CORNERS},
                lines={"gate": ((0.0, 0.0), (1.0, 1.0))},
                mount=MountConfig(field_of_view_deg=60),
            ),
            "back_2": CameraConfig(source="y"),
        },
        flight=FlightConfig(source="fixed"),
        mqtt=MqttConfig(home_assistant=HomeAssistantConfig(enabled=True)),
    )


def sample_discovery() -> dict[str, dict[str, Any]]:
    """Return its discovery messages, with places on the map, by topic."""
    return {topic: json.loads(payload) for topic, payload in discovery(sample_config(), "drone-7", _ON_MAP).items()}


if __name__ == "__main__":
    print(json.dumps(sample_discovery()))
