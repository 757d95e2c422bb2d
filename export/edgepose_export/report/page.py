"""The page: one HTML file, which needs no other file, no other host and no script."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.person import SKELETON
from edgepose_export.report.accuracy_sections import (
    calibration_section,
    cards,
    curves_section,
    keypoints_section,
    sizes_section,
    summary_section,
)
from edgepose_export.report.cost_sections import boxes_section, latency_section, layers_section, robustness_section, size_section
from edgepose_export.report.html import name_html, number, section, table
from edgepose_export.report.measure import Report
from edgepose_export.report.worst import EmbeddedPicture

_NOTES = {"worst": "Worst pictures of all models", "lost": "Largest loss of a model against the first"}


def page(report: Report) -> str:
    """Return the report as an HTML page."""
    figures = report.figures
    columns = figures["columns"]
    parts = [
        summary_section(columns),
        curves_section(columns),
        keypoints_section(columns),
        sizes_section(columns),
        calibration_section(columns),
        robustness_section(columns),
        boxes_section(columns),
        latency_section(columns, figures["made"]["machine"]),
        size_section(columns),
        layers_section(columns),
        _pictures_section(figures, report.pictures),
        _words_section(),
    ]
    content = "".join(parts)
    title = ", ".join(column["name"] for column in columns)
    style = files("edgepose_export.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>Report: {escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{_header(figures, title)}{_navigation(content)}{_gate(figures['gate'])}"
        f"{cards(columns)}{content}{_footer(figures)}\n</main>\n</body>\n</html>\n"
    )


def _header(figures: dict[str, Any], title: str) -> str:
    data = figures["data"]
    return (
        f"<header><h1>{name_html(title)}</h1><p>These networks find the people in a picture and mark 17 keypoints on each: eyes, "
        f"shoulders, knees and so on. They were measured on {data['pictures']} pictures of <b>{escape(data['name'])}</b>, in which humans "
        f"labeled {data['people']} people.</p>"
        f'<p class="muted">edgepose {escape(figures["made"]["version"])}, {escape(figures["made"]["date"])}, '
        f"{escape(figures['made']['machine'])}</p></header>"
    )


def _navigation(content: str) -> str:
    """Return links to the sections that the page has."""
    links = []
    for part in content.split('<h2 id="')[1:]:
        anchor, _, rest = part.partition('">')
        links.append(f'<a href="#{anchor}">{rest.partition("</h2>")[0]}</a>')
    return f'<nav aria-label="Sections">{"".join(links)}</nav>'


def _gate(gate: dict[str, Any]) -> str:
    if gate["max_drop"] is None or not gate["drops"]:
        return ""
    kind = "passed" if gate["passed"] else "failed"
    losses = "; ".join(f"{escape(name)} {'loses' if drop > 0 else 'gains'} {abs(drop):.4f}" for name, drop in gate["drops"].items())
    return (
        f'<div class="gate {kind}"><b>{"Passed" if gate["passed"] else "Failed"}.</b> At most {gate["max_drop"]:g} AP may be lost against '
        f"{escape(gate['reference'])}: {losses}.</div>"
    )


def _pictures_section(figures: dict[str, Any], pictures: Sequence[EmbeddedPicture]) -> str:
    """Return the worst pictures: with skeletons where they are embedded, else by name."""
    names = [column["name"] for column in figures["columns"]]
    lead = "Quality of a picture: OKS of the people found, with people missed and finds of nobody as 0. From 0, all wrong, to 1, all right."
    rows = [
        (entry["file"], _NOTES[entry["note"]] if len(names) > 1 else "", [number(entry["quality"][name], 2) for name in names])
        for entry in figures["worst"]
    ]
    listed = table(["picture", *names], rows)
    if not pictures:
        more = "<p class='muted'>The pictures themselves are left out; <code>--embed 6</code> shows them with both skeletons.</p>"
        return section("worst", "Worst pictures", lead, listed + more)
    store = "".join(
        f'<image id="shot{index}" width="{picture.width}" height="{picture.height}" href="data:image/jpeg;base64,{picture.jpeg}"/>'
        for index, picture in enumerate(pictures)
    )
    wide = " wide" if len(names) > 1 else ""
    groups = []
    for note, heading in _NOTES.items():
        shots = "".join(_shot(index, picture) for index, picture in enumerate(pictures) if picture.note == note)
        if shots:
            groups.append(f'<h3>{heading}</h3><div class="shots{wide}">{shots}</div>')
    content = (
        "<p>White lines: what humans labeled. Yellow lines and boxes: what the network found and would report.</p>"
        f'<svg class="store" aria-hidden="true"><defs>{store}</defs></svg>{"".join(groups)}'
        f"<details><summary>Numbers</summary>{listed}</details>"
    )
    return section("worst", "Worst pictures", lead, content)


def _shot(index: int, picture: EmbeddedPicture) -> str:
    """Return a picture once for each model, with its skeletons."""
    width = max(picture.width, picture.height) / 160
    views = []
    for name, people in picture.found.items():
        drawn = [_bones(keypoints, "label", width) for keypoints in picture.labels]
        for box, keypoints in people:
            x1, y1, x2, y2 = (f"{value:.0f}" for value in box)
            drawn.append(f'<path class="bone find" stroke-width="{0.6 * width:.1f}" d="M{x1} {y1}H{x2}V{y2}H{x1}Z"/>')
            drawn.append(_bones(keypoints, "find", width))
        text = f"{name}: {len(people)} found"
        views.append(
            f'<div><svg viewBox="0 0 {picture.width} {picture.height}" role="img" aria-label="{escape(picture.file)}, {escape(text)}">'
            f'<use href="#shot{index}"/>{"".join(drawn)}</svg><small>{escape(text)}</small></div>'
        )
    title = f"<b>{escape(picture.file)}</b><span>{len(picture.labels)} labeled</span>"
    return f'<figure><figcaption>{title}</figcaption><div class="views">{"".join(views)}</div></figure>'


def _bones(person: NDArray[np.float32], kind: str, width: float) -> str:
    """Return the bones between known keypoints (17, 3) as one path, with a dark rim."""
    lines = "".join(
        f"M{person[a, 0]:.0f} {person[a, 1]:.0f}L{person[b, 0]:.0f} {person[b, 1]:.0f}"
        for a, b in SKELETON
        if person[a, 2] and person[b, 2]
    )
    if not lines:
        return ""
    shade = f'<path class="shade" stroke-width="{2.2 * width:.1f}" d="{lines}"/>'
    return f'{shade}<path class="bone {kind}" stroke-width="{width:.1f}" d="{lines}"/>'


def _words_section() -> str:
    words = (
        (
            "OKS",
            "object keypoint similarity: how alike two poses are, 0 to 1; a distance counts less on a large person, and on a hip",
        ),
        ("AP", "average precision: the area under precision over recall, as the mean of OKS thresholds 0.50, 0.55 … 0.95 (COCO's rule)"),
        ("score", "how likely a find is a person, says the network"),
        ("confidence", "how likely a keypoint is in its place, says the network"),
        ("float, INT8", "numbers with 32 bits, or rounded to 256 steps: smaller and often faster"),
        ("refiner", "a second network that improves the pose of each person found"),
    )
    listed = "".join(f"<dt><b>{word}</b></dt><dd>{meaning}</dd>" for word, meaning in words)
    return section("words", "Words", "", f"<dl>{listed}</dl>")


def _footer(figures: dict[str, Any]) -> str:
    columns = figures["columns"]
    hashes = "".join(f"<li><code>{entry['sha256']}</code> {escape(entry['file'])}</li>" for column in columns for entry in column["files"])
    return (
        f"<footer><p>Labels and pictures: SHA-256 <code>{figures['data']['hash']}</code>. Files:</p><ul>{hashes}</ul>"
        "<p>Figures in full precision lie in the JSON file beside this page.</p></footer>"
    )
