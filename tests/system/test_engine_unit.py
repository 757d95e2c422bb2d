"""edgepose-engine.service under a real systemd, with the stand-in of TensorRT: it builds, and the daemon waits for its engine."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.system.service import CHECKOUT, Service
from testing.tensorrt_stand_in import write_packages
from testing.waiting import slowness, wait_for

pytestmark = pytest.mark.xdist_group("service")  # one booted systemd

ENGINE = "edgepose-engine.service"
GATES = "/run/gates"
STAND_IN = "/opt/stand-in"


@pytest.fixture
def timeout_s() -> float:
    """A start timeout that the first report of progress keeps: that takes a second on an idle machine."""
    return 3 * slowness()


@pytest.fixture
def unit(service: Service, tmp_path: Path, timeout_s: float) -> Iterator[Service]:
    """The service with the engine's unit beside it; a build waits for the file `finish` in the folder of gates."""
    machine = service.machine
    packages = write_packages(tmp_path, step_s=0.4, gates=Path(GATES))
    for file in packages.rglob("*.py"):
        machine.write(f"{STAND_IN}/{file.relative_to(packages)}", file.read_text())
    machine.run("mkdir", "-p", GATES)
    machine.write("/etc/sysusers.d/edgepose.conf", (CHECKOUT / "deploy/sysusers/edgepose.conf").read_text())
    machine.run("systemd-sysusers", "/etc/sysusers.d/edgepose.conf")
    machine.write(f"/etc/systemd/system/{ENGINE}", (CHECKOUT / "systemd" / ENGINE).read_text())
    variables = f"Environment=PYTHONPATH={STAND_IN}:/opt/under-test/checkout"
    machine.write(f"/etc/systemd/system/{ENGINE}.d/test.conf", f"[Service]\n{variables}\nTimeoutStartSec={timeout_s:.0f}\n")
    service.configure(more="refine: {people: 0}", model="{threads: 1, backend: tensorrt}")
    service.drop_in(variables)
    try:
        yield service
    finally:
        print(machine.journal(ENGINE))
        machine.run("systemctl", "stop", ENGINE, check=False)
        machine.run("rm", "-rf", GATES, f"/etc/systemd/system/{ENGINE}", f"/etc/systemd/system/{ENGINE}.d")


def state(unit: Service) -> str:
    return unit.machine.show(ENGINE, "ActiveState")


def test_it_builds_beyond_its_start_timeout_and_the_daemon_waits_for_its_engine(unit: Service, timeout_s: float) -> None:
    machine = unit.machine
    machine.run("systemctl", "start", "--no-block", ENGINE)
    building = r"building: [1-9]\d* %, ghost-n: Tactics"
    wait_for(lambda: state(unit) == "failed" or re.fullmatch(building, machine.show(ENGINE, "StatusText")), within_s=60, every_s=0.1)
    assert state(unit) == "activating"
    session = unit.started()  # which wants the engine's unit, and does not wait for it
    told = wait_for(lambda: [message for message in unit.on("status") if message.get("building_engine")], within_s=60)[-1]
    assert 0 < told["building_engine"] < 100
    assert told["reason"] == "connected; the engine is being built: ghost-n: Tactics"  # what the unit's process says
    health = wait_for(lambda: [message for message in unit.on("health") if "building_engine" in message], within_s=30)[-1]
    assert (health["backend"], health["degraded"]) == ("onnxruntime-cpu", ["building_engine"])

    began_s = int(machine.show(ENGINE, "ExecMainStartTimestampMonotonic")) / 1e6
    wait_for(lambda: time.monotonic() > began_s + timeout_s + 0.5, within_s=60)
    assert state(unit) == "activating"  # each report has asked for more time

    machine.run("touch", f"{GATES}/finish")
    wait_for(lambda: state(unit) == "inactive", within_s=60)
    assert (machine.show(ENGINE, "Result"), machine.show(ENGINE, "ExecMainStatus")) == ("success", "0")
    wait_for(lambda: "model ghost-n.onnx on tensorrt (Stand-in, cuda:0" in unit.journal(), within_s=60)
    wait_for(lambda: unit.on("status")[-1]["state"] == "online" and "building_engine" not in unit.on("status")[-1], within_s=30)
    wait_for(lambda: unit.on("health")[-1]["backend"] == "tensorrt" and unit.on("health")[-1]["degraded"] == [], within_s=30)
    seen = len(unit.on("cameras/front/poses"))
    wait_for(lambda: len(unit.on("cameras/front/poses")) > seen, within_s=30)
    assert {message["session"] for message in unit.on("status")} == {session}
    assert machine.journal(ENGINE).count("ghost-n.onnx: built and checked") == 1  # here, and not by the daemon
