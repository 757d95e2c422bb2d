"""Validates the discovery messages with Home Assistant's own schemas, in an environment that has Home Assistant (`make home-assistant`).

The environment has no edgepose: the messages come from the standard input, as JSON objects by topic. On the standard output is what the
checked-in test relies on: the version, and the keys that each component accepts. Unknown keys pass the schemas, so keys are listed as well.
"""

import importlib
import json
import re
import sys
from typing import Any

COMPONENTS = ("binary_sensor", "sensor", "event")


def keys_of(schema: Any) -> set[str]:
    """Return the keys that a schema of voluptuous accepts, through `All`, `Any` and dictionaries."""
    if isinstance(schema, dict):
        return {str(getattr(key, "schema", key)) for key in schema}
    if hasattr(schema, "validators"):
        return set().union(*(keys_of(one) for one in schema.validators))
    return keys_of(schema.schema) if hasattr(schema, "schema") else set()


def main() -> None:
    """Validate all messages; the exit code is 1 where one is refused."""
    from homeassistant.components.mqtt import device_trigger, discovery, mixins
    from homeassistant.const import __version__

    schemas = {name: importlib.import_module(f"homeassistant.components.mqtt.{name}").DISCOVERY_SCHEMA for name in COMPONENTS}
    schemas["device_automation"] = device_trigger.TRIGGER_DISCOVERY_SCHEMA
    accepted = {name: sorted(keys_of(schema)) for name, schema in schemas.items()}
    accepted["device"] = sorted(keys_of(mixins.MQTT_ENTITY_DEVICE_INFO_SCHEMA))
    accepted["origin"] = sorted(keys_of(discovery.MQTT_ORIGIN_INFO_SCHEMA))
    refused = 0
    messages = json.load(sys.stdin)
    for topic, message in messages.items():
        try:
            matched = discovery.TOPIC_MATCHER.fullmatch(topic.split("/", 1)[1])
            assert matched is not None, "the topic is none of discovery"
            component = re.split("/", topic)[1]
            if "origin" in message:
                discovery.MQTT_ORIGIN_INFO_SCHEMA(message["origin"])
            schemas[component](dict(message))
            # Device triggers have no origin in their schema: discovery itself reads and removes it. The other key is newer than it.
            unknown = set(message) - set(accepted[component]) - {"origin", "default_entity_id"}
            assert not unknown, f"unknown keys {unknown}"
        except Exception as error:
            refused += 1
            print(f"{topic}: {error}", file=sys.stderr)
    print(json.dumps({"version": __version__, "keys": accepted}, indent=1, sort_keys=True))
    print(f"Home Assistant {__version__}: {len(messages) - refused} of {len(messages)} discovery messages are valid", file=sys.stderr)
    raise SystemExit(1 if refused else 0)


if __name__ == "__main__":
    main()
