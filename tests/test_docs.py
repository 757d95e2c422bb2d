"""The documents say what the code does: keys, options, exit codes, causes, stages."""

import inspect
import os
from pathlib import Path
from re import MULTILINE, escape, findall, fullmatch
from typing import get_args

import click
import pytest

import edgepose.errors
from edgepose.capture.failures import CAUSES
from edgepose.cli.main import COMMANDS, cli, run
from edgepose.config.reference import keys
from edgepose.messages.structs import Diagnosis
from edgepose.telemetry.metrics import DROP_CAUSES, REFINE_FAILURES, STAGES
from tools.write_reference import DOCS, TABLES, with_table


def section(document: str, heading: str) -> str:
    text = (DOCS / document).read_text()
    assert f"## {heading}\n" in text
    return text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def exit_codes() -> set[int]:
    classes = [found for _, found in inspect.getmembers(edgepose.errors, inspect.isclass)]
    return {found.exit_code for found in classes if issubclass(found, edgepose.errors.EdgeposeError)}


@pytest.mark.parametrize(("document", "name"), TABLES)
def test_generated_tables_are_up_to_date(document: str, name: str) -> None:
    text = (DOCS / document).read_text()
    assert text == with_table(text, name, TABLES[document, name]()), "run `make docs`"


@pytest.mark.parametrize("key", keys(), ids=lambda key: key.path)
def test_every_key_is_documented(key) -> None:
    head, _, name = key.path.rpartition(".")
    table = section("configuration.md", "All keys").split(f"### `{head}`\n" if head else "### Top level\n", 1)[1].split("\n### ", 1)[0]
    assert f"| `{name}` |" in table
    assert key.description in table


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_and_has_an_example(name: str) -> None:
    context = click.Context(cli, info_name="edgepose")
    command = cli.get_command(context, name)
    assert command is not None
    assert command.epilog is not None
    text = (DOCS / "commands.md").read_text()
    assert f"### `edgepose {name} " in text
    assert command.epilog.startswith(f"Example: edgepose {name}")
    part = text.split(f"### `edgepose {name} ", 1)[1].split("\n### ", 1)[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(flag in part for flag in parameter.opts), parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_named_where_newcomers_look(name: str) -> None:
    readme, changes = ((DOCS.parent / document).read_text() for document in ("README.md", "CHANGELOG.md"))
    assert f"edgepose {name}" in readme or f"make {name}" in readme
    (listed,) = (line for line in changes.splitlines() if line.startswith("- **Commands** "))
    assert f"`{name}`" in listed


def test_the_answer_of_check_in_the_readme_is_its_answer(capfd: pytest.CaptureFixture[str]) -> None:
    shown = (DOCS.parent / "README.md").read_text().split("```console\n$ edgepose check ", 1)[1].partition("```")[0]
    arguments, _, answer = shown.partition("\n")
    run(["check", "--config", os.devnull, *arguments.split()])
    lines = capfd.readouterr().out.splitlines()
    patterns = [".*".join(map(escape, line.split("…"))) for line in answer.splitlines()]
    assert len(lines) == len(patterns)
    assert all(fullmatch(pattern, line) for pattern, line in zip(patterns, lines, strict=True)), lines


def test_every_exit_code_is_documented() -> None:
    table = section("commands.md", "Exit codes")
    errors = [
        error for _, error in inspect.getmembers(edgepose.errors, inspect.isclass) if issubclass(error, edgepose.errors.EdgeposeError)
    ]
    codes = {error.exit_code for error in errors}
    assert codes
    assert all(f"| {code} |" in table for code in codes)


def test_every_cause_and_stage_is_documented() -> None:
    text = section("operations.md", "What happens to frames")
    for word in (*DROP_CAUSES, *STAGES):
        assert f"| `{word}` |" in text
    assert all(f"| `{cause}` |" in section("operations.md", "Refinement") for cause in REFINE_FAILURES)


def test_links_between_documents_lead_somewhere() -> None:
    import re

    for document in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / Path(target)).exists(), f"{document.name} links to {target}"


def test_every_exit_code_cause_and_diagnosis_has_a_remedy() -> None:
    start = section("troubleshooting.md", "The program does not start")
    codes = {
        error.exit_code
        for _, error in inspect.getmembers(edgepose.errors, inspect.isclass)
        if issubclass(error, edgepose.errors.EdgeposeError)
    }
    assert all(f"| {code} |" in start for code in codes)
    assert all(f"| `{diagnosis}` |" in section("troubleshooting.md", "There are no poses") for diagnosis in get_args(Diagnosis))
    dropped = section("troubleshooting.md", "Frames are dropped")
    named = set(findall(r"`(\w+)`", "".join(line.split("|")[1] for line in dropped.splitlines() if line.startswith("| `"))))
    assert named == set(DROP_CAUSES)
    cameras = section("troubleshooting.md", "A camera gives no frames")
    # The others are no faults (closed, paused, over), have their own line under `diagnosis`, or have no name of their own.
    assert all(f"`{cause}`" in cameras for cause in {*CAUSES, "internal"} - {"closed", "failed", "frozen"})


@pytest.mark.parametrize("kind", ["identifiers", "keys", "modules", "phrases"])
def test_the_glossary_lists_banned_words_in_a_table(kind: str) -> None:
    text = (DOCS / "glossary.md").read_text()
    table = text.partition(f"<!-- begin banned {kind} -->")[2].partition(f"<!-- end banned {kind} -->")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 2
    assert all(len(row) == 2 and all(row) for row in rows)
    if kind != "phrases":
        assert all(fullmatch(r"(`\w+`(, )?)+", banned) for banned, _ in rows)


def test_the_glossary_is_in_order() -> None:
    terms = findall(r"^\| ([^|`-][^|]*) \| ", section("glossary.md", "Terms"), MULTILINE)[1:]
    assert len(terms) > 50
    assert terms == sorted(terms, key=str.lower)


def test_the_readme_names_every_package_that_ci_installs() -> None:
    (wanted,) = findall(r'^wanted="([^"]+)"', (DOCS.parent / ".ci" / "run").read_text(), MULTILINE)
    packages = set(wanted.replace("\\\n", " ").split())
    command = (DOCS.parent / "README.md").read_text().partition("sudo apt-get install --no-install-recommends ")[2].partition("```")[0]
    assert packages == set(command.replace("\\\n", " ").split())
