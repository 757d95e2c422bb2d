"""Command `edgepose keys`: the master key of everything that is stored."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepose.cli.options import configuration_options, json_option

if TYPE_CHECKING:
    from edgepose.config.schema import Config
    from edgepose.encryption.encrypted_files import EncryptedFiles


@click.command(
    "keys",
    short_help="Make, exchange and check the key of stored data.",
    epilog="Example: edgepose keys create /etc/edgepose/state.key",
)
@click.argument("action", type=click.Choice(["create", "rotate", "status", "encrypt", "decrypt"]))
@click.argument("path", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--seal",
    type=click.Choice(["auto", "tpm2", "host", "host+tpm2"]),
    default="auto",
    show_default=True,
    help="What seals a key whose file ends in .cred: the TPM2, the key of the host, or both; auto: both where there is a TPM2.",
)
@configuration_options
@json_option
def command(action: str, path: Path | None, seal: str, config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Make, exchange and check the master key, without which nothing that is stored can be read (`encryption.enabled`).

    `create PATH` writes a new key to a file that its owner alone can read; `-` writes it to standard output. Where PATH ends in `.cred`,
    `systemd-creds` seals it, so that only this machine opens it, as the credential of a service or for root. `rotate` makes a new key in
    the file of `encryption.key`, sealed as `--seal` says, and brings every stored file under it, with the service stopped; cut off at any
    moment, nothing is lost, and a further run completes it. `status` reads every stored file and counts what does not verify.
    `encrypt` encrypts what was written before encryption was enabled, with the service stopped. `decrypt PATH` writes the content of one
    stored file to standard output.
    """
    from edgepose.config.load import load
    from edgepose.encryption.start import configured_files, state_folders
    from edgepose.errors import ConfigError, UsageError

    if (action in ("create", "decrypt")) != (path is not None):
        raise UsageError(f"edgepose keys {action} {'lacks' if path is None else 'takes no'} PATH; expected create or decrypt with one")
    if action == "create":
        assert path is not None
        _create(path, seal)
        return
    config = load(config_file, settings)
    if not config.encryption.enabled:
        raise ConfigError("encryption.enabled is false, so nothing stored is encrypted; expected true, and a key in encryption.key")
    files = configured_files(config)
    from edgepose.encryption.encrypted_files import EncryptedFiles

    assert isinstance(files, EncryptedFiles)
    if action == "decrypt":
        assert path is not None
        _decrypt(path, files)
    elif action == "rotate":
        assert config.encryption.key is not None
        _rotate(Path(config.encryption.key), seal, files, state_folders(config), as_json=as_json)
    elif action == "encrypt":
        _encrypt(config, files)
    else:
        _show_status(files, state_folders(config), as_json=as_json)


def _create(path: Path, seal: str) -> None:
    from edgepose.encryption.sealed_keys import is_sealed
    from edgepose.encryption.start import NO_LIBRARY
    from edgepose.errors import UnavailableError

    try:
        from edgepose.encryption.master_keys import MasterKey, write_keys
    except ModuleNotFoundError as error:
        raise UnavailableError(f"no key can be made: {NO_LIBRARY}") from error
    key = MasterKey.new()
    if str(path) == "-":
        click.echo(key.text)
        return
    write_keys(path, [key], new=True, seal=seal)
    copy = f", which `systemd-creds decrypt --name={path.stem} {path} -` shows" if is_sealed(path) else ""
    click.echo(
        f"{path} holds a new master key ({key.identifier.hex()}); keep a copy elsewhere{copy}: without it, nothing stored can be read"
    )


def _decrypt(path: Path, files: "EncryptedFiles") -> None:
    import sys

    from edgepose.errors import RecordingError

    try:
        with open(files.place(path), "rb") as opened:
            from edgepose.encryption.encrypted_files import EncryptedFile

            file = EncryptedFile(opened.fileno(), files.masters, "", shown=str(path))
            for part in file.parts():
                sys.stdout.buffer.write(part)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}; expected a stored file") from error
    sys.stdout.buffer.flush()
    if file.damage:
        raise RecordingError(f"{path} does not verify ({_words(file.damage)}); expected a file as edgepose wrote it")


def _encrypt(config: "Config", files: "EncryptedFiles") -> None:
    import os

    from edgepose.encryption.conversion import encrypt_existing
    from edgepose.encryption.files import use_files
    from edgepose.encryption.start import locked, state_folders
    from edgepose.errors import OutputError

    locks = []
    before = use_files(files)
    try:
        for lock in locked(state_folders(config), exclusive=True):
            locks.append(lock)
        count, left = encrypt_existing(config, files)
    except OSError as error:
        raise OutputError(f"not all files are encrypted: {error}; expected another run to complete it") from error
    finally:
        use_files(before)
        for lock in locks:
            os.close(lock)
    click.echo(f"{count} files were encrypted")
    for path in left:
        click.echo(f"not encrypted: {path}")


def _rotate(path: Path, seal: str, files: "EncryptedFiles", folders: list[Path], *, as_json: bool) -> None:
    import os

    from edgepose.encryption.master_keys import MasterKey, write_keys
    from edgepose.encryption.rotation import rotate
    from edgepose.encryption.sealed_keys import place_of
    from edgepose.encryption.start import locked
    from edgepose.errors import OutputError

    locks = []
    path = place_of(path)
    try:
        for lock in locked(folders, exclusive=True):
            locks.append(lock)
        masters = files.masters
        is_credential = not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK)
        if len(masters) == 1:
            if is_credential:
                raise OutputError(
                    f"{path} holds one key and cannot be written; expected a credential with two keys, the new one in its first line"
                )
            masters = [MasterKey.new(), *masters]
            write_keys(path, masters, seal=seal)  # from now on both keys open everything
        done = rotate(folders, masters)
        if not is_credential:
            write_keys(path, masters[:1], seal=seal)
    except OSError as error:
        raise OutputError(f"the rotation was cut off: {error}; nothing is lost, expected another run to complete it") from error
    finally:
        for lock in locks:
            os.close(lock)
    words = f"{done.files} files are under the new key {masters[0].identifier.hex()}"
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({"files": done.files, "keys": done.keys, "names": done.names, "key": masters[0].identifier.hex()}))
    elif is_credential:
        click.echo(f"{words}; now remove all lines but the first from the credential of {path}")
    else:
        click.echo(words)


def _show_status(files: "EncryptedFiles", folders: list[Path], *, as_json: bool) -> None:
    import msgspec

    from edgepose.encryption.encrypted_files import EncryptedFile
    from edgepose.encryption.rotation import encrypted_in
    from edgepose.encryption.start import LOCK
    from edgepose.errors import RecordingError

    damage: Counter[str] = Counter()
    count = size = 0
    damaged, clear = [], []
    for folder in folders:
        for place, name in encrypted_in(folder, files.masters):
            with place.open("rb") as opened:
                file = EncryptedFile(opened.fileno(), files.masters, "", damage)
                for _ in file.parts():
                    pass
                count, size = count + 1, size + file.size
            if file.damage:
                damaged.append(f"{folder / name} ({_words(file.damage)})")
        if folder.is_dir():
            clear += [str(each) for each in sorted(folder.iterdir()) if each.is_file() and not files.name(each.name) and each.name != LOCK]
    keys = [key.identifier.hex() for key in files.masters]
    if as_json:
        click.echo(msgspec.json.encode({"keys": keys, "files": count, "bytes": size, "damage": damage, "damaged": damaged, "clear": clear}))
    else:
        click.echo(f"key {keys[0]}" + (f", and {len(keys) - 1} before it: a rotation is not complete" if keys[1:] else ""))
        click.echo(f"{count} encrypted files, {size} bytes")
        for each in clear:
            click.echo(f"not encrypted: {each}")
    if damaged:
        raise RecordingError(f"{len(damaged)} files do not verify: {'; '.join(damaged[:5])}; expected files as edgepose wrote them")


def _words(damage: Counter[str]) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in sorted(damage.items()))
