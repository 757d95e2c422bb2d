"""The documentation as a site: it builds without a warning, and loads nothing from another host."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from tools.draw_diagrams import DIAGRAMS, IMAGES, LAYERS, Diagram

ROOT = Path(__file__).resolve().parents[1]

_LOADING = {"script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset"), "video": ("src", "poster")}
_LOADING_RELATIONS = {"stylesheet", "preload", "preconnect", "dns-prefetch", "icon", "modulepreload", "manifest"}
_STYLE_ADDRESS = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)")


class Resources(HTMLParser):
    """Collects the addresses that a browser loads by itself when it shows a page; links that a reader clicks are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.found += [values[name] for name in _LOADING.get(tag, ()) if name in values]
        if tag == "link" and _LOADING_RELATIONS & set(values.get("rel", "").split()):
            self.found.append(values.get("href", ""))
        self.found += _STYLE_ADDRESS.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() == "<style>":
            self.found += _STYLE_ADDRESS.findall(data)


def elsewhere(address: str) -> bool:
    return re.match(r"(?:https?:)?//", address.strip()) is not None


def foreign(page: str) -> list[str]:
    resources = Resources()
    resources.feed(page)
    return [address for address in resources.found if elsewhere(address)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    missing = [name for name in ("mkdocs", "material", "mkdocstrings") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (make setup)")
    folder = tmp_path_factory.mktemp("site")
    # Without -q: that hides warnings from --strict, too.
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert built.returncode == 0, "\n".join(line for line in built.stderr.splitlines() if not line.startswith("INFO"))
    yield folder
    shutil.rmtree(folder)


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    assert {page.name: foreign(page.read_text(encoding="utf-8")) for page in pages if foreign(page.read_text(encoding="utf-8"))} == {}
    # For drawings of this class, and for them alone, the theme would load a script from unpkg.com.
    assert not [page.name for page in pages if re.search(r'class="[^"]*\bmermaid\b', page.read_text(encoding="utf-8"))]
    styles = {style.name: _STYLE_ADDRESS.findall(style.read_text(encoding="utf-8")) for style in site.rglob("*.css")}
    assert not any(styles.values()), styles
    drawings = {drawing.name: re.findall(r'href="(http[^"]+)"', drawing.read_text(encoding="utf-8")) for drawing in site.rglob("*.svg")}
    assert not any(drawings.values()), drawings


def test_the_api_pages_have_members(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    assert all(f'id="edgepose.{name}"' in text for name in ("messages.structs.PosesMessage", "config.schema.Config", "errors.SourceError"))


def test_pages_outside_of_docs_are_in_the_site(site: Path) -> None:
    assert "Apache" in (site / "notice.html").read_text(encoding="utf-8")
    assert 'href="cards/ghost-n.html"' in (site / "models.html").read_text(encoding="utf-8")
    assert (site / "changes.html").is_file()


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://unpkg.com/mermaid.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<img src="http://example.org/a.png">',
        '<p style="background: url(https://example.org/a.png)">',
        '<style>@import "https://fonts.example/css";</style>',
    ],
)
def test_a_resource_of_another_host_is_found(page: str) -> None:
    assert foreign(page)


@pytest.mark.parametrize(
    "page", ['<a href="https://example.org">', '<link rel="canonical" href="https://example.org">', '<img src="a.png">']
)
def test_links_and_own_files_are_not_taken_for_resources(page: str) -> None:
    assert not foreign(page)


@pytest.mark.parametrize("name", DIAGRAMS)
def test_diagrams_are_up_to_date(name: str) -> None:
    draw = DIAGRAMS[name]
    assert isinstance(draw(), Diagram)
    assert (IMAGES / name).read_text(encoding="utf-8") == draw().svg(), "run python tools/draw_diagrams.py"


def test_the_diagram_of_packages_is_the_import_rule() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition('\ncontainers = ["edgepose"]\n')[2]
    contract = contract.partition("\nlayers = [\n")[2].partition("\n]")[0]
    rule = [re.findall(r"\w+", line) for line in contract.splitlines()]
    assert [[name for name, _ in names] for names, _ in LAYERS] == rule
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for names in rule for name in names)
