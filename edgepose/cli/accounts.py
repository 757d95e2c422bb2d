"""Command `edgepose accounts`: the accounts of the web page, on the device itself."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option

_ACTIONS = ("setup", "list", "add", "reset", "remove")


@click.command("accounts", short_help="Manage the accounts of the web page.", epilog="Example: edgepose accounts reset anna")
@click.argument("action", type=click.Choice(_ACTIONS))
@click.argument("name", required=False)
@click.option("--role", type=click.Choice(("viewer", "operator", "admin")), help="Role of a new account.")
@json_option
@configuration_options
def command(action: str, name: str | None, role: str | None, as_json: bool, config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Show the first link, or list, add, reset or remove accounts of the web page, as root or as the user of the service.

    `setup` shows the link that makes the first administrator. `add NAME --role ROLE` and `reset NAME` show a link by which the owner of the
    account sets password and second factor, once, within a day; `reset` also ends sessions and tokens. A running page follows at once.
    """
    import msgspec

    from edgepose.cli.serve import refuse_without_extra
    from edgepose.config.addresses import is_loopback
    from edgepose.config.load import load, web_folder
    from edgepose.encryption.start import use_configured_files
    from edgepose.errors import UsageError
    from edgepose.telemetry.wall_clock import WallClock

    refuse_without_extra("edgepose accounts")
    from edgepose.web.accounts import file as accounts
    from edgepose.web.accounts.file import Account, AccountData, AccountFile, Role
    from edgepose.web.accounts.first_start import kept_address, kept_link, setup_link

    if (action in ("add", "reset", "remove")) != (name is not None):
        raise UsageError(
            f"edgepose accounts {action} {'lacks' if name is None else 'takes no'} NAME; expected add, reset or remove with one"
        )
    if (action == "add") != (role is not None):
        raise UsageError("--role belongs to `edgepose accounts add NAME`; expected it there, and nowhere else")
    config = load(config_file, settings)
    use_configured_files(config)
    file = AccountFile(web_folder(config))
    scheme = "http" if is_loopback(config.web.host) and config.web.certificate_file is None else "https"
    url = kept_address(file) or f"{scheme}://{config.web.host}:{config.web.port}"
    if action == "setup":
        click.echo(kept_link(file) or setup_link(file, url))
    elif action == "list":
        found = sorted(file.read().accounts.items())
        if as_json:
            click.echo(
                msgspec.json.encode(
                    [{"name": each, "role": account.role, "ready": account.password is not None} for each, account in found]
                )
            )
        for each, account in [] if as_json else found:
            click.echo(f"{each}\t{account.role}\t{'ready' if account.password is not None else 'waits for its link to be opened'}")
    else:
        assert name is not None
        chosen: Role = next((each for each in accounts.ROLES if each == role), "viewer")

        def change(data: AccountData) -> tuple[AccountData, str | None]:
            assert name is not None
            if action == "remove":
                return accounts.without_account(data, name), None
            if action == "add":
                accounts.check_name(name)
                if name in data.accounts:
                    raise UsageError(f"there is an account {name} already; expected another name, or `edgepose accounts reset {name}`")
                changed = accounts.with_account(data, name, Account(role=chosen, epoch=accounts.new_epoch()))
            else:
                if name not in data.accounts:
                    raise UsageError(f"there is no account {name}; expected one of {', '.join(sorted(data.accounts)) or 'none'}")
                changed = accounts.without_access(data, name, data.accounts[name].role)
            return accounts.with_link(changed, name, accounts.INVITATION_S)

        text = file.update(change)
        if text is not None:
            click.echo(f"{url}/setup#{text}")
        why = WallClock(None).unset()
        if why is not None:
            click.echo(
                f"note: the clock of this device is not set ({why}); until it is, no time-based code and no token is accepted", err=True
            )
