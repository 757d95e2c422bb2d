"""Command `edgepose audit`: whether the record of commands is complete."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option


@click.command(
    "audit", short_help="Verify the record of commands.", epilog="Example: edgepose audit verify /var/lib/edgepose/commands.jsonl"
)
@click.argument("action", type=click.Choice(["verify"]))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@configuration_options
@json_option
def command(action: str, file: Path | None, config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Verify that no line of the record of commands was changed, deleted or reordered.

    FILE is the newest file of the record; the default is `commands.audit` of the configuration. The older one beside it, FILE.1, is
    verified too, and FILE.head says where both begin and end. The exit code is 66 if something does not verify.
    """
    import msgspec

    from edgepose.config.load import load
    from edgepose.config.schema import Config
    from edgepose.encryption.start import use_configured_files
    from edgepose.errors import RecordingError, UsageError
    from edgepose.printable import printable
    from edgepose.storage.chained_lines import verify_lines

    config = load(config_file, settings) if file is None or config_file is not None or settings else Config()
    use_configured_files(config)
    if file is None:
        configured = config.commands.audit
        if configured is None:
            raise UsageError("no record of commands is configured; expected FILE, or the key commands.audit")
        file = Path(configured)
    try:
        found = verify_lines(file)
    except OSError as error:
        raise RecordingError(f"{file} cannot be read: {error.strerror}; expected the record of commands of a daemon") from error
    if as_json:
        click.echo(msgspec.json.encode(found))
    elif not found.problems:
        older = f", and {found.unchained} of an earlier version without hashes" if found.unchained else ""
        click.echo(f"{file}: {found.lines} lines verify{older}; the last hash is {found.last or '-'}")
    if found.problems:
        shown = "; ".join(printable(problem) for problem in found.problems[:5])
        more = f"; and {len(found.problems) - 5} more" if len(found.problems) > 5 else ""
        raise RecordingError(f"{file} does not verify: {shown}{more}; expected the lines as the daemon wrote them")
