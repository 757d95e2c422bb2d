"""deploy/install.sh inside a real systemd: from nothing to a running service, up, back, and away."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.servers.mosquitto import Mosquitto
from testing.servers.systemd import Systemd
from testing.waiting import wait_for

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "deploy" / "install.sh"
INSTALL = "/mnt/checkout/deploy/install.sh"
CONFIG = "/etc/edgepose/config.yaml"

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("install")]  # one booted systemd


def variant(folder: Path, version: str, start: str = "") -> Path:
    """A copy of the checkout's program with another version; `start` is put before what `edgepose run` does."""
    shutil.copytree(CHECKOUT / "edgepose", folder / "edgepose", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(CHECKOUT / name, folder)
    package = folder / "edgepose" / "__init__.py"
    package.write_text(package.read_text().replace('__version__ = "0.1.0"', f'__version__ = "{version}"'))
    assert version in package.read_text()
    run = folder / "edgepose" / "cli" / "run.py"
    run.write_text(run.read_text().replace("    import os\n", f"    {start}\n    import os\n", 1))
    return folder


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that an installation without network needs, and versions to come."""
    folder = tmp_path_factory.mktemp("wheels")
    made = subprocess.run([SCRIPT, "--make-wheelhouse", folder / "house"], capture_output=True, text=True, timeout=300)
    if made.returncode == 69:
        pytest.skip(f"no wheels to install from: {made.stderr.strip()[-300:]}")
    assert made.returncode == 0, made.stdout + made.stderr
    for version, start in (("0.2.0", ""), ("0.3.0", "raise SystemExit(70)"), ("0.4.0", "")):
        source = variant(folder / version, version, start)
        if version == "0.4.0":  # knows a key less, as if it had been renamed
            known = source / "edgepose" / "config" / "schema.py"
            known.write_text(known.read_text().replace("    device: Annotated", "    device_label: Annotated"))
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
        subprocess.run(build, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Iterator[Systemd]:
    with Systemd(tmp_path_factory.mktemp("systemd"), {"/mnt/checkout": CHECKOUT, "/mnt/wheels": wheels}) as booted:
        yield booted


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as started:
        yield started


def install(machine: Systemd, *options: str, expected: int = 0) -> str:
    """What the script says."""
    done = machine.run(INSTALL, "--wheelhouse", "/mnt/wheels/house", *options, check=False, within_s=240)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout + done.stderr


def tree(machine: Systemd) -> str:
    """All that an installation may touch: names, modes, owners, sizes, times."""
    places = "/opt /etc /usr/local /usr/lib/systemd /var/lib/private"
    return machine.shell(f"find {places} -xdev ! -path '*/__pycache__*' -printf '%p %m %u %s %T@ %l\\n' | sort")


def running_version(machine: Systemd) -> str:
    assert machine.show("edgepose", "ActiveState") == "active"
    return machine.shell(f"tr '\\0' ' ' < /proc/{machine.show('edgepose', 'MainPID')}/cmdline").split("/releases/")[1].split("-")[0]


def test_a_dry_run_does_nothing(machine: Systemd) -> None:
    before = tree(machine)
    said = install(machine, "--dry-run")
    assert "would build /opt/edgepose/releases/0.1.0-" in said
    assert tree(machine) == before


def test_it_installs_with_an_example_that_is_valid(machine: Systemd) -> None:
    said = install(machine)
    assert f"next: edit {CONFIG}" in said
    assert machine.shell(f"stat -c '%a %U %G' {CONFIG} /etc/edgepose").splitlines() == ["600 root root", "750 root root"]
    assert machine.shell("edgepose --version").split()[-1] == "0.1.0"
    machine.run("edgepose", "check", "--config", CONFIG)
    machine.run("systemd-analyze", "verify", "--man=no", "/etc/systemd/system/edgepose.service")
    assert machine.show("edgepose", "ActiveState") == "inactive"
    assert machine.run("getent", "group", "render").stdout


def test_run_again_it_changes_nothing(machine: Systemd) -> None:
    before = tree(machine)
    assert install(machine).startswith("nothing to do: 0.1.0-")
    assert tree(machine) == before


def test_it_keeps_a_configuration_and_starts_the_service(machine: Systemd, broker: Mosquitto) -> None:
    clip = machine.shell("echo /opt/edgepose/current/lib/python3*/site-packages/edgepose/assets/demo.mp4").strip()
    cameras = f"{{front: {{source: {clip}, loop: true, realtime: true}}}}"
    wanted = f"device: drone\ncameras: {cameras}\nmqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
    machine.write(CONFIG, wanted, 0o600)
    said = install(machine, "--start")
    assert "start the service" in said
    assert running_version(machine) == "0.1.0"
    assert machine.run("systemctl", "is-enabled", "edgepose").stdout.strip() == "enabled"
    wait_for(lambda: "1 of 1 cameras streaming" in machine.show("edgepose", "StatusText"), within_s=30, every_s=0.2)
    assert machine.shell(f"cat {CONFIG}") == wanted
    assert install(machine, "--start").startswith("nothing to do")


def test_a_drop_in_whose_secret_is_missing_is_refused(machine: Systemd) -> None:
    assert "needs /etc/edgepose/mqtt-password, which does not exist" in install(machine, "--with", "mqtt-password", expected=66)
    assert "expected one of: encryption gpu local-camera monitoring mqtt-certificate mqtt-password" in install(
        machine, "--with", "wings", expected=66
    )
    assert running_version(machine) == "0.1.0"


def test_another_version_wants_to_be_asked_for(machine: Systemd) -> None:
    said = install(machine, "--source", "/mnt/wheels/edgepose-0.2.0-py3-none-any.whl", expected=73)
    assert "0.1.0-" in said
    assert "use --upgrade to replace it by 0.2.0-" in said


def test_an_upgrade_restarts_the_service_and_keeps_the_configuration(machine: Systemd) -> None:
    before = machine.shell(f"stat -c '%Y %s %a' {CONFIG}")
    said = install(machine, "--upgrade", "--source", "/mnt/wheels/edgepose-0.2.0-py3-none-any.whl")
    assert "restart the service" in said
    assert running_version(machine) == "0.2.0"
    assert machine.shell(f"stat -c '%Y %s %a' {CONFIG}") == before
    assert len(machine.shell("ls /opt/edgepose/releases").split()) == 2  # the last one stays, for the way back


def test_a_version_that_does_not_start_makes_place_for_the_old_one(machine: Systemd) -> None:
    said = install(machine, "--upgrade", "--source", "/mnt/wheels/edgepose-0.3.0-py3-none-any.whl", expected=70)
    assert "does not start; its last log lines:" in said
    assert "0.2.0-" in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("is installed again and runs")
    assert running_version(machine) == "0.2.0"
    assert not any(name.startswith("0.3.0") for name in machine.shell("ls /opt/edgepose/releases").split())


def test_a_version_that_refuses_the_configuration_is_not_put_in_place(machine: Systemd) -> None:
    before = machine.show("edgepose", "MainPID")
    said = install(machine, "--upgrade", "--source", "/mnt/wheels/edgepose-0.4.0-py3-none-any.whl", expected=78)
    assert "unknown key device" in said
    assert machine.show("edgepose", "MainPID") == before


def test_uninstalling_leaves_configuration_and_state_and_purging_nothing(machine: Systemd) -> None:
    said = install(machine, "--uninstall")
    assert "left: /etc/edgepose" in said
    assert machine.run("systemctl", "cat", "edgepose", check=False).returncode != 0
    left = machine.shell("find /opt /etc /usr/local /var/lib -xdev -name '*edgepose*' | sort").split()
    assert left == ["/etc/edgepose", "/var/lib/edgepose", "/var/lib/private/edgepose"]
    install(machine, "--uninstall", "--purge")
    assert machine.shell("find /opt /etc /usr /var/lib -xdev -name '*edgepose*' ! -path '/usr/share/*'").split() == []
    assert install(machine, "--uninstall", "--purge").startswith("nothing to do")
