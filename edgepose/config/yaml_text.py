"""Reads YAML text within bounds: a file of a few lines can otherwise stand for more values than any memory holds.

Aliases of aliases multiply, nesting goes as deep as the text is long, and an alias may lie inside of what it stands for. All three are
seen in the parser's events, before anything is built of them.
"""

from typing import Any

import yaml

_DEEPEST = 24  # the configuration's own sections and lists need 6
_MOST_VALUES = 20_000  # polygons of 64 corners for hundreds of zones


def compose(text: str) -> yaml.Node | None:
    """The tree of the text, None where it is empty.

    Raises:
        yaml.MarkedYAMLError: it is no YAML, or out of bounds.
    """
    _check(text)
    root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return root


def _check(text: str) -> None:
    sizes: dict[str, int] = {}  # of what is anchored, counted with all that its aliases stand for
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and how many values there were before it
    values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise _refused(f"the alias *{event.anchor} lies inside of what it stands for", event.start_mark)
            values += sizes.get(str(event.anchor), 1)  # an unknown one is refused when the tree is built
        elif isinstance(event, yaml.NodeEvent):
            before, values = values, values + 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, before))
                if len(open_nodes) > _DEEPEST:
                    raise _refused(f"nested more than {_DEEPEST} deep", event.start_mark)
            elif event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        if values > _MOST_VALUES:
            raise _refused(f"more than {_MOST_VALUES} values, aliases counted for what they stand for", event.start_mark)


def _refused(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
