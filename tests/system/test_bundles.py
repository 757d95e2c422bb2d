"""Bundles under the shipped unit: a daemon that cannot work with a new one is started again until the old configuration runs."""

import json
from typing import Any

import pytest
from paho.mqtt import publish

from testing.bundles import message, public_keys
from testing.system.service import Service
from testing.waiting import wait_for

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.needs("encryption")]  # one booted systemd

FAULT = "/etc/edgepose/fault"
POINTER = "/var/lib/edgepose/bundles/pointer.json"

# Runs at the start of the daemon's interpreter, and makes a daemon fail that has a bundle on trial: at its start, or while it applies it.
FAULTY = f"""
import json, logging, pathlib, time
from edgepose.supervision import systemd
told, set_level, started = systemd.Notifier.ready, logging.Logger.setLevel, []
def fault():
    path, pointer = pathlib.Path("{FAULT}"), pathlib.Path("{POINTER}")
    on_trial = path.exists() and pointer.exists() and json.loads(pointer.read_text())["trial"]
    return path.read_text() if on_trial else ""
def ready(self):
    kind = "" if started else fault()
    started.append(True)
    if kind == "raises":
        raise RuntimeError("a fault of the new model")
    if kind == "hangs":
        time.sleep(3600)
    told(self)
def broken_set_level(self, level):
    if fault() == "breaks":
        raise RuntimeError("a fault of the new model")
    set_level(self, level)
systemd.Notifier.ready, logging.Logger.setLevel = ready, broken_set_level
"""


NEVER_GOOD = "cameras: {front: {source: 'rtsp://127.0.0.1:9/away'}}\nlog: {level: debug}\n"


class Device:
    """The service with bundles, and a bundle on trial in it that never succeeds: its camera is not there."""

    def __init__(self, service: Service) -> None:
        self.service = service
        machine = service.machine
        machine.shell(f"rm -rf {FAULT} /var/lib/private/edgepose/bundles")
        site = machine.shell("echo /opt/edgepose/current/lib/python3*/site-packages").strip()
        machine.write(f"{site}/zz_fault.pth", "import fault_of_test\n")  # after the one that names the checkout
        machine.write(f"{site}/fault_of_test.py", FAULTY)
        machine.write("/etc/edgepose/fleet.pub", public_keys().decode())
        service.configure(more="bundles: {enabled: true, keys_file: fleet.pub, trial_s: 300}")
        service.drop_in("LoadCredential=fleet.pub:/etc/edgepose/fleet.pub\nRestartSec=0.1\nTimeoutStartSec=20\nTimeoutStopSec=1")
        service.started()
        self.publish(b"")

    def publish(self, payload: bytes) -> None:
        auth: Any = {"username": "reader", "password": "r"}
        publish.single("edgepose/drone/bundle/new", payload, 1, True, "127.0.0.1", self.service.port, auth=auth)

    def try_bundle(self) -> None:
        self.publish(message(1, NEVER_GOOD))
        wait_for(lambda: self.state() == "trying", within_s=60)
        self.publish(b"")

    def state(self) -> str:
        told = self.service.on("bundle")
        return str(told[-1]["state"]) if told else ""

    def trial(self) -> dict[str, Any] | None:
        pointer = json.loads(self.service.machine.shell(f"cat {POINTER}"))
        found: dict[str, Any] | None = pointer["trial"]
        return found

    def wait_for_start(self, number: int) -> None:
        wait_for(lambda: (self.trial() or {}).get("starts") == number, within_s=60)
        wait_for(lambda: self.service.show("ActiveState") == "active", within_s=60)

    def is_as_before(self, restarts: int, reason: str = "it was started 3 times without a success") -> None:
        """Check that the service runs on its own configuration again, and says why."""
        wait_for(lambda: self.state() == "rolled_back", within_s=120)
        assert reason in self.service.on("bundle")[-1]["reason"]
        assert "active" not in self.service.on("bundle")[-1]
        seen = len(self.service.on("cameras/front/poses"))
        wait_for(lambda: len(self.service.on("cameras/front/poses")) > seen + 3, within_s=60)
        assert self.service.show("ActiveState") == "active"
        assert self.service.show("NRestarts") == str(restarts)
        assert self.trial() is None
        assert "bundle 1 is rolled back to no bundle" in self.service.journal()


@pytest.fixture
def device(service: Service) -> Device:
    return Device(service)


@pytest.mark.system
def test_a_daemon_that_is_killed_in_each_start_of_a_trial_runs_as_before(device: Device) -> None:
    device.try_bundle()
    for starts in (1, 2, 3):
        device.wait_for_start(starts)
        device.service.machine.kill("edgepose", "KILL")
    device.is_as_before(restarts=3)


@pytest.mark.system
@pytest.mark.parametrize(("fault", "says"), [("raises", "unexpected RuntimeError"), ("hangs", "start operation timed out")])
def test_a_daemon_that_ends_or_is_never_ready_on_trial_runs_as_before(device: Device, fault: str, says: str) -> None:
    device.service.machine.write(FAULT, fault)
    device.try_bundle()
    device.service.machine.kill("edgepose", "KILL")
    device.is_as_before(restarts=3)
    assert device.service.journal().count(says) == 2
    if fault == "raises":
        assert "status=70" in device.service.journal()


def test_a_daemon_that_applies_only_a_part_ends_with_70_and_runs_as_before(device: Device) -> None:
    device.service.machine.write(FAULT, "breaks")
    device.publish(message(1, NEVER_GOOD))
    wait_for(lambda: device.service.show("NRestarts") == "1", within_s=60)
    device.publish(b"")
    device.is_as_before(restarts=1, reason="only a part of it could be applied: unexpected RuntimeError: a fault of the new model")
    assert "status=70" in device.service.journal()
