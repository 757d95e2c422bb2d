"""Relative links and pictures in documents lead somewhere, headings that they name included."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(document: Path) -> str:
    return _FENCED.sub("", document.read_text())


def links(text: str) -> Iterator[str]:
    """Targets of relative links and pictures."""
    for match in _LINK.finditer(text):
        target = match[1] or match[2]
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(text: str) -> set[str]:
    """Names that GitHub gives to headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def broken(document: Path, text: str) -> list[str]:
    found = []
    for target in links(text):
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        if not there.is_relative_to(ROOT) or not there.exists() or (anchor and anchor not in anchors(prose(there))):
            found.append(target)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(document: Path) -> None:
    assert not broken(document, prose(document))


def test_the_readme_shows_a_picture_and_leads_to_every_document() -> None:
    targets = set(links(prose(ROOT / "README.md")))
    assert any(target.endswith((".jpg", ".png")) for target in targets)
    assert "docs/images/architecture.svg" in targets
    assert {f"docs/{document.name}" for document in (ROOT / "docs").glob("*.md")} <= targets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/mqtt.md)", []),
        ("[a](docs/mqtt.md#topics)", []),
        ("[a](https://example.org/nowhere)", []),
        ("[a](docs/nowhere.md)", ["docs/nowhere.md"]),
        ("[a](docs/mqtt.md#nowhere)", ["docs/mqtt.md#nowhere"]),
        ("[a](../outside.md)", ["../outside.md"]),
        ('<img src="nowhere.jpg" alt="a">', ["nowhere.jpg"]),
    ],
)
def test_a_broken_link_is_found(text: str, expected: list[str]) -> None:
    assert broken(ROOT / "README.md", text) == expected
