"""Keys that no bundle sets: those through which an operator keeps access to the device, and those that the device's own file pins."""

from collections.abc import Iterable, Iterator

import yaml

from edgepose.config.diff import AT_NEXT_START
from edgepose.config.yaml_text import compose
from edgepose.errors import ConfigError

_MQTT = ("enabled", "host", "port", "protocol", "username", "password_file", "prefix", "tls")

NEVER = ("device", "bundles", "commands", *AT_NEXT_START, *(f"mqtt.{key}" for key in _MQTT))
"""Who signs and for whom, how the device is reached, who may command it; and what only another start would put to the test."""


def refuse_pinned(text: str, pinned: Iterable[str]) -> None:
    """Raise ConfigError where the configuration of a bundle sets a key that is pinned.

    Args:
        text: YAML of the bundle.
        pinned: keys and sections that the device pins, beside `NEVER`.
    """
    try:
        root = compose(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"the configuration of the bundle is not valid YAML{where}; expected keys as in a configuration file") from error
    pins = [*NEVER, *pinned]
    for key in _keys(root, ""):
        pin = next((pin for pin in pins if f"{key}.".startswith(f"{pin}.")), None)
        if pin is not None:
            raise ConfigError(f"the bundle sets {key}, and {pin} is pinned on this device; expected a bundle without it")


def _keys(node: yaml.Node | None, prefix: str) -> Iterator[str]:
    """Yield the dotted names of all values."""
    if not isinstance(node, yaml.MappingNode):
        if prefix:
            yield prefix
        return
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else "?"
        yield from _keys(value, f"{prefix}.{name}" if prefix else name)
