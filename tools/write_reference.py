"""Tables of docs/ that are generated from the code: configuration keys and command-line options (`make docs`).

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. tests/test_docs.py fails when one is out of date.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

import click

from edgepose.cli.main import COMMANDS, cli
from edgepose.config.reference import keys

DOCS = Path(__file__).resolve().parents[1] / "docs"


def configuration() -> str:
    """Return a table of keys for each section of the configuration."""
    lines: list[str] = []
    section = None
    for key in keys():
        head, _, name = key.path.rpartition(".")
        if head != section:
            section = head
            lines += [
                "",
                f"### `{head}`" if head else "### Top level",
                "",
                "| key | accepted | default | what it is for |",
                "|---|---|---|---|",
            ]
        default = "required" if key.default == "(required)" else f"`{key.default}`"
        lines.append(f"| `{name}` | {key.accepted} | {default} | {key.description} |")
    return "\n".join(lines).strip()


def commands() -> str:
    """Return usage, options and example of each command."""
    context = click.Context(cli, info_name="edgepose", **cli.context_settings)
    parts: list[str] = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join(command.collect_usage_pieces(inner))
        paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
        lines = [f"### `edgepose {name} {usage}`", ""]
        for paragraph in paragraphs:
            lines += [" ".join(paragraph.split()), ""]
        lines += ["| option | what it does |", "|---|---|"]
        for parameter in command.get_params(inner):
            record = parameter.get_help_record(inner) if isinstance(parameter, click.Option) else None
            if record is not None:
                # A command that ran alone in this process keeps the help option that it had there, without the group's `-h`.
                names = ", ".join(inner.help_option_names) if "--help" in parameter.opts else record[0]
                lines.append(f"| `{names.replace('|', chr(92) + '|')}` | {' '.join(record[1].split())} |")
        lines += ["", f"{(command.epilog or '').replace('Example: ', 'Example: `')}`"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("configuration.md", "keys"): configuration,
    ("commands.md", "commands"): commands,
}


def with_table(text: str, name: str, table: str) -> str:
    """Return the text of a document with one table replaced.

    Raises:
        SystemExit: the document lacks the markers of the table.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"the document has no place for the table {name}; expected the lines {begin} and {end}")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def main() -> None:
    """Write all tables again."""
    for (document, name), table in TABLES.items():
        path = DOCS / document
        path.write_text(with_table(path.read_text(encoding="utf-8"), name, table()), encoding="utf-8")


if __name__ == "__main__":
    main()
