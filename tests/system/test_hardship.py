"""The shipped unit under a real systemd when things go wrong: it hangs, it is starved, its files cannot be written."""

import os
import time

import pytest

from testing.servers.mosquitto import Mosquitto
from testing.servers.rtsp import RtspServer
from testing.system.service import Service
from testing.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("hardship")]  # one booted systemd


def cpu_s(service: Service) -> float:
    """Processor time that the main process has had."""
    fields = service.machine.shell(f"cat /proc/{service.show('MainPID')}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_watchdog_ends_a_daemon_that_hangs(service: Service) -> None:
    service.drop_in("WatchdogSec=3")
    session = service.started()
    before = service.show("MainPID")
    service.machine.kill("edgepose", "STOP")
    service.online_as_new_session(session, within_s=40)
    assert service.show("MainPID") != before
    assert "Watchdog timeout (limit 3s)!" in service.journal()


def test_a_busy_daemon_feeds_the_watchdog(service: Service) -> None:
    service.drop_in("WatchdogSec=3")
    service.started()
    time.sleep(10)
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("active", "0")


def test_too_little_memory_ends_it_and_more_brings_it_back(service: Service) -> None:
    service.drop_in("MemoryMax=40M\nMemorySwapMax=0")
    service.machine.run("systemctl", "start", "edgepose", check=False)
    wait_for(lambda: int(service.show("NRestarts")) >= 2, within_s=60, every_s=0.2)
    assert service.on("cameras/front/poses") == []
    assert "code=killed, status=9/KILL" in service.journal()
    service.drop_in()
    service.machine.run("systemctl", "restart", "edgepose")
    wait_for(lambda: service.on("cameras/front/poses"), within_s=30)


def test_a_quarter_of_a_processor_drops_frames_and_nothing_else(service: Service) -> None:
    service.drop_in("CPUQuota=25%")
    service.started()
    began_s, began_cpu_s = time.monotonic(), cpu_s(service)
    seen = len(service.on("cameras/front/poses"))
    time.sleep(8)
    share = (cpu_s(service) - began_cpu_s) / (time.monotonic() - began_s)
    assert share < 0.35
    assert len(service.on("cameras/front/poses")) > seen
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("active", "0")


def test_every_other_failure_is_tried_again(service: Service) -> None:
    service.configure(more="files: {jsonl: /etc/people.jsonl}")
    service.machine.run("systemctl", "start", "edgepose", check=False)
    wait_for(lambda: service.journal().count("status=74/IOERR") >= 2, within_s=60, every_s=0.2)
    assert "/etc/people.jsonl" in service.journal()
    assert "Traceback" not in service.journal()


def test_a_camera_on_the_network(service: Service, tmp_path, broker: Mosquitto) -> None:
    with RtspServer(tmp_path) as camera:
        service.configure(cameras=f"{{front: {{source: '{camera.url(credentials='pilot:s3cret@')}'}}}}")
        service.started()
        camera.freeze()
        wait_for(lambda: [m for m in service.on("cameras/front/status") if m["state"] == "stalled"], within_s=20)
        camera.thaw()
        wait_for(lambda: service.on("cameras/front/status")[-1]["state"] == "streaming", within_s=30)
        assert service.show("NRestarts") == "0"
        assert "s3cret" not in service.journal()
