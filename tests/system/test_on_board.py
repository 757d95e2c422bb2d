"""Debian's mosquitto with the shipped configuration, and edgepose beside it with a device's certificate, under a real systemd."""

from pathlib import Path

import pytest

from testing.servers.mosquitto import free_port
from testing.servers.systemd import Systemd
from testing.system.brokers import SHIPPED, Person, make_certificates
from testing.system.service import CHECKOUT, CLIP, UNIT
from testing.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("on_board")]  # one booted systemd


class Port:
    """Where a broker that systemd runs can be reached."""

    def __init__(self, port: int) -> None:
        self.port = port


@pytest.fixture
def on_board(machine: Systemd, tmp_path: Path) -> tuple[Port, Path]:
    """The broker, started, and the folder of all certificates."""
    pki = make_certificates(tmp_path / "pki", "drone", "reader")
    port = free_port()
    machine.write("/etc/mosquitto/conf.d/edgepose.conf", (SHIPPED / "edgepose.conf").read_text().replace("8883", str(port)))
    machine.write("/etc/mosquitto/edgepose.acl", (SHIPPED / "edgepose.acl").read_text())
    for wanted, made in (("ca.crt", "ca.crt"), ("broker.crt", "localhost.crt"), ("broker.key", "localhost.key")):
        machine.write(f"/etc/mosquitto/certs/{wanted}", (pki / made).read_text(), 0o640)
    for wanted, made in (("ca.crt", "ca.crt"), ("device.crt", "drone.crt"), ("device.key", "drone.key")):
        machine.write(f"/etc/edgepose/{wanted}", (pki / made).read_text(), 0o600)
    machine.shell("chown mosquitto /etc/mosquitto/certs/* /etc/mosquitto/edgepose.acl")
    drop_in = "mosquitto.service.d/edgepose.conf"
    machine.write(f"/etc/systemd/system/{drop_in}", (SHIPPED / drop_in).read_text())
    certificate = CHECKOUT / "deploy/drop-ins/mqtt-certificate.conf"
    machine.write(f"/etc/systemd/system/{UNIT}.d/{certificate.name}", certificate.read_text())
    machine.write(
        "/etc/edgepose/config.yaml",
        f"device: drone\ncameras: {{front: {{source: {CLIP}, loop: true, realtime: true}}}}\nmodel: {{threads: 1}}\n"
        f"mqtt: {{host: localhost, port: {port}, "
        "tls: {enabled: true, ca_file: ca.crt, certificate_file: device.crt, key_file: device.key}}\n",
        0o600,
    )
    machine.run("systemctl", "daemon-reload")
    started = machine.run("systemctl", "start", "mosquitto", check=False)
    assert started.returncode == 0, machine.journal("mosquitto") + machine.shell("cat /var/log/mosquitto/mosquitto.log")
    return Port(port), pki


def test_edgepose_and_the_broker_beside_it(machine: Systemd, on_board: tuple[Port, Path]) -> None:
    broker, pki = on_board
    machine.run("systemctl", "start", "edgepose")
    try:
        with Person(broker, pki, "reader", "edgepose/drone/#") as reader:  # type: ignore[arg-type]
            wait_for(lambda: reader.heard("/poses"), within_s=30)
            machine.kill("mosquitto", "KILL")
            wait_for(lambda: machine.show("mosquitto", "NRestarts") == "1", within_s=20, every_s=0.1)
            wait_for(reader.client.is_connected, within_s=20)
            seen = len(reader.heard("/poses"))
            wait_for(lambda: len(reader.heard("/poses")) > seen, within_s=20)
            machine.run("systemctl", "reload", "mosquitto")
            assert machine.show("mosquitto", "ActiveState") == "active"
    finally:
        print(machine.journal("edgepose"))
        machine.run("systemctl", "stop", "edgepose", "mosquitto", check=False)
