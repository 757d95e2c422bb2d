"""Command `edgepose bundle`: which bundle a device uses, and whether it would take another."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option


@click.command("bundle", short_help="Show or verify signed bundles of configuration and models.", epilog="Example: edgepose bundle status")
@click.argument("action", type=click.Choice(("status", "verify")))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@configuration_options
@json_option
def command(action: str, file: Path | None, config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Show the bundle in use, or verify FILE as the daemon of this configuration would, without applying it or fetching its files.

    `status` tells which bundle is in use, whether it is on trial, and what became of the newest one. `verify FILE` checks signature,
    device, number and time, and that the configuration sets no pinned key.
    """
    from datetime import datetime, timezone

    import msgspec

    from edgepose.bundles.fetch import refuse_urls
    from edgepose.bundles.manifest import LIMIT_BYTES, refuse_foreign, refuse_replayed, refuse_untimely, verified
    from edgepose.bundles.pins import refuse_pinned
    from edgepose.bundles.public_keys import read_keys
    from edgepose.bundles.store import BundleStore
    from edgepose.config.load import device_name, load
    from edgepose.errors import ConfigError, UsageError

    if (action == "verify") != (file is not None):
        raise UsageError(f"edgepose bundle {action} {'lacks' if file is None else 'takes no'} FILE; expected verify with one, or status")
    config = load(config_file, settings)
    bundles = config.bundles
    if bundles.folder is None or bundles.keys_file is None:
        raise ConfigError("bundles.folder or bundles.keys_file is not set; expected the configuration of a device that takes bundles")
    pointer = BundleStore(Path(bundles.folder)).pointer
    if file is None:
        if as_json:
            click.echo(msgspec.json.encode(pointer))
            return
        used = "none: the device's own configuration is used alone" if pointer.current is None else str(pointer.current)
        click.echo(f"in use\t{used}{'' if pointer.trial is None else f', on trial (start {pointer.trial.starts})'}")
        click.echo(f"before\t{'none' if pointer.previous is None else pointer.previous}")
        click.echo(f"taken\tnumbers from {pointer.highest + 1}")
        if (attempt := pointer.attempt) is not None:
            number = "a bundle" if attempt.number is None else f"bundle {attempt.number}"
            click.echo(f"newest\t{number} was {attempt.state.replace('_', ' ')}: {attempt.reason}")
        return
    try:
        with file.open("rb") as opened:
            message = opened.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; expected a bundle") from error
    bundle = verified(message, read_keys(Path(bundles.keys_file)))
    refuse_foreign(bundle.manifest, device_name(config), bundles.groups)
    refuse_replayed(bundle.manifest, pointer.highest)
    refuse_untimely(bundle.manifest, datetime.now(timezone.utc))
    refuse_pinned(bundle.manifest.configuration, bundles.pinned)
    refuse_urls(bundle.manifest.files)
    files = [{"name": each.name, "size": each.size, "sha256": each.sha256} for each in bundle.manifest.files]
    if as_json:
        click.echo(msgspec.json.encode({"number": bundle.number, "key": bundle.key, "sha256": bundle.digest, "files": files}))
    else:
        listed = ", ".join(f"{each.name} ({each.size} bytes)" for each in bundle.manifest.files) or "no files"
        click.echo(f"bundle {bundle.number}, signed with key {bundle.key}: {listed}")
