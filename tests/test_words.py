"""Names and prose use the glossary's words (docs/glossary.md): one thing, one name."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest

from edgepose.config.reference import keys
from edgepose.messages.schema import COMMANDS, TOPICS

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
CODE = ("edgepose", "export", "testing", "tests", "tools")
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "edgepose" / "assets").glob("*.md")} - {GLOSSARY})
# The changelog says which old name became which new one.
MAY_NAME_OLD_WORDS = {ROOT / "CHANGELOG.md"}


@cache
def table(name: str) -> tuple[str, ...]:
    """The words in the first column of a table of the glossary: those in backticks, else those between commas."""
    rows = (
        GLOSSARY.read_text()
        .split(f"<!-- begin banned {name} -->", 1)[1]
        .split(f"<!-- end banned {name} -->", 1)[0]
        .strip()
        .splitlines()[2:]
    )
    cells = [row.split("|")[1].strip() for row in rows]
    return tuple(word for cell in cells for word in re.findall(r"`([^`]+)`", cell) or cell.split(", "))


def parts(identifier: str) -> str:
    """An identifier as words between underscores: `MqttSession` and `mqtt_session` are both `_mqtt_session_`."""
    return "_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower().strip("_") + "_"


def banned(identifier: str) -> str | None:
    """The word of the glossary's list that an identifier is, None where there is none.

    A class is banned by its whole name; a word in small letters is banned as a part of any name.
    """
    words = table("identifiers")
    return next((word for word in words if (word == identifier if word[0].isupper() else parts(word) in parts(identifier))), None)


def banned_key(name: str) -> bool:
    """Whether a configuration key, metric, topic or field is named by a word that is not used."""
    return banned(name) is not None or any(parts(word) in parts(name) for word in table("keys"))


def sources() -> list[Path]:
    return sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py") if "build" not in path.parts and path != Path(__file__))


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """All names that a module defines or gives values to, with their lines; those that it takes from elsewhere are defined there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr), node.lineno


def prose(path: Path) -> Iterator[tuple[str, int]]:
    """Comments and strings of a module; each line of a page that is not code."""
    if path.suffix == ".md":
        fenced = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            fenced ^= line.startswith("```")
            if not fenced:
                yield line, number
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.string, token.start[0]


@cache
def phrases() -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(re.escape(phrase) for phrase in table("phrases")) + r")\b", re.IGNORECASE)


def test_the_glossary_lists_words() -> None:
    assert len(table("identifiers")) > 40
    assert table("keys")
    assert {"courier", "watchman", "people thread", "second look", "whoever"} <= set(table("phrases"))


def test_identifiers_are_the_glossarys() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line} {name} ({word})"
        for path in sources()
        for name, line in identifiers(path)
        if (word := banned(name))
    }
    assert not found, "\n".join(sorted(found))


def test_modules_are_named_by_the_glossary() -> None:
    assert not {path for path in sources() if banned(path.stem) or path.stem in table("modules")}


def test_keys_topics_and_fields_are_the_glossarys() -> None:
    names = {part for key in keys() for part in key.path.split(".")}
    names |= {part for topic in (*TOPICS, *COMMANDS) for part in topic.address.split("/")}
    for topic in (*TOPICS, *COMMANDS):
        _, definitions = msgspec.json.schema_components([topic.message])
        names |= {field for definition in definitions.values() for field in definition.get("properties", {})}
    assert not {name for name in names if banned_key(name)}


def test_metrics_are_the_glossarys() -> None:
    metrics = set(re.findall(r"edgepose_\w+", (ROOT / "edgepose" / "daemon" / "prometheus.py").read_text()))
    assert len(metrics) > 20
    assert not {name for name in metrics if banned_key(name)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_say_it_in_the_glossarys_words(path: Path) -> None:
    if path in MAY_NAME_OLD_WORDS:
        return
    assert not [f"{line}: {match[0]}" for text, line in prose(path) if (match := phrases().search(text))]


def test_comments_and_texts_say_it_in_the_glossarys_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]}"
        for path in sources()
        for text, line in prose(path)
        if (match := phrases().search(text))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("identifier", "word"),
    [
        ("Courier", "Courier"),
        ("_mqtt_courier_s", "courier"),
        ("MySecondLook", "second_look"),
        ("board", None),
        ("Board", "Board"),
        ("claimed", None),
    ],
)
def test_a_name_is_compared_word_by_word(identifier: str, word: str | None) -> None:
    assert banned(identifier) == word
