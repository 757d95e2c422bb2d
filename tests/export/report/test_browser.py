"""The page in Chromium: no error, nothing from elsewhere, no sideways scrolling, light, dark and on paper."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepose_export.report.measure import Report
from edgepose_export.report.page import page
from testing.requirements import find_program, require

pytestmark = pytest.mark.needs("chromium", "playwright")
WIDTHS = (390, 820, 1440)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    require("chromium", "playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=find_program("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(report), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_an_error_at_any_width(browser: Any, written: Path, scheme: str) -> None:
    view = browser.new_page(color_scheme=scheme)
    errors: list[str] = []
    requests: list[str] = []
    view.on("console", lambda message: errors.append(message.text))
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    for width in WIDTHS:
        view.set_viewport_size({"width": width, "height": 900})
        view.goto(written.as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") == width
        assert view.evaluate("[...document.querySelectorAll('figure > svg')].every(chart => chart.getBoundingClientRect().width > 200)")
        shot = written.with_name(f"report-{width}-{scheme}.png")
        view.screenshot(path=shot, full_page=True)
        print(shot)
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page_color, ink = (view.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    dark, light = sorted((brightness(page_color), brightness(ink)))
    assert light - dark > 500  # of 765: text is easy to read
    assert (brightness(page_color) < brightness(ink)) == (scheme == "dark")
    view.close()


def brightness(color: str) -> int:
    """Return the sum of red, green and blue of `rgb(r, g, b)`."""
    return sum(int(value) for value in re.findall(r"\d+", color)[:3])


def test_the_page_prints_in_light_colors(browser: Any, written: Path) -> None:
    view = browser.new_page(color_scheme="dark")
    view.goto(written.as_uri())
    view.emulate_media(media="print", color_scheme="dark")
    assert brightness(view.evaluate("getComputedStyle(document.body).backgroundColor")) == 765
    assert not view.evaluate("document.querySelector('nav').checkVisibility()")
    printed = written.with_suffix(".pdf")
    view.pdf(path=printed, format="A4")
    print(printed)
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) <= 16
    view.close()
