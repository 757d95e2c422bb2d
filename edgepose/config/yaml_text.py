"""Bounded reader of YAML text: without bounds, a file of a few lines can expand to more values than fit into memory.

Aliases of aliases multiply, nesting can be as deep as the text is long, and an alias can lie inside its own anchor. The parser's
events show all three before anything is built. The parser itself takes seconds for each megabyte, so the size is bounded first.
"""

from pathlib import Path
from typing import Any

import yaml

from edgepose.errors import ConfigError

_MAXIMUM_DEPTH = 24  # the configuration's own sections and lists need 6
_MAXIMUM_VALUES = 20_000  # polygons of 64 corners for hundreds of zones
_LONGEST_NUMBER = 64  # characters; Python refuses to convert very long ones, and takes long for sexagesimal ones

LIMIT_BYTES = 1024 * 1024
"""Longest text that is parsed."""


def read_bounded(path: Path) -> str:
    """Return the text of a file.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        ConfigError: it is longer than `LIMIT_BYTES`; no more than that is read.
    """
    with path.open("rb") as file:
        data = file.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        raise ConfigError(f"configuration file {path} is larger than {LIMIT_BYTES // 1024} KiB; expected one of a few")
    return data.decode()


def value_of(node: yaml.Node) -> Any:
    """Return what a node of the tree stands for; its text where that cannot be converted."""
    loader = _Loader("")
    try:
        return loader.construct_object(node, deep=True)
    except yaml.YAMLError:
        return node.value if isinstance(node, yaml.ScalarNode) else None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """A loader for which a number or date that cannot be converted is text, which no key for numbers accepts."""

    def convert(self, node: yaml.ScalarNode) -> Any:
        """Return the number or date of a node, or its text."""
        if len(node.value) > _LONGEST_NUMBER:
            return node.value
        try:
            return yaml.SafeLoader.yaml_constructors[node.tag](self, node)
        except (ValueError, OverflowError, AttributeError):  # such as the 45th of the 13th month, or `!!int abc`
            return node.value


for _tag in ("int", "float", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.convert)


def parse_value(text: str) -> Any:
    """Return what a short YAML text stands for; the text itself where it is not YAML or exceeds the bounds."""
    if len(text) > LIMIT_BYTES:
        return text
    try:
        root = compose(text)
    except yaml.YAMLError:
        return text
    return None if root is None else value_of(root)


def compose(text: str) -> yaml.Node | None:
    """Return the node tree of a text, None where the text is empty.

    Raises:
        yaml.MarkedYAMLError: the text is not YAML, or exceeds the bounds.
    """
    _check(text)
    root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return root


def _check(text: str) -> None:
    sizes: dict[str, int] = {}  # values below each anchor, with aliases expanded
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and number of values before it
    values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise _refused(f"the alias *{event.anchor} lies inside the value that it stands for", event.start_mark)
            values += sizes.get(str(event.anchor), 1)  # an unknown alias is refused when the tree is built
        elif isinstance(event, yaml.NodeEvent):
            before, values = values, values + 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, before))
                if len(open_nodes) > _MAXIMUM_DEPTH:
                    raise _refused(f"nested more than {_MAXIMUM_DEPTH} levels deep", event.start_mark)
            elif event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        if values > _MAXIMUM_VALUES:
            raise _refused(f"more than {_MAXIMUM_VALUES} values with aliases expanded", event.start_mark)


def _refused(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
