"""A master key that a TPM2 has sealed: the machine with this TPM opens everything by itself, and no other one does."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepose.cli.main import run
from edgepose.encryption.encrypted_files import EncryptedFiles
from edgepose.encryption.master_keys import parse_keys, read_keys
from edgepose.encryption.sealed_keys import unsealed
from testing.servers.software_tpm import SoftwareTpm

pytestmark = pytest.mark.needs("root", "systemd-creds")


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    """The TPM of this machine."""
    with SoftwareTpm(tmp_path_factory.mktemp("tpm")) as started:
        yield started


@pytest.fixture
def key(tmp_path: Path, tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A key that the TPM has sealed beside this path, where a service finds it opened."""
    use(tpm, monkeypatch)
    assert run(["keys", "create", str(tmp_path / "state-key.cred"), "--seal", "tpm2"]) == 0
    assert "keep a copy elsewhere, which `systemd-creds decrypt --name=state-key" in capsys.readouterr().out
    assert (tmp_path / "state-key.cred").stat().st_mode & 0o777 == 0o600
    tpm.flush()
    return tmp_path / "state-key"


def use(tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch) -> None:
    tpm.flush()
    monkeypatch.setenv("SYSTEMD_TPM2_DEVICE", tpm.device)


def settings(folder: Path, key: Path) -> list[str]:
    named = {"encryption.enabled": "true", "encryption.key": key, "events.store": folder / "events.db", "web.folder": folder / "web"}
    return [part for name, value in named.items() for part in ("--set", f"{name}={value}")]


def test_the_machine_opens_it_and_what_it_protects(key: Path, tpm: SoftwareTpm, capsys: pytest.CaptureFixture[str]) -> None:
    (master,) = read_keys(key)
    tpm.flush()
    assert master.secret not in key.with_name("state-key.cred").read_bytes()
    assert master.text.encode() not in key.with_name("state-key.cred").read_bytes()
    stored = key.parent / "events.db"
    file = EncryptedFiles([master]).open(stored, "test")
    file.append(b"somebody was here")
    file.close()
    command = [sys.executable, "-m", "edgepose", "keys", "decrypt", str(stored), *settings(key.parent, key)]
    assert subprocess.run(command, capture_output=True, timeout=120, env=tpm.environment).stdout == b"somebody was here"
    tpm.flush()
    assert run(["keys", "status", *settings(key.parent, key)]) == 0
    assert "1 encrypted files" in capsys.readouterr().out


def test_a_rotation_seals_the_new_key(key: Path, tpm: SoftwareTpm, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_keys(key)
    file = EncryptedFiles(before).open(key.parent / "events.db", "test")
    file.append(b"somebody was here")
    file.close()
    tpm.flush()
    assert run(["keys", "rotate", "--seal", "tpm2", *settings(key.parent, key)]) == 0
    assert "1 files are under the new key" in capsys.readouterr().out
    tpm.flush()
    after = read_keys(key)
    assert len(after) == 1
    assert after != before
    assert EncryptedFiles(after).load(key.parent / "events.db", "test") == b"somebody was here"
    assert not EncryptedFiles(before).place(key.parent / "events.db").exists()


def test_no_other_machine_opens_it(
    key: Path, tpm: SoftwareTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(reason: str, other: Path = key) -> None:
        for command in ("run", "keys status", "check"):
            assert run([*command.split(), "--set", "cameras.a.source=/dev/null", *settings(tmp_path, other)]) == 78
            said = capsys.readouterr()
            (sentence,) = [line for line in (said.out + said.err).splitlines() if "encryption.key: " in line]
            assert "state-key.cred cannot be opened: " in sentence or "other-key.cred cannot be opened: " in sentence
            assert reason in sentence
            assert "expected the TPM2 or the host that sealed it" in sentence

    with SoftwareTpm(tmp_path / "stranger") as stranger:
        use(stranger, monkeypatch)
        refused("integrity check failed")
    monkeypatch.setenv("SYSTEMD_TPM2_DEVICE", stranger.device)  # which is gone
    refused("IO failure")
    use(tpm, monkeypatch)
    key.with_name("state-key.cred").rename(key.with_name("other-key.cred"))
    with pytest.raises(Exception, match=r"other-key\.cred cannot be opened: .*name"):
        unsealed(key.with_name("other-key.cred"))


def test_a_key_of_the_host_is_a_credential_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("SYSTEMD_TPM2_DEVICE", raising=False)
    sealed = tmp_path / "state-key.cred"
    assert run(["keys", "create", str(sealed), "--seal", "host"]) == 0
    opened = subprocess.run(["systemd-creds", "decrypt", "--name=state-key", str(sealed), "-"], capture_output=True, timeout=60)
    assert parse_keys(opened.stdout.decode(), "it") == read_keys(sealed)
    assert run(["keys", "create", str(tmp_path / "none.cred"), "--seal", "tpm2"]) == 74
    assert "no key can be sealed with tpm2: " in capsys.readouterr().err
