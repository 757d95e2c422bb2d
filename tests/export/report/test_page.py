"""The page by itself: whole, readable without a script and without another host, and right about its figures."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from edgepose_export.report.measure import Report
from edgepose_export.report.page import page

VOID = {"meta", "link", "br", "wbr", "image", "use", "line", "circle", "rect", "polyline", "path"}


class Outline(HTMLParser):
    """What a page is made of, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.addresses += [values[key] or "" for key in ("href", "src") if key in values]
        if values.get("id"):
            self.anchors.add(values["id"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def outline(report: Report) -> Outline:
    return Outline(page(report))


def test_the_page_is_whole_and_needs_nothing_else(outline: Outline) -> None:
    assert outline.open == []
    assert {"script", "iframe", "img"} & set(outline.tags) == set()
    assert all(address.startswith(("#", "data:")) for address in outline.addresses)
    links = {address[1:] for address in outline.addresses if address.startswith("#")}
    assert links <= outline.anchors
    assert {"accuracy", "curves", "keypoints", "sizes", "calibration", "robustness", "boxes", "latency", "size", "worst"} <= links


def test_each_chart_has_a_title_and_each_figure_a_sentence(report: Report) -> None:
    text = page(report)
    charts = re.findall(r"<svg [^>]*role=\"img\"[^>]*>", text)
    assert len(charts) > 20
    assert all(re.search(r'aria-label="[^"]{3,}"', chart) for chart in charts)
    captions = re.findall(r"<figcaption><b>(.*?)</b><span>(.*?)</span>", text)
    assert len(captions) > 20
    assert all(title and sentence for title, sentence in captions)


def test_the_page_shows_the_figures(outline: Outline, figures: dict[str, Any]) -> None:
    for column in figures["columns"]:
        for key in ("AP", "AP50", "AR", "PCK"):
            assert f"{column['evaluation'][key]:.3f}" in outline.text
    difference = figures["columns"][1]["evaluation"]["AP"] - figures["columns"][0]["evaluation"]["AP"]
    assert f"▼ −{-difference:.3f}" in outline.text


def test_only_what_is_asked_for_is_embedded(report: Report) -> None:
    assert "data:image/jpeg" in page(report)
    bare = page(Report(report.figures))
    assert "data:image/jpeg" not in bare
    assert "1.png" in bare
    assert len(bare) < 1_000_000


def test_names_are_text(figures: dict[str, Any]) -> None:
    odd = json.loads(json.dumps(figures).replace('"good"', '"<b>&good"'))
    outline = Outline(page(Report(odd)))
    assert outline.open == []
    assert "<b>&good" in outline.text


def test_what_was_not_measured_has_no_section(figures: dict[str, Any]) -> None:
    less = json.loads(json.dumps(figures))
    for column in less["columns"]:
        del column["robustness"], column["latency"]
        column.pop("layers", None)
    text = page(Report(less))
    assert 'id="robustness"' not in text
    assert 'id="latency"' not in text
    assert 'id="layers"' not in text
