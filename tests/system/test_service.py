"""The shipped unit under a real systemd: what it is allowed, and how it comes and goes."""

import time

import pytest

from testing.system.service import CLIP, Service
from testing.waiting import in_time, wait_for

pytestmark = pytest.mark.xdist_group("service")  # one booted systemd


def test_it_finds_people_and_may_do_nothing_else(service: Service) -> None:
    service.started()
    assert service.show("ActiveState") == "active"
    wait_for(lambda: any(message["people"] for message in service.on("cameras/front/poses")), within_s=30)
    wait_for(lambda: "1 of 1 cameras streaming" in service.show("StatusText"), within_s=30, every_s=0.1)

    process = service.status_of_process()
    assert all(int(user) >= 61184 for user in process["Uid"].split())  # dynamic users begin there
    assert int(process["CapEff"], 16) == int(process["CapBnd"], 16) == 0
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")
    assert service.show("MemoryMax") == str(512 << 20)

    assert "Permission denied" in service.as_the_service("cat", "/etc/edgepose/config.yaml").stderr
    assert "Read-only file system" in service.as_the_service("touch", "/opt/edgepose/x").stderr
    assert service.as_the_service("cat", "/run/credentials/edgepose.service/config.yaml").stdout.startswith("device: drone")
    assert service.as_the_service("touch", "/var/lib/edgepose/mine").returncode == 0
    assert service.machine.shell("stat -Lc %a /var/lib/edgepose").strip() == "700"

    number = service.show("MainPID")
    seen = service.machine.shell(f"cat /proc/{number}/cmdline /proc/{number}/environ; systemctl status edgepose")
    assert Service.PASSWORD not in seen + service.journal()


def test_killed_it_comes_back_and_the_broker_tells(service: Service) -> None:
    session = service.started()
    service.machine.kill("edgepose", "KILL")
    service.online_as_new_session(session)
    assert service.states().index("offline") < len(service.states()) - 1
    assert service.show("NRestarts") == "1"
    assert "code=killed, status=9/KILL" in service.journal()


def test_stopped_it_says_goodbye_within_three_seconds(service: Service) -> None:
    session = service.started()
    began_s = time.monotonic()
    service.machine.run("systemctl", "stop", "edgepose")
    assert in_time(time.monotonic() - began_s, 3)
    last = wait_for(lambda: [message for message in service.on("status") if message["state"] == "stopped"])[-1]
    assert last["session"] == session
    assert (service.show("ActiveState"), service.show("Result"), service.show("ExecMainStatus")) == ("inactive", "success", "0")
    assert "stopping: received SIGTERM" in service.journal()


def test_a_wrong_configuration_is_told_and_not_tried_again(service: Service) -> None:
    service.configure(more="modle: {}")
    assert service.machine.run("systemctl", "start", "edgepose", check=False).returncode != 0
    wait_for(lambda: service.show("ActiveState") == "failed")
    time.sleep(2.5)  # longer than RestartSec: were it tried again, it would be by now
    assert (service.show("ActiveState"), service.show("ExecMainStatus"), service.show("NRestarts")) == ("failed", "78", "0")
    assert "unknown key modle; did you mean model?" in service.journal()
    assert "Traceback" not in service.journal()


def test_a_reload_takes_what_changed_and_refuses_what_is_wrong(service: Service) -> None:
    session = service.started()
    number = service.show("MainPID")
    front, back = (f"{name}: {{source: {CLIP}, loop: true, realtime: true}}" for name in ("front", "back"))
    service.configure(cameras=f"{{{front}, {back}}}")
    service.machine.run("systemctl", "reload", "edgepose")
    wait_for(lambda: service.on("cameras/back/poses"), within_s=30)

    service.configure(more="modle: {}")
    service.machine.run("systemctl", "reload", "edgepose")
    wait_for(lambda: "unknown key modle; did you mean model?" in service.journal())
    seen = len(service.on("cameras/back/poses"))
    wait_for(lambda: len(service.on("cameras/back/poses")) > seen, within_s=30)

    assert (service.show("MainPID"), service.show("ActiveState"), service.show("NRestarts")) == (number, "active", "0")
    assert {message["session"] for message in service.on("status") if message["state"] == "online"} >= {session}
    assert "Read-only file system" in service.as_the_service("touch", "/run/credentials/edgepose.service/x").stderr
