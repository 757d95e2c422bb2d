"""Screenshots of the web page for the documentation, in Chromium, at three widths (`python -m tools.web_screenshots docs/images FOLDER`).

The two of the documentation are written to the first folder; all of them, for looking at, to the second.
"""

import tempfile
from pathlib import Path

import click
from playwright.sync_api import sync_playwright

from testing.requirements import find_program
from testing.servers.web_page import WebPage

ASSETS = Path(__file__).resolve().parents[1] / "edgepose" / "assets"
WIDTHS = (390, 820, 1440)
_QUALITY = 72


@click.command()
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def main(images: Path, folder: Path) -> None:
    """Take them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state, WebPage(Path(state), "refine.people=4") as page, sync_playwright() as playwright:
        admin = page.administrator("anna")
        browser = playwright.chromium.launch(executable_path=find_program("chromium"), args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        context.add_cookies([{"name": name, "value": value, "url": page.url} for name, value in admin.cookies.items()])
        picture = admin.finished(admin.upload((ASSETS / "golden.jpg").read_bytes(), "golden.jpg").json["id"])["id"]
        admin.upload((ASSETS / "demo.mp4").read_bytes(), "demo.mp4")
        admin.upload((ASSETS / "golden.jpg").read_bytes(), "second picture.jpg")
        tab = context.new_page()
        tab.goto(page.url)
        tab.locator(".job.running").get_by_text("frame").wait_for(timeout=60_000)
        tab.screenshot(path=images / "web-uploads.jpg", type="jpeg", quality=_QUALITY)
        for view, there in ((f"job/{picture}", ".media img"), ("uploads", ".job"), ("accounts", "tbody tr"), ("account", "form")):
            tab.goto(f"{page.url}/#{view}")
            tab.locator(there).first.wait_for()
            if view.startswith("job"):
                tab.locator("summary").first.click()
                tab.locator(".media img").evaluate("image => image.decode()")
                tab.screenshot(path=images / "web-result.jpg", type="jpeg", quality=_QUALITY)
            for width in WIDTHS:
                tab.set_viewport_size({"width": width, "height": 900})
                for scheme in ("light", "dark"):
                    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                    tab.screenshot(path=folder / f"{view.partition('/')[0]}-{width}-{scheme}.png", full_page=True)
            tab.emulate_media(color_scheme="light")
            tab.set_viewport_size({"width": 1280, "height": 720})
        browser.close()


if __name__ == "__main__":
    main()
