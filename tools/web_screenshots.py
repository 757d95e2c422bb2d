"""Screenshots of the web pages for the documentation, in Chromium, at three widths (`python -m tools.web_screenshots docs/images FOLDER`).

Those of the documentation are written to the first folder; all of them, for looking at, to the second.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from testing.requirements import find_program
from testing.servers.web_page import LivePageProcess, WebClient, WebPage

ASSETS = Path(__file__).resolve().parents[1] / "edgepose" / "assets"
WIDTHS = (390, 820, 1440)
_QUALITY = 72
_YARD = [[0.06, 0.55], [0.62, 0.5], [0.7, 0.95], [0.05, 0.97]]
_WINDOW = [[0.0, 0.0], [0.2, 0.0], [0.2, 0.2], [0.0, 0.2]]
_AREAS = {"zones": {"yard": _YARD}, "lines": {"gate": [[0.75, 0.45], [0.92, 0.9]]}, "masks": {"window": _WINDOW}}


def context_of(browser: Browser, client: WebClient) -> BrowserContext:
    """Return a context in which somebody is signed in."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    context.add_cookies([{"name": name, "value": value, "url": client.page.url} for name, value in client.cookies.items()])
    return context


def shoot(tab: Page, path: Path) -> None:
    """Take the picture of the documentation."""
    tab.screenshot(path=path, type="jpeg", quality=_QUALITY)


def shoot_all(tab: Page, folder: Path, name: str) -> None:
    """Take a view at all widths, light and dark."""
    schemes: Any
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        for schemes in ("light", "dark"):
            tab.emulate_media(color_scheme=schemes, reduced_motion="reduce")
            tab.wait_for_timeout(400)  # until the canvas is drawn anew
            tab.screenshot(path=folder / f"{name}-{width}-{schemes}.png", full_page=True)
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size({"width": 1280, "height": 720})


def uploads(browser: Browser, images: Path, folder: Path, state: Path) -> None:
    """Take the pages of uploads."""
    with WebPage(state, "refine.people=4") as page:
        admin = page.administrator("anna")
        picture = admin.finished(admin.upload((ASSETS / "golden.jpg").read_bytes(), "golden.jpg").json["id"])["id"]
        admin.upload((ASSETS / "demo.mp4").read_bytes(), "demo.mp4")
        admin.upload((ASSETS / "golden.jpg").read_bytes(), "second picture.jpg")
        tab = context_of(browser, admin).new_page()
        tab.goto(page.url)
        tab.locator(".job.running").get_by_text("frame").wait_for(timeout=60_000)
        shoot(tab, images / "web-uploads.jpg")
        for view, there in ((f"job/{picture}", ".media img"), ("uploads", ".job"), ("accounts", "tbody tr"), ("account", "form")):
            tab.goto(f"{page.url}/#{view}")
            tab.locator(there).first.wait_for()
            if view.startswith("job"):
                tab.locator("summary").first.click()
                tab.locator(".media img").evaluate("image => image.decode()")
                shoot(tab, images / "web-result.jpg")
            shoot_all(tab, folder, view.partition("/")[0])


def live(browser: Browser, images: Path, folder: Path, state: Path) -> None:
    """Take the live page and the editor of areas."""
    with LivePageProcess(state, {"entrance": str(ASSETS / "demo.mp4"), "yard": str(ASSETS / "demo.mp4")}) as page:
        admin = page.administrator("anna")
        admin.call("PUT", "/api/v1/live/cameras/yard/areas", _AREAS)
        tab = context_of(browser, admin).new_page()
        tab.goto(page.url)
        tab.locator(".events time").first.wait_for(timeout=60_000)
        tab.get_by_role("button", name="Picture").nth(1).click()
        tab.get_by_text("frames a second").first.wait_for()
        tab.wait_for_timeout(6000)
        shoot(tab, images / "web-live.jpg")
        shoot_all(tab, folder, "live")
        tab.goto(f"{page.url}/#areas/yard")
        tab.locator(".areas li.zones").wait_for()
        tab.locator(".areas li.zones input").focus()
        tab.get_by_text("in it").wait_for(timeout=60_000)
        shoot(tab, images / "web-areas.jpg")
        shoot_all(tab, folder, "areas")


@click.command()
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--only", type=click.Choice(("uploads", "live")), help="Take those of one page.")
def main(images: Path, folder: Path, only: str | None) -> None:
    """Take them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_program("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name, take in (("uploads", uploads), ("live", live)):
            if only in (None, name):
                take(browser, images, folder, Path(state) / name)
        browser.close()


if __name__ == "__main__":
    main()
