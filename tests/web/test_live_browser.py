"""The live page and the editor of areas in a real browser (Chromium): one walk through both in every run, the rest with `make browser`."""

import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgepose.storage.areas_file import read_areas
from testing.browser import NewPage, serious_faults, signed_in
from testing.servers.web_page import LivePageProcess, WebClient
from testing.waiting import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.needs("playwright", "chromium"), pytest.mark.xdist_group("live")]

ASSETS = Path(__file__).parents[2] / "edgepose" / "assets"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Generator[LivePageProcess, None, None]:
    folder = tmp_path_factory.mktemp("live-browser") / "state"
    with LivePageProcess(folder, {"front": str(ASSETS / "demo.mp4")}, "privacy: {pixels: blurred}\n") as page:
        page.administrator()
        yield page


@pytest.fixture
def boss(live: LivePageProcess, address: str, name: str) -> WebClient:
    return live.account(f"{name}-boss", "admin", address)


def drawn(tab: "Page") -> int:
    """Return how many pixels of the picture are not black."""
    return int(
        tab.evaluate(
            """() => {
              const canvas = document.querySelector(".stage canvas");
              const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              let lit = 0;
              for (let at = 0; at < data.length; at += 4) lit += data[at] + data[at + 1] + data[at + 2] > 120;
              return lit;
            }"""
        )
    )


def click_at(tab: "Page", x: float, y: float) -> None:
    """Click at a place of the picture, as shares of its sides."""
    box = tab.locator(".stage canvas").bounding_box()
    assert box is not None
    tab.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def test_a_person_watches_pauses_and_draws_a_zone(live: LivePageProcess, boss: WebClient, new_page: NewPage) -> None:
    tab = new_page()
    sizes: list[int] = []
    tab.on("response", lambda reply: sizes.append(int(reply.headers.get("content-length", 0))) if "/static/" in reply.url else None)
    signed_in(tab, boss)
    tab.get_by_text("frames a second").first.wait_for()
    assert 0 < sum(sizes) < 200_000
    black = wait_for(lambda: drawn(tab), within_s=60)
    tab.get_by_role("button", name="Picture").click()
    wait_for(lambda: drawn(tab) > 4 * black, within_s=60)
    tab.get_by_role("button", name="Pause").click()
    tab.get_by_role("button", name="Start").wait_for()
    tab.locator(".why", has_text="Paused").wait_for()
    tab.get_by_role("button", name="Start").click()
    tab.locator(".tag", has_text="streaming").wait_for()
    tab.get_by_role("link", name="Areas of front").click()
    tab.get_by_role("button", name="Draw a zone").click()
    for x, y in ((0.05, 0.05), (0.95, 0.05), (0.95, 0.98), (0.05, 0.98)):
        click_at(tab, x, y)
    tab.get_by_role("button", name="Finish").click()
    name = tab.get_by_label("Name of the zone zone1")
    name.fill("yard")
    name.blur()
    tab.get_by_text(re.compile(r"^\d+ (person|people) in it$")).wait_for()
    tab.get_by_role("button", name="Apply").click()
    tab.get_by_text("The areas hold from now on").wait_for()
    assert len((read_areas(live.folder / "live" / "areas.yaml").cameras["front"].zones or {})["yard"]) == 4
    tab.get_by_role("link", name="Live", exact=True).click()
    tab.get_by_text("entered yard").first.wait_for(timeout=60_000)


@pytest.mark.browser
def test_areas_are_drawn_by_keyboard_alone_and_downloaded(boss: WebClient, new_page: NewPage) -> None:
    tab = signed_in(new_page(permissions=["clipboard-write"]), boss)
    tab.goto(f"{boss.page.url}/#areas/front")
    tab.get_by_role("button", name="Draw a line").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")  # the picture has the focus, and the cross is in its middle
    for _ in range(3):
        tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("Enter")
    tab.locator(".areas li.lines").wait_for()
    assert '"line1": [[0.5, 0.5], [0.65, 0.5]]' in (tab.locator("pre").text_content() or "")
    tab.get_by_role("application").focus()
    tab.keyboard.press("Enter")  # takes up the end that is nearest
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert "[0.65, 0.51]" in (tab.locator("pre").text_content() or "")
    tab.locator("summary").click()
    with tab.expect_download() as loading:
        tab.get_by_role("button", name="Download YAML").click()
    assert "line1" in Path(loading.value.path()).read_text()
    tab.get_by_role("button", name="Discard changes").click()
    assert tab.locator(".areas li.lines").count() == 0


@pytest.mark.browser
def test_corners_are_dragged_and_wrong_areas_are_refused(boss: WebClient, new_page: NewPage) -> None:
    tab = signed_in(new_page(), boss)
    tab.goto(f"{boss.page.url}/#areas/front")
    tab.get_by_role("button", name="Draw a mask").click()
    for x, y in ((0.2, 0.2), (0.4, 0.4), (0.4, 0.2), (0.2, 0.4)):
        click_at(tab, x, y)
    tab.get_by_role("button", name="Finish").click()
    tab.get_by_text("Its edges cross").wait_for()
    tab.get_by_role("button", name="Cancel").click()
    tab.get_by_role("button", name="Draw a mask").click()
    for x, y in ((0.2, 0.2), (0.4, 0.2), (0.4, 0.4), (0.2, 0.2)):  # the first corner closes it
        click_at(tab, x, y)
    tab.locator(".areas li.masks").wait_for()
    box = tab.locator(".stage canvas").bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
    tab.mouse.up()
    assert re.search(r'"mask1": .*\[0\.5\d*, 0\.6\d*\]', tab.locator("pre").text_content() or "")
    tab.get_by_role("button", name="Delete the mask mask1").click()
    assert tab.locator(".areas li.masks").count() == 0


@pytest.mark.browser
def test_a_viewer_only_looks(live: LivePageProcess, name: str, address: str, new_page: NewPage) -> None:
    viewer = live.account(f"{name}-viewer", "viewer", address)
    tab = signed_in(new_page(), viewer)
    tab.get_by_text("frames a second").first.wait_for()
    for button in ("Pause", "Start", "Apply", "Reload the configuration"):
        assert tab.get_by_role("button", name=button).count() == 0
    tab.get_by_role("link", name="Areas", exact=True).click()
    tab.get_by_text("Operators draw areas").wait_for()
    for button in ("Draw a zone", "Apply", "Discard changes"):
        assert tab.get_by_role("button", name=button).count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_no_view_is_wider_than_the_window(boss: WebClient, new_page: NewPage, width: int) -> None:
    tab = signed_in(new_page(width=width), boss)
    for view, there in (("live", ".figures dd"), ("areas", ".areas li")):
        tab.goto(f"{boss.page.url}/#{view}")
        tab.locator(there).first.wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, view


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(boss: WebClient, new_page: NewPage, scheme: Any) -> None:
    tab = signed_in(new_page(width=390, bypass_csp=True, color_scheme=scheme, reduced_motion="reduce"), boss)
    faults = []
    for view, there in (("live", ".figures dd"), ("areas", ".areas li")):
        tab.goto(f"{boss.page.url}/#{view}")
        tab.locator(there).first.wait_for()
        faults += serious_faults(tab, view)
    assert faults == []
