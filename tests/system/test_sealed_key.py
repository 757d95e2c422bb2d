"""Encryption under the shipped unit: systemd opens the sealed key, the state folder is unreadable, and without the key nothing starts."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepose.encryption.start import LOCK
from testing.servers.mosquitto import Mosquitto
from testing.servers.software_tpm import SoftwareTpm
from testing.servers.systemd import Systemd
from testing.system.service import CHECKOUT, UNIT, Service
from testing.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("service"), pytest.mark.needs("encryption", "systemd-creds")]

PROGRAM = "/opt/edgepose/current/bin/edgepose"
STATE = "/var/lib/edgepose"
CREDENTIAL = "/etc/edgepose/state-key.cred"
ENCRYPTED = f"""
events: {{store: {STATE}/events.db, enter_after_s: 0.3}}
commands: {{enabled: true, audit: {STATE}/commands.jsonl}}
files: {{jsonl: {STATE}/poses.jsonl}}
web: {{folder: {STATE}/web}}
encryption: {{enabled: true, key: state-key}}
"""


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    """The TPM of the booted machine."""
    with SoftwareTpm(tmp_path_factory.mktemp("tpm")) as started:
        yield started


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, tpm: SoftwareTpm) -> Iterator[Systemd]:
    """A systemd with this TPM and the shipped unit."""
    with Systemd(tmp_path_factory.mktemp("systemd"), Service.shared(), tpm.device) as booted:
        Service.install(booted)
        yield booted


@pytest.fixture
def encrypted(service: Service, broker: Mosquitto) -> Iterator[Service]:
    """The service with the shipped drop-in, an encrypted state and no key yet."""
    machine = service.machine
    drop_in = f"/etc/systemd/system/{UNIT}.d/encryption.conf"
    machine.write(drop_in, (CHECKOUT / "deploy/drop-ins/encryption.conf").read_text())
    machine.shell(f"rm -rf {CREDENTIAL} {STATE} /var/lib/private/edgepose; systemctl daemon-reload")
    service.configure(more=ENCRYPTED)
    yield service
    machine.shell(f"systemctl stop {UNIT}; rm -f {CREDENTIAL} {drop_in}; systemctl daemon-reload")


def command(machine: Systemd, tpm: SoftwareTpm, *words: str) -> str:
    """Run a command of root; only commands that use the TPM need the variable."""
    done = machine.run(PROGRAM, *words, SYSTEMD_TPM2_DEVICE=tpm.device)
    tpm.flush()
    return done.stdout


@pytest.mark.parametrize("seal", ["tpm2", "host"])
def test_a_sealed_key_opens_the_state_and_a_copy_of_it_tells_nothing(encrypted: Service, tpm: SoftwareTpm, seal: str) -> None:
    machine = encrypted.machine
    command(machine, tpm, "keys", "create", CREDENTIAL, "--seal", seal)
    encrypted.started()
    tpm.flush()
    wait_for(lambda: encrypted.on("cameras/front/events"), within_s=60)
    names = machine.shell(f"find {STATE}/ -mindepth 1 -printf '%f\\n'").split()
    assert len([name for name in names if len(name) > 60]) >= 3  # sealed
    assert {name for name in names if len(name) <= 60} <= {LOCK, "web"}
    machine.run("systemctl", "stop", UNIT)
    for word in ("captured_at", "keypoints", "entered", "command"):
        assert machine.run("grep", "-rl", word, f"{STATE}/", check=False).stdout == ""
    read = command(machine, tpm, "keys", "decrypt", f"{STATE}/poses.jsonl", "--config", "/etc/edgepose/config.yaml")
    assert '"camera":"front"' in read
    assert encrypted.show("NRestarts") == "0"


def test_where_systemd_cannot_open_it_the_service_ends_once_and_says_why(encrypted: Service, tpm: SoftwareTpm, tmp_path: Path) -> None:
    machine = encrypted.machine
    with SoftwareTpm(tmp_path / "stranger") as stranger:
        command(machine, stranger, "keys", "create", CREDENTIAL, "--seal", "tpm2")
    for prepare in (
        "true",  # sealed by the TPM of another machine
        f"echo c29tZXRoaW5nIGVsc2UsIG5vdCBhIGtleSBvZiB0aGlzIG1hY2hpbmUgYXQgYWxs > {CREDENTIAL}",
        f"rm -f {CREDENTIAL}",
    ):
        machine.shell(f"{prepare}; systemctl reset-failed {UNIT} || true", within_s=120)
        tpm.flush()
        said = encrypted.journal().count("cannot be opened; expected")
        assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
        wait_for(lambda: encrypted.show("ActiveState") == "failed", within_s=30)
        wait_for(lambda said=said: encrypted.journal().count("cannot be opened; expected") == said + 1, within_s=30)  # type: ignore[misc]
        time.sleep(2.5)  # longer than RestartSec: were it tried again, it would be by now
        assert (encrypted.show("ActiveState"), encrypted.show("ExecMainStatus"), encrypted.show("NRestarts")) == ("failed", "243", "0")
    assert "Traceback" not in encrypted.journal()


def test_without_the_credential_the_program_refuses_and_is_not_tried_again(service: Service) -> None:
    service.configure(more=ENCRYPTED)
    assert service.machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    wait_for(lambda: service.show("ActiveState") == "failed", within_s=30)
    time.sleep(2.5)
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("78", "0")
    assert "encryption.key: /run/credentials/edgepose.service/state-key cannot be read" in service.journal()
