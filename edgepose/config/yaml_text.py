"""Bounded reader of YAML text: without bounds, a file of a few lines can expand to more values than fit into memory.

Aliases of aliases multiply, nesting can be as deep as the text is long, and an alias can lie inside its own anchor. The parser's
events show all three before anything is built.
"""

from typing import Any

import yaml

_MAXIMUM_DEPTH = 24  # the configuration's own sections and lists need 6
_MAXIMUM_VALUES = 20_000  # polygons of 64 corners for hundreds of zones


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
