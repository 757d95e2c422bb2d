"""The page in a real browser (Chromium): one walk through it in every run, the rest at length with `make browser`."""

import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgepose.web.accounts.one_time_codes import STEP_S, code_at
from testing.browser import NewPage, serious_faults, signed_in
from testing.servers.web_page import PASSWORD, WebClient, WebPage
from testing.waiting import PATIENCE, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.needs("playwright", "chromium"), pytest.mark.xdist_group("browser")]

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "edgepose" / "assets"
EVIL = '<img src=x onerror=document.title="stolen">.jpg'


def upload(tab: "Page", *paths: Path) -> None:
    tab.set_input_files("input[type=file]", list(paths))


def test_a_person_opens_the_link_uploads_a_picture_and_sees_people(
    page: WebPage, name: str, new_page: NewPage, picture: bytes, tmp_path: Path
) -> None:
    from edgepose.web.accounts.file import INVITATION_S, Account, AccountFile, new_epoch, with_account, with_link

    link = AccountFile(page.folder).update(
        lambda data: with_link(with_account(data, f"{name}-b", Account(role="operator", epoch=new_epoch())), f"{name}-b", INVITATION_S)
    )
    (tmp_path / EVIL).write_bytes(picture)
    tab = new_page()
    sizes: list[int] = []
    tab.on("response", lambda reply: sizes.append(int(reply.headers.get("content-length", 0))) if "/static/" in reply.url else None)
    tab.goto(f"{page.url}/setup#{link}")
    secret = tab.locator("p.code").inner_text().replace(" ", "")
    tab.get_by_label("Password 12").fill(PASSWORD)
    tab.get_by_label("The same").fill(PASSWORD)
    tab.get_by_label("Code of your").fill(code_at(secret, int(time.time() // STEP_S)))
    tab.get_by_role("button", name="Finish").click()
    assert tab.locator("ul.codes li").count() == 10 or tab.locator("ul.codes li").nth(9).inner_text()
    tab.get_by_role("button", name="I have kept them").click()
    upload(tab, tmp_path / EVIL)
    tab.locator(".job.done", has_text="onerror").first.get_by_role("link", name="Open").click()
    tab.locator(".media img").wait_for()
    assert tab.locator("details").count() == 2
    tab.locator("summary").first.click()
    assert tab.locator("details[open] tbody tr").count() == 17
    assert tab.locator("h1").inner_text() == EVIL  # as text
    assert tab.title() != "stolen"
    wait_for(lambda: tab.locator(".media img").bounding_box()["height"] > 100)  # type: ignore[index]
    assert 0 < sum(sizes) < 200_000
    tab.get_by_role("button", name="Sign out").click()
    tab.get_by_role("heading", name="Sign in").wait_for()


@pytest.mark.browser
def test_signing_in_needs_a_code_that_was_not_used(page: WebPage, operator: WebClient, new_page: NewPage) -> None:
    tab = new_page(expected="401")
    tab.goto(page.url)
    for code, works in (("000000", False), (operator.recovery_codes[0], True)):
        tab.get_by_label("Name").fill(operator.name)
        tab.get_by_label("Password").fill(PASSWORD)
        tab.get_by_label("Code of your").fill(code)
        tab.get_by_role("button", name="Sign in").click()
        (tab.get_by_role("heading", name="Uploads") if works else tab.get_by_text("Name, password or code is wrong")).wait_for()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """The first two dozen frames of the demo."""
    path = tmp_path / "demo.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(ASSETS / "demo.mp4"), "-frames:v", "24", str(path)], check=True, timeout=120)
    return path


@pytest.mark.browser
@pytest.mark.needs("ffmpeg")
def test_a_video_shows_progress_is_canceled_and_is_seen_frame_by_frame(operator: WebClient, new_page: NewPage, video: Path) -> None:
    tab = signed_in(new_page(), operator)
    upload(tab, video)
    row = tab.locator(".job", has_text="demo.mp4")
    row.get_by_text(re.compile(r"frame \d+ of 24")).wait_for()
    row.get_by_role("button", name="Cancel").click()
    row.get_by_text("canceled").wait_for()
    row.get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")
    upload(tab, video)
    tab.locator(".job.done", has_text="demo.mp4").get_by_role("link", name="Open").click(timeout=60_000 * PATIENCE)
    slider = tab.get_by_role("slider", name="Frame")
    slider.focus()
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    tab.get_by_text("Frame 4 of 24").wait_for()
    for label, suffix in (("JSON lines", ".jsonl"), ("CSV", ".csv"), ("COCO", ".json"), ("Video (MP4)", ".mp4")):
        with tab.expect_download() as loading:
            tab.get_by_role("link", name=label).click()
        assert loading.value.suggested_filename.endswith(suffix)
        assert Path(loading.value.path()).stat().st_size > 1000
    tab.get_by_role("button", name="Delete everything").click()
    tab.get_by_role("heading", name="Uploads").wait_for()


@pytest.mark.browser
def test_it_works_by_keyboard_alone(operator: WebClient, new_page: NewPage) -> None:
    tab = new_page(expected="401")  # of asking who is signed in
    tab.goto(operator.page.url)
    tab.get_by_role("heading", name="Sign in").wait_for()
    for text in (operator.name, PASSWORD, operator.recovery_codes[0]):  # the first field has the focus
        tab.keyboard.type(text)
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.get_by_role("heading", name="Uploads").wait_for()
    seen = []
    for _ in range(12):
        tab.keyboard.press("Tab")
        focused = tab.locator(":focus")
        seen.append(focused.get_attribute("type") or focused.inner_text())
        if seen[-1] == "file":
            break
    assert seen[-1] == "file"
    with tab.expect_file_chooser() as choosing:
        tab.keyboard.press("Space")
    choosing.value.set_files(ASSETS / "golden.jpg")
    tab.locator(".job.done").first.wait_for()
    for _ in range(12):
        tab.keyboard.press("Tab")
        if tab.locator(":focus", has_text=re.compile("^Open$")).count():
            break
    tab.keyboard.press("Enter")
    tab.locator(".media img").wait_for()
    for _ in range(12):
        tab.keyboard.press("Tab")
        if tab.locator("summary:focus").count():
            break
    tab.keyboard.press("Enter")
    tab.locator("details[open]").wait_for()


@pytest.mark.browser
def test_an_administrator_manages_accounts_and_a_viewer_only_sees(
    page: WebPage, admin: WebClient, viewer: WebClient, name: str, new_page: NewPage
) -> None:
    tab = signed_in(new_page(expected="403"), admin)
    tab.get_by_role("link", name="Accounts").click()
    tab.get_by_label("Name").fill(f"{name}-new")
    tab.get_by_label("Code of your").fill("000000")
    tab.get_by_role("button", name="Add").click()
    tab.get_by_text("The code is wrong").wait_for()
    tab.get_by_label("Code of your").fill(admin.fresh())
    tab.get_by_role("button", name="Add").click()
    link = tab.locator("dialog .code").inner_text()
    assert link.startswith(f"{page.url}/setup#")
    tab.get_by_role("button", name="Close").click()
    tab.get_by_label(f"Role of {viewer.name}").select_option("operator")
    tab.get_by_role("dialog").get_by_label("Code of your").fill(admin.fresh())
    tab.get_by_role("button", name="Change role").click()
    wait_for(lambda: tab.get_by_label(f"Role of {viewer.name}").input_value() == "operator")
    tab.get_by_label(f"Role of {viewer.name}").select_option("viewer")
    tab.get_by_role("dialog").get_by_label("Code of your").fill(admin.fresh())
    tab.get_by_role("button", name="Change role").click()
    wait_for(lambda: tab.get_by_label(f"Role of {viewer.name}").input_value() == "viewer")
    tab.get_by_role("link", name="My account").click()
    tab.get_by_label("What it is for").fill("script")
    tab.get_by_label("Code of your").fill(admin.fresh())
    tab.get_by_role("button", name="Make a token").click()
    token = tab.locator("dialog .code").inner_text()
    program = WebClient(page)
    program.token = token
    assert program.call("GET", "/api/v1/me").json["role"] == "viewer"
    viewer.sign_in()
    other = signed_in(new_page(), viewer)
    other.get_by_text("You may look at results").wait_for()
    assert other.locator("input[type=file]").count() == 0
    assert other.get_by_role("link", name="Accounts").count() == 0


VIEWS = ("uploads", "accounts", "account", "job")


@pytest.fixture(scope="module")
def finished(page: WebPage, picture: bytes) -> tuple[WebClient, str]:
    """An administrator, and a finished job."""
    client = page.account("views", "admin", "127.0.9.9")
    return client, client.finished(client.upload(picture, "picture.jpg").json["id"])["id"]


def view(tab: "Page", client: WebClient, job: str, name: str) -> None:
    tab.goto(f"{client.page.url}/#{name}{'/' + job if name == 'job' else ''}")
    tab.locator({"uploads": ".job", "accounts": "tbody tr", "account": "form", "job": ".media img"}[name]).first.wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_nothing_is_wider_than_the_window(finished: tuple[WebClient, str], new_page: NewPage, width: int) -> None:
    client, job = finished
    tab = signed_in(new_page(width=width, bypass_csp=True), client)
    for name in VIEWS:
        view(tab, client, job, name)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(finished: tuple[WebClient, str], new_page: NewPage, scheme: Any) -> None:
    client, job = finished
    tab = signed_in(new_page(expected="401", width=390, bypass_csp=True, color_scheme=scheme, reduced_motion="reduce"), client)
    background = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) < 60) == (scheme == "dark")
    faults = []
    for name in (*VIEWS, "sign-in"):
        if name == "sign-in":
            tab.context.clear_cookies()
            tab.goto("about:blank")
            tab.goto(client.page.url)
            tab.get_by_role("heading", name="Sign in").wait_for()
        else:
            view(tab, client, job, name)
        faults += serious_faults(tab, name)
    assert faults == []
