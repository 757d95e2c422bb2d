"""Pieces of the page: tables, figures, legends, numbers."""

from collections.abc import Sequence
from html import escape

from edgepose_export.report.svg import SERIES

_CLOSE = 0.0005
"""Differences below this are none."""


def number(value: object, digits: int = 3) -> str:
    """Return a number with fixed digits; a dash where there is none."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "–"


def percent(value: object) -> str:
    """Return a share in percent; a dash where there is none."""
    return f"{value:.0%}".replace("%", " %") if isinstance(value, int | float) else "–"


def change(value: object, reference: object, *, more_is_better: bool = True) -> str:
    """Return the difference from the reference, small and colored; the sign says it without color."""
    if not (isinstance(value, int | float) and isinstance(reference, int | float)):
        return ""
    difference = value - reference
    if abs(difference) < _CLOSE:
        return "<small>= 0.000</small>"
    kind = "better" if (difference > 0) == more_is_better else "worse"
    arrow = "▲" if difference > 0 else "▼"
    return f'<small class="{kind}">{arrow} {difference:+.3f}</small>'.replace("-", "−")


def name_html(text: str) -> str:
    """Return a name that may break after its joint and its dashes."""
    return escape(text).replace("+", "+<wbr>").replace("-", "-<wbr>")


def table(head: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    """Return a table that scrolls by itself where it is wide.

    Args:
        head: headings, the first one for the names.
        rows: name, explanation, and cells as HTML.
    """
    top = "".join(f'<th scope="col">{name_html(text)}</th>' for text in head)
    lines = []
    for name, meaning, cells in rows:
        small = f"<small>{escape(meaning)}</small>" if meaning else ""
        lines.append(f'<tr><th scope="row">{escape(name)}{small}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def figure(title: str, text: str, chart: str, numbers: str = "") -> str:
    """Return a chart with its title, one sentence about how to read it, and its numbers, which open on demand."""
    more = f"<details><summary>Numbers</summary>{numbers}</details>" if numbers else ""
    return f"<figure><figcaption><b>{escape(title)}</b><span>{escape(text)}</span></figcaption>{chart}{more}</figure>"


def charts(figures: Sequence[str]) -> str:
    """Return figures side by side where there is room."""
    return f'<div class="charts">{"".join(figures)}</div>'


def legend(names: Sequence[str]) -> str:
    """Return which line belongs to which column."""
    items = []
    for index, name in enumerate(names):
        line = f'<line class="line c{index % SERIES}" x1="1" y1="5" x2="29" y2="5"/>'
        items.append(f'<li class="c{index % SERIES}"><svg viewBox="0 0 30 10" aria-hidden="true">{line}</svg>{escape(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def part_legend(names: Sequence[tuple[int, str]]) -> str:
    """Return which color belongs to which part of a bar."""
    items = "".join(f'<li><i class="p{index}"></i>{escape(name)}</li>' for index, name in names)
    return f'<ul class="legend">{items}</ul>'


def section(anchor: str, title: str, lead: str, content: str) -> str:
    """Return a section of the page; `lead` is plain text."""
    return f'<section><h2 id="{anchor}">{escape(title)}</h2><p class="lead">{escape(lead)}</p>{content}</section>'
