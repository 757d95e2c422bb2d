"""A hook of MkDocs: puts pages that lie outside docs/ into the site, and mends the links to and from them."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"CHANGELOG.md": "changes.md", "NOTICE": "notice.md"} | {
    f"edgepose/assets/{card.name}": f"cards/{card.name}" for card in sorted((ROOT / "edgepose" / "assets").glob("*.md"))
}
"""Place in the site by the place in the repository."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if not source.endswith(".md"):
            text = f"# {source}\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=text.replace("](docs/", "](").replace("](../../docs/", "](../")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links that leave docs/ at the page in the site; pages below docs/ are not more than one folder deep."""
    up = "../" * page.file.src_uri.count("/")
    for source, target in PAGES.items():
        markdown = markdown.replace(f"]({up}../{source})", f"]({up}{target})")
    return markdown
